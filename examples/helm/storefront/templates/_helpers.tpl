{{- define "storefront.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "storefront.databaseHost" -}}
{{- if .Values.database.enabled -}}
{{ .Release.Name }}-database
{{- else -}}
{{ required "database.host is needed where database.enabled is false" .Values.database.host }}
{{- end -}}
{{- end -}}
