{{- /* Values that contradict each other, which the schema cannot say. Each check fails with a sentence
that says what to set instead. */ -}}
{{- define "wazzup-operator.checks" -}}
{{- $webhook := .Values.webhook -}}
{{- if and $webhook.enabled (eq $webhook.failurePolicy "Fail") (lt (int ($webhook.replicaCount | default 1)) 2) -}}
{{- fail (printf "webhook.failurePolicy is Fail with webhook.replicaCount=%d: whenever that Pod moves, nobody could change a channel. Set webhook.replicaCount to 2 or more, or webhook.failurePolicy=Ignore." (int $webhook.replicaCount)) -}}
{{- end -}}
{{- range list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
{{- if hasKey ($.Values.commonLabels | default dict) . -}}
{{- fail (printf "commonLabels has %s, by which Services and Deployments find their Pods: leave it out (nameOverride changes app.kubernetes.io/name)." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
