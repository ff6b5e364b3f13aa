{{- /* Takes the root and the section of the values. */ -}}
{{- define "wazzup-operator.monitorMetadata" -}}
{{- $root := index . 0 -}}
{{- $section := index . 1 -}}
name: {{ include "wazzup-operator.fullname" $root | quote }}
namespace: {{ $section.namespace | default $root.Release.Namespace | quote }}
labels:
  {{- merge (include "wazzup-operator.labels" (list $root "") | fromYaml) $section.labels | toYaml | nindent 2 }}
{{- with $section.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "wazzup-operator.monitorTargets" -}}
namespaceSelector:
  matchNames: [{{ .Release.Namespace | quote }}]
selector:
  matchLabels:
    {{- include "wazzup-operator.selectorLabels" (list . "") | nindent 4 }}
  # Not the simulator, which has no metrics.
  matchExpressions:
    - key: app.kubernetes.io/component
      operator: In
      values: [controller, webhook]
{{- end -}}

{{- define "wazzup-operator.endpoint" -}}
port: metrics
{{- with .interval }}
interval: {{ . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
honorLabels: {{ .honorLabels }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
