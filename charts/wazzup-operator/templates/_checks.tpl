{{- /* Contradictions between values, which the schema cannot express. Each message says what to set
instead. */ -}}
{{- define "wazzup-operator.checks" -}}
{{- if eq (toString .Values.enabled) "false" -}}
{{- fail "enabled=false does nothing by itself. In the parent chart's Chart.yaml, give this dependency a condition such as wazzup-operator.enabled." -}}
{{- end -}}
{{- $webhook := .Values.webhook -}}
{{- if and $webhook.enabled (eq $webhook.failurePolicy "Fail") (lt (int ($webhook.replicaCount | default 1)) 2) -}}
{{- fail (printf "webhook.failurePolicy is Fail with webhook.replicaCount=%d: nobody can change a channel while that Pod restarts. Set webhook.replicaCount to 2 or more, or webhook.failurePolicy=Ignore." (int $webhook.replicaCount)) -}}
{{- end -}}
{{- $ports := $webhook.ports -}}
{{- range list (list "https" "metrics") (list "https" "health") (list "metrics" "health") -}}
{{- $one := index . 0 -}}
{{- $other := index . 1 -}}
{{- if eq (int (index $ports $one)) (int (index $ports $other)) -}}
{{- fail (printf "webhook.ports.%s and webhook.ports.%s are both %d: give each its own number." $one $other (int (index $ports $one))) -}}
{{- end -}}
{{- end -}}
{{- if $webhook.hostNetwork -}}
{{- range $name, $port := $ports -}}
{{- if has (int $port) (list 10248 10249 10250 10256) -}}
{{- fail (printf "webhook.ports.%s is %d, which the kubelet or kube-proxy uses on every node: with webhook.hostNetwork, set another port." $name (int $port)) -}}
{{- end -}}
{{- end -}}
{{- if $.Values.networkPolicy.webhookFrom -}}
{{- fail "networkPolicy.webhookFrom does nothing with webhook.hostNetwork, because NetworkPolicies do not apply to a node's network. Limit access with the nodes' firewall, and leave networkPolicy.webhookFrom empty." -}}
{{- end -}}
{{- else if eq ($webhook.dnsPolicy | default "") "ClusterFirstWithHostNet" -}}
{{- fail "webhook.dnsPolicy=ClusterFirstWithHostNet does nothing without webhook.hostNetwork. Set webhook.hostNetwork=true, or leave webhook.dnsPolicy empty." -}}
{{- end -}}
{{- range $component := list "controller" "webhook" -}}
{{- range (index $.Values $component).extraEnv -}}
{{- if hasPrefix "WAZZUP_OPERATOR_" (.name | default "") -}}
{{- $flag := .name | trimPrefix "WAZZUP_OPERATOR_" | lower | replace "_" "-" -}}
{{- fail (printf "%s.extraEnv sets %s, which the chart's flags override. Use settings, or --%s in %s.extraArgs." $component .name $flag $component) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not (compact .Values.rbac.secretNames) -}}
{{- fail "rbac.secretNames is empty: the operator could read no API key. Set it to the names of the Secrets with API keys, or to [\"*\"] for all Secrets." -}}
{{- end -}}
{{- range .Values.rbac.secretNames -}}
{{- if not (or (eq . "*") (regexMatch "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" .)) -}}
{{- fail (printf "rbac.secretNames contains %q, which cannot be the name of a Secret. Write names in full, or set it to [\"*\"] for all Secrets." .) -}}
{{- end -}}
{{- end -}}
{{- range $labels := list "commonLabels" "podLabels" -}}
{{- range list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
{{- if hasKey (index $.Values $labels | default dict) . -}}
{{- fail (printf "%s must not set %s, which Services and Deployments use to select Pods. Remove it (nameOverride changes app.kubernetes.io/name)." $labels .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
