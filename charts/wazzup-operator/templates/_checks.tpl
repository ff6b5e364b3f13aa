{{- /* Contradictions between values, which the schema cannot express. Each message says what to set
instead. */ -}}
{{- define "wazzup-operator.checks" -}}
{{- $webhook := .Values.webhook -}}
{{- if and $webhook.enabled (eq $webhook.failurePolicy "Fail") (lt (int ($webhook.replicaCount | default 1)) 2) -}}
{{- fail (printf "webhook.failurePolicy is Fail with webhook.replicaCount=%d: nobody can change a channel while that Pod restarts. Set webhook.replicaCount to 2 or more, or webhook.failurePolicy=Ignore." (int $webhook.replicaCount)) -}}
{{- end -}}
{{- if not (compact .Values.rbac.secretNames) -}}
{{- fail "rbac.secretNames is empty: the operator could read no API key. Set it to the names of the Secrets with API keys, or to [\"*\"] for all Secrets." -}}
{{- end -}}
{{- range list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
{{- if hasKey ($.Values.commonLabels | default dict) . -}}
{{- fail (printf "commonLabels must not set %s, which Services and Deployments use to select Pods. Remove it (nameOverride changes app.kubernetes.io/name)." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
