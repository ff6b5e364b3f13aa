{{- /* The prefix of all names: the release's name. 53 characters leave room for the longest suffix of
a Service. */ -}}
{{- define "wazzup-operator.fullname" -}}
{{- $name := .Values.fullnameOverride | default (list .Release.Name .Values.nameOverride | compact | join "-") -}}
{{- $name | replace "." "-" | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "wazzup-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* Takes the root and a component, or "" for objects of no component. These labels select Pods, and
a Deployment's selector is immutable: before nameOverride changes, delete the Deployments. */ -}}
{{- define "wazzup-operator.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "wazzup-operator.name" $root | quote }}
{{- /* Names are quoted, because a release may be called 123 or on. */}}
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
{{- merge $own $version ($root.Values.commonLabels | default dict) | toYaml -}}
{{- end -}}

{{- define "wazzup-operator.serviceAccountName" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $account := (index $root.Values $component).serviceAccount -}}
{{- if and (not $account.create) (not $account.name) -}}
{{- fail (printf "%s.serviceAccount.create is false: set %s.serviceAccount.name to an existing service account." $component $component) -}}
{{- end -}}
{{- $account.name | default (printf "%s-%s" (include "wazzup-operator.fullname" $root) $component) -}}
{{- end -}}

{{- define "wazzup-operator.image" -}}
{{- with .Values.image -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- with .digest }}@{{ . }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* The name of the webhook's Service and cert-manager Certificate. */ -}}
{{- define "wazzup-operator.webhookName" -}}
{{- include "wazzup-operator.fullname" . }}-webhook
{{- end -}}

{{- /* "true" if the controller issues the webhook's certificate, else empty. */ -}}
{{- define "wazzup-operator.issuesCertificate" -}}
{{- if and .Values.webhook.enabled (eq .Values.webhook.certificate.source "controller") -}}true{{- end -}}
{{- end -}}

{{- /* The name of the Secret with the webhook's certificate. The chart's own has another name than that
of cert-manager or the user, whose type differs and cannot change. */ -}}
{{- define "wazzup-operator.certificateSecret" -}}
{{- include "wazzup-operator.webhookName" . }}
{{- if include "wazzup-operator.issuesCertificate" . }}-certificate{{ end -}}
{{- end -}}

{{- /* The flags of settings. Takes the root and the settings' names; null omits the flag. */ -}}
{{- define "wazzup-operator.settings" -}}
{{- $settings := (index . 0).Values.settings -}}
{{- range rest . -}}
{{- $value := index $settings . -}}
{{- if not (kindIs "invalid" $value) }}
- --{{ kebabcase . }}={{ kindIs "string" $value | ternary $value (int $value) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Scheduling and security context of Pods. Takes the root. */ -}}
{{- define "wazzup-operator.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* The Deployment of a process. Takes the root, the component (a key of the values), its arguments
(text), env, mounts and volumes (lists), and ports (name to number, "metrics" and "health" included). */ -}}
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
spec:
  {{- if not (kindIs "invalid" $values.replicaCount) }}
  replicas: {{ $values.replicaCount }}
  {{- end }}
  {{- if $values.hostNetwork }}
  # Two Pods on one node would need the same ports.
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
        {{- merge (include "wazzup-operator.selectorLabels" $labels | fromYaml) ($root.Values.podLabels | default dict) ($root.Values.commonLabels | default dict) | toYaml | nindent 8 }}
      annotations:
        {{- merge (dict) ($root.Values.podAnnotations | default dict) (dict "kubectl.kubernetes.io/default-container" .component) | toYaml | nindent 8 }}
    spec:
      serviceAccountName: {{ include "wazzup-operator.serviceAccountName" $labels | quote }}
      # Otherwise the Service wazzup-operator-webhook sets WAZZUP_OPERATOR_WEBHOOK_PORT and others,
      # which look like the operator's settings.
      enableServiceLinks: false
      {{- if $values.hostNetwork }}
      hostNetwork: true
      {{- end }}
      {{- with $values.dnsPolicy | default (and $values.hostNetwork "ClusterFirstWithHostNet") }}
      dnsPolicy: {{ . }}
      {{- end }}
      # Time to finish writes and give up the Lease, or to answer the last reviews.
      terminationGracePeriodSeconds: 30
      {{- include "wazzup-operator.placement" $root | trim | nindent 6 }}
      {{- with $root.Values.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- $selector := dict "matchLabels" (include "wazzup-operator.selectorLabels" $labels | fromYaml) }}
        {{- range . }}
        - {{- hasKey . "labelSelector" | ternary . (set (merge (dict) .) "labelSelector" $selector) | toYaml | nindent 10 }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "wazzup-operator.image" $root | quote }}
          {{- with $root.Values.image.pullPolicy }}
          imagePullPolicy: {{ . }}
          {{- end }}
          args:
            - {{ .component }}
            {{- .arguments | trim | nindent 12 }}
            - --metrics-address=:{{ .ports.metrics }}
            - --health-address=:{{ .ports.health }}
            {{- with $values.extraArgs }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with concat .env ($values.extraEnv | default list) }}
          env:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            {{- range $name, $number := .ports }}
            - name: {{ $name }}
              containerPort: {{ $number }}
            {{- end }}
          # Allows a minute to start.
          startupProbe:
            httpGet:
              path: /healthz
              port: health
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 30
          livenessProbe:
            httpGet:
              path: /healthz
              port: health
            periodSeconds: 20
            timeoutSeconds: 5
          readinessProbe:
            httpGet:
              path: /readyz
              port: health
            periodSeconds: 5
            timeoutSeconds: 5
          {{- with $values.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with $root.Values.securityContext }}
          securityContext:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with concat .mounts ($values.extraVolumeMounts | default list) }}
          volumeMounts:
            {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with concat .volumes ($values.extraVolumes | default list) }}
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
  maxUnavailable: {{ $budget.maxUnavailable | default 1 }}
  # Pods that are not ready do not block a drain.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "wazzup-operator.selectorLabels" . | nindent 6 }}
{{- end -}}

{{- /* Binds a role to a component's service account. Takes the root, the component, the role's kind and
name and, for a Role, its namespace. */ -}}
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
