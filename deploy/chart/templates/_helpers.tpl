{{- /* The release's name, with ours in it. */}}
{{- define "vrata.name" -}}
{{- if contains "vrata" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-vrata" (.Release.Name | trunc 34 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- /* Labels of a part: (dict "root" . "part" "provider") */}}
{{- define "vrata.selector" -}}
app.kubernetes.io/name: vrata
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}
{{- define "vrata.labels" -}}
{{ include "vrata.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "vrata.image" -}}
{{- with .Values.image }}
{{- if not .repository }}{{ fail "image.repository: empty; push the image of `make image` to a registry of yours and set image.repository to its name, and image.digest to its digest" }}{{ end }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* Name of the Secret with cloud.conf. */}}
{{- define "vrata.cloudSecret" -}}
{{- with .Values.provider.cloud }}
{{- if and .existingSecret .config }}{{ fail "provider.cloud: both existingSecret and config are set; leave one of them empty" }}{{ end }}
{{- if not (or .existingSecret .config) }}{{ fail "provider.cloud: no credentials; set provider.cloud.existingSecret to the name of a Secret with the key cloud.conf, or give the file: --set-file provider.cloud.config=cloud.conf" }}{{ end }}
{{- .existingSecret | default (printf "%s-cloud" (include "vrata.name" $)) }}
{{- end }}
{{- end }}

{{- /* What every pod has: (dict "root" . "part" … "values" …) */}}
{{- define "vrata.pod" -}}
serviceAccountName: {{ include "vrata.name" .root }}-{{ .part }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "vrata.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "vrata.selector" . | nindent 8 }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "vrata.selector" . | nindent 8 }}
{{- end }}

{{- /* Neither root, nor a capability, nor a file to write but in /tmp. */}}
{{- define "vrata.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "vrata.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* Everybody but pods: each family of which pods have networks, both if none is said. */}}
{{- define "vrata.outside" -}}
{{- $four := list }}{{- $six := list }}
{{- range .Values.ingress.podCidrs }}
{{- if contains ":" . }}{{ $six = append $six . }}{{ else }}{{ $four = append $four . }}{{ end }}
{{- end }}
{{- if or $four (not $six) }}
- ipBlock: {cidr: 0.0.0.0/0{{ with $four }}, except: {{ toJson . }}{{ end }}}
{{- end }}
{{- if or $six (not $four) }}
- ipBlock: {cidr: "::/0"{{ with $six }}, except: {{ toJson . }}{{ end }}}
{{- end }}
{{- end }}

{{- define "vrata.container" -}}
image: {{ include "vrata.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
{{- end }}

{{- define "vrata.disruption" -}}
{{- if and .values.podDisruptionBudget (gt (int .values.replicas) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "vrata.name" .root }}-{{ .part }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "vrata.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "vrata.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{- /* A Service of its own for metrics, so that the balancer's Service has none of these ports. */}}
{{- define "vrata.monitor" -}}
{{- if .values.serviceMonitor }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "vrata.name" .root }}-{{ .part }}-metrics
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "vrata.labels" . | nindent 4 }}
    vrata.dev/metrics: {{ .part }}
spec:
  clusterIP: None
  selector: {{- include "vrata.selector" . | nindent 4 }}
  ports:
    {{- range .ports }}
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .name }}}
    {{- end }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "vrata.name" .root }}-{{ .part }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "vrata.labels" . | nindent 4 }}
    {{- with .root.Values.monitoring.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels: {app.kubernetes.io/instance: {{ .root.Release.Name }}, vrata.dev/metrics: {{ .part }}}
  endpoints:
    {{- range .ports }}
    - {port: {{ .name }}, path: /metrics, honorLabels: true}
    {{- end }}
{{- end }}
{{- end }}

{{- /* ServiceAccount, and bindings of the Role and ClusterRole of the part's name. */}}
{{- define "vrata.account" -}}
{{- $name := printf "%s-%s" (include "vrata.name" .root) .part -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "vrata.labels" . | nindent 4 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels: {{- include "vrata.labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $name }}}
subjects:
  - {kind: ServiceAccount, name: {{ $name }}, namespace: {{ .root.Release.Namespace }}}
{{- if .role }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "vrata.labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }}}
subjects:
  - {kind: ServiceAccount, name: {{ $name }}, namespace: {{ .root.Release.Namespace }}}
{{- end }}
{{- end }}
