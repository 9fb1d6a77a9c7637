{{- define "impact-mirror.labels" -}}
app.kubernetes.io/name: impact-mirror
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
