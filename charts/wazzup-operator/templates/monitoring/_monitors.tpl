{{- /* Takes the root and the section of the values. */ -}}
{{- define "wazzup-operator.monitorMetadata" -}}
{{- $root := index . 0 -}}
{{- $section := index . 1 -}}
name: {{ include "wazzup-operator.fullname" $root | quote }}
namespace: {{ $section.namespace | default $root.Release.Namespace | quote }}
labels:
  {{- merge (include "wazzup-operator.labels" (list $root "") | fromYaml) ($section.labels | default dict) | toYaml | nindent 2 }}
{{- end -}}
