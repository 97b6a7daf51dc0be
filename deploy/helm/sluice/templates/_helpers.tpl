{{- /* Labels of every object that the chart adds to those of deploy/k8s. */ -}}
{{- define "sluice.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* The image of a service: (list . "gateway"), or of its canary: (list . "embedder" "canary"). A digest takes the
place of the tag. A canary without an image of its own has that of its stage. */ -}}
{{- define "sluice.image" -}}
{{- $root := index . 0 }}
{{- $service := index . 1 }}
{{- $image := (index $root.Values $service).image }}
{{- if eq (len .) 3 }}
{{- $own := (index $root.Values.canary $service).image }}
{{- if or $own.tag $own.digest $own.repository }}
{{- $image = merge (dict "repository" ($own.repository | default $image.repository)) $own }}
{{- end }}
{{- end }}
{{- $gpu := ternary $root.Values.gpu.predictor.enabled $root.Values.gpu.enabled (eq $service "predictor") }}
{{- $suffix := ternary "-cuda" "" (and $gpu (has $service (list "embedder" "generator" "predictor"))) }}
{{- $tag := $image.tag | default (print $root.Chart.AppVersion $suffix) }}
{{- with $root.Values.imageRegistry }}{{ . }}/{{ end }}
{{- $image.repository }}{{ with $image.digest }}@{{ . }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{- /* An image that is not Sluice's: its values. */ -}}
{{- define "sluice.otherImage" -}}
{{ .repository }}{{ with .digest }}@{{ . }}{{ else }}:{{ $.tag }}{{ end }}
{{- end }}
