{{- /* The name of everything: the release's, which "helm install" asks for anyway. 53 characters
leave room for the longest suffix of a Service. */ -}}
{{- define "wazzup-operator.fullname" -}}
{{- $name := .Values.fullnameOverride | default (list .Release.Name .Values.nameOverride | compact | join "-") -}}
{{- $name | replace "." "-" | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "wazzup-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* Takes the root and a component, or "" for what belongs to none. These labels select Pods:
a Deployment whose labels change (nameOverride) has to be deleted first. */ -}}
{{- define "wazzup-operator.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "wazzup-operator.name" $root | quote }}
{{- /* Quoted here and wherever a name stands alone: one may be called 123, or on. */}}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "wazzup-operator.labels" -}}
{{- $root := index . 0 -}}
{{- $own := include "wazzup-operator.selectorLabels" . | fromYaml -}}
{{- $version := dict
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63)
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- merge $own $version $root.Values.commonLabels | toYaml -}}
{{- end -}}

{{- define "wazzup-operator.serviceAccountName" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $account := (index $root.Values $component).serviceAccount -}}
{{- if and (not $account.create) (not $account.name) -}}
{{- fail (printf "%s.serviceAccount.create is false: name an existing one in %s.serviceAccount.name." $component $component) -}}
{{- end -}}
{{- $account.name | default (printf "%s-%s" (include "wazzup-operator.fullname" $root) $component) -}}
{{- end -}}

{{- define "wazzup-operator.image" -}}
{{- with .Values.image -}}
{{- list .registry .repository | compact | join "/" }}:{{ .tag | default $.Chart.AppVersion }}
{{- with .digest }}@{{ . }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* The port of an address such as :8080 or 127.0.0.1:8080. */ -}}
{{- define "wazzup-operator.port" -}}
{{- regexFind "[0-9]+$" . -}}
{{- end -}}

{{- define "wazzup-operator.webhookSecret" -}}
{{- .Values.settings.webhookSecret | default (printf "%s-webhook" (include "wazzup-operator.fullname" .)) -}}
{{- end -}}

{{- define "wazzup-operator.webhookService" -}}
{{- .Values.settings.webhookService | default (printf "%s-webhook" (include "wazzup-operator.fullname" .)) -}}
{{- end -}}

{{- define "wazzup-operator.webhookConfiguration" -}}
{{- .Values.settings.webhookConfiguration | default (include "wazzup-operator.fullname" .) -}}
{{- end -}}

{{- define "wazzup-operator.leaseNamespace" -}}
{{- .Values.settings.leaderElectResourceNamespace | default .Release.Namespace -}}
{{- end -}}

{{- define "wazzup-operator.leaseName" -}}
{{- .Values.settings.leaderElectResourceName | default (include "wazzup-operator.fullname" .) -}}
{{- end -}}

{{- define "wazzup-operator.certificate" -}}
{{- include "wazzup-operator.fullname" . }}-webhook
{{- end -}}

{{- /* Whether the controller keeps the webhook's certificate: "true" or nothing. */ -}}
{{- define "wazzup-operator.keeps" -}}
{{- if and .Values.webhook.enabled .Values.webhook.keeper.enabled -}}true{{- end -}}
{{- end -}}

{{- define "wazzup-operator.wazzupUrl" -}}
{{- if .Values.simulator.enabled -}}
http://{{ include "wazzup-operator.fullname" . }}-simulator.{{ .Release.Namespace }}.svc:{{ .Values.simulator.port }}
{{- else -}}
{{ .Values.settings.wazzupUrl }}
{{- end -}}
{{- end -}}

{{- /* Flags that both processes have. Each is given, so that the manifest tells what holds. */ -}}
{{- define "wazzup-operator.commonFlags" -}}
{{- with .Values.settings -}}
- --min-poll-interval={{ .minPollInterval }}
- --metrics-address={{ .metricsAddress }}
- --health-address={{ .healthAddress }}
- --log-format={{ .logFormat }}
- --log-level={{ .logLevel }}
{{- end -}}
{{- end -}}

{{- /* The Deployment of a process. Takes the root, the component (a key of the values), its
arguments (text), variables, mounts and volumes (lists), ports (name to number). */ -}}
{{- define "wazzup-operator.deployment" -}}
{{- $root := .root -}}
{{- $values := index $root.Values .component -}}
{{- $labels := list $root .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "wazzup-operator.fullname" $root }}-{{ .component }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels:
    {{- include "wazzup-operator.labels" $labels | nindent 4 }}
  {{- with $values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  replicas: {{ $values.replicaCount }}
  revisionHistoryLimit: {{ $values.revisionHistoryLimit }}
  {{- if $values.strategy }}
  strategy:
    {{- toYaml $values.strategy | nindent 4 }}
  {{- else if and (eq .component "controller") (not $root.Values.settings.leaderElect) }}
  # Without an election, a new one must not run beside the old one. Recreate would say so too, but
  # cannot be applied over what Kubernetes has put there for other values.
  strategy:
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  {{- end }}
  selector:
    matchLabels:
      {{- include "wazzup-operator.selectorLabels" $labels | nindent 6 }}
  template:
    metadata:
      labels:
        {{- merge (include "wazzup-operator.selectorLabels" $labels | fromYaml) $values.podLabels $root.Values.commonLabels | toYaml | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .component }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "wazzup-operator.serviceAccountName" $labels | quote }}
      automountServiceAccountToken: {{ $values.serviceAccount.automount }}
      # A Service called wazzup-operator-webhook would otherwise set WAZZUP_OPERATOR_WEBHOOK_PORT and
      # others, which begin as the operator's own settings do.
      enableServiceLinks: false
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml $values.podSecurityContext | nindent 8 }}
      terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . | quote }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- $selector := dict "matchLabels" (include "wazzup-operator.selectorLabels" $labels | fromYaml) }}
        {{- range . }}
        - {{- hasKey . "labelSelector" | ternary . (set (merge (dict) .) "labelSelector" $selector) | toYaml | nindent 10 }}
        {{- end }}
      {{- end }}
      {{- with $values.dnsPolicy }}
      dnsPolicy: {{ . }}
      {{- end }}
      {{- with $values.dnsConfig }}
      dnsConfig:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "wazzup-operator.image" $root | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args:
            - {{ .component }}
            {{- .arguments | nindent 12 }}
            {{- include "wazzup-operator.commonFlags" $root | nindent 12 }}
            {{- with $values.extraArgs }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with concat .env $values.extraEnv }}
          env:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with $values.extraEnvFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            {{- range $name, $number := .ports }}
            - name: {{ $name }}
              containerPort: {{ $number }}
            {{- end }}
          {{- range $probe, $path := dict "startupProbe" "/healthz" "livenessProbe" "/healthz" "readinessProbe" "/readyz" }}
          {{- with index $values $probe }}
          {{ $probe }}:
            httpGet:
              path: {{ $path }}
              port: health
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- end }}
          {{- with $values.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          securityContext:
            {{- toYaml $values.securityContext | nindent 12 }}
          {{- with concat .mounts $values.extraVolumeMounts }}
          volumeMounts:
            {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with concat .volumes $values.extraVolumes }}
      volumes:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}

{{- /* Takes the root and the component. */ -}}
{{- define "wazzup-operator.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- $account := (index $root.Values (index . 1)).serviceAccount -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "wazzup-operator.serviceAccountName" . | quote }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels:
    {{- include "wazzup-operator.labels" . | nindent 4 }}
  {{- with $account.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: {{ $account.automount }}
{{- end -}}

{{- /* Takes the root and the component. */ -}}
{{- define "wazzup-operator.podDisruptionBudget" -}}
{{- $root := index . 0 -}}
{{- $budget := (index $root.Values (index . 1)).podDisruptionBudget -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "wazzup-operator.fullname" $root }}-{{ index . 1 }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels:
    {{- include "wazzup-operator.labels" . | nindent 4 }}
spec:
  {{- /* 0 is a number like any other: what is not given is null. */}}
  {{- if not (kindIs "invalid" $budget.minAvailable) }}
  minAvailable: {{ $budget.minAvailable }}
  {{- else if not (kindIs "invalid" $budget.maxUnavailable) }}
  maxUnavailable: {{ $budget.maxUnavailable }}
  {{- else }}
  maxUnavailable: 1
  {{- end }}
  # A Pod that is not ready serves nobody, and must not hold up a drain.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "wazzup-operator.selectorLabels" . | nindent 6 }}
{{- end -}}

{{- /* Binds a role to a component's service account. Takes the root, the component, the kind of the
role, its name and, for a Role, its namespace. */ -}}
{{- define "wazzup-operator.binding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}Binding
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  labels:
    {{- include "wazzup-operator.labels" (list .root .component) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "wazzup-operator.serviceAccountName" (list .root .component) | quote }}
    namespace: {{ .root.Release.Namespace | quote }}
{{- end -}}
