{{- /* Labels of every object that the chart adds to those of deploy/k8s. */ -}}
{{- define "sluice.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* The image of a service: (list . "gateway"). A digest takes the place of the tag. */ -}}
{{- define "sluice.image" -}}
{{- $root := index . 0 }}
{{- $service := index . 1 }}
{{- $image := (index $root.Values $service).image }}
{{- $suffix := ternary "-cuda" "" (and $root.Values.gpu.enabled (has $service (list "embedder" "generator"))) }}
{{- $tag := $image.tag | default (print $root.Chart.AppVersion $suffix) }}
{{- with $root.Values.imageRegistry }}{{ . }}/{{ end }}
{{- $image.repository }}{{ with $image.digest }}@{{ . }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{- /* An image that is not Sluice's: its values. */ -}}
{{- define "sluice.otherImage" -}}
{{ .repository }}{{ with .digest }}@{{ . }}{{ else }}:{{ $.tag }}{{ end }}
{{- end }}
