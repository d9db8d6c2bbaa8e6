{{- define "roadstead.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "roadstead.labels" -}}
app.kubernetes.io/part-of: roadstead
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* What tells the Pods of one component; call with its name. It never changes, because a selector cannot. */}}
{{- define "roadstead.selector" -}}
app.kubernetes.io/name: roadstead-{{ . }}
{{- end -}}
