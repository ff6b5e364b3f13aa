{{- /* What the schema cannot say: values that contradict each other. Each ends with a sentence that
says what to write instead. */ -}}
{{- define "wazzup-operator.checks" -}}
{{- $values := .Values -}}
{{- range $component := list "controller" "webhook" -}}
{{- $budget := (index $values $component).podDisruptionBudget -}}
{{- if and (not (kindIs "invalid" $budget.minAvailable)) (not (kindIs "invalid" $budget.maxUnavailable)) -}}
{{- fail (printf "%s.podDisruptionBudget has minAvailable and maxUnavailable, and Kubernetes takes one of them only: leave the other out." $component) -}}
{{- end -}}
{{- end -}}
{{- if and (not $values.settings.leaderElect) (gt (int $values.controller.replicaCount) 1) -}}
{{- fail (printf "settings.leaderElect is false, and %d controllers would write the same statuses: set controller.replicaCount=1, or leave settings.leaderElect on." (int $values.controller.replicaCount)) -}}
{{- end -}}
{{- if $values.webhook.enabled -}}
{{- if and (eq $values.webhook.failurePolicy "Fail") (lt (int $values.webhook.replicaCount) 2) -}}
{{- fail (printf "webhook.failurePolicy is Fail with webhook.replicaCount=%d: whenever that Pod moves, nobody could change a channel. Set webhook.replicaCount to 2 or more, or webhook.failurePolicy=Ignore." (int $values.webhook.replicaCount)) -}}
{{- end -}}
{{- if and $values.webhook.keeper.enabled $values.webhook.certManager.enabled -}}
{{- fail "webhook.certManager.enabled and webhook.keeper.enabled are both true, and two would write one certificate and one caBundle: set webhook.keeper.enabled=false to leave them to cert-manager." -}}
{{- end -}}
{{- else if $values.webhook.certManager.enabled -}}
{{- fail "webhook.certManager.enabled is true with webhook.enabled=false: there is no webhook that needs a certificate." -}}
{{- end -}}
{{- if and (not $values.settings.leaderElect) $values.controller.strategy (ne (dig "type" "" $values.controller.strategy) "Recreate") (ne (dig "rollingUpdate" "maxSurge" "" $values.controller.strategy | toString) "0") -}}
{{- fail "settings.leaderElect is false, and controller.strategy would let an old and a new controller run side by side: leave it out, or set controller.strategy.rollingUpdate.maxSurge=0." -}}
{{- end -}}
{{- if $values.webhook.enabled -}}
{{- range $name := list "metricsAddress" "healthAddress" -}}
{{- if eq (include "wazzup-operator.port" (index $values.settings $name)) (include "wazzup-operator.port" $values.settings.webhookAddress) -}}
{{- fail (printf "settings.%s and settings.webhookAddress both have the port %s: give one of them another." $name (include "wazzup-operator.port" $values.settings.webhookAddress)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq (include "wazzup-operator.port" $values.settings.metricsAddress) (include "wazzup-operator.port" $values.settings.healthAddress) -}}
{{- fail (printf "settings.metricsAddress and settings.healthAddress both have the port %s: give one of them another." (include "wazzup-operator.port" $values.settings.metricsAddress)) -}}
{{- end -}}
{{- if and $values.serviceMonitor.enabled $values.podMonitor.enabled -}}
{{- fail "serviceMonitor.enabled and podMonitor.enabled are both true, and everything would be scraped and counted twice: leave one of them off." -}}
{{- end -}}
{{- if and $values.simulator.enabled (ne $values.settings.wazzupUrl "https://api.wazzup24.com") -}}
{{- fail "simulator.enabled is true and settings.wazzupUrl names another Wazzup: leave one of them out." -}}
{{- end -}}
{{- with $values.commonLabels -}}
{{- range list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
{{- if hasKey $values.commonLabels . -}}
{{- fail (printf "commonLabels has %s, by which Services and Deployments find their Pods: leave it out (nameOverride changes app.kubernetes.io/name)." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
