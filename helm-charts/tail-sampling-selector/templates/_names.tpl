{{/* What the settings say, wherever they stand, and what they name: ports, files. */}}

{{/* A setting of `config`, else the plain text of its variable in `env`; of one that comes from a Secret nothing is known. */}}
{{- define "tss.said" -}}
{{- $root := index . 0 -}}
{{- $section := get $root.Values.config (index . 1) | default dict -}}
{{- $text := get $section (index . 2) | default "" | toString -}}
{{- range $root.Values.env -}}
{{- if and (eq .name (index $ 3)) .value -}}{{- $text = .value -}}{{- end -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{- define "tss.brokers" -}}
{{- $brokers := .Values.config.kafka.brokers | default "" -}}
{{- kindIs "slice" $brokers | ternary (join "," $brokers) $brokers -}}
{{- end -}}

{{/* The ports that `config` names, by part of the NetworkPolicy, as JSON; `inside` are destinations in the cluster by their name. */}}
{{- define "tss.ports" -}}
{{- $config := .Values.config -}}
{{- $kafka := list -}}
{{- range splitList "," (include "tss.brokers" .) -}}
{{- with regexFind "[0-9]+$" (trim .) -}}{{- $kafka = append $kafka (int .) -}}{{- end -}}
{{- end -}}
{{- $redis := list -}}
{{- with ($config.redis | default dict).url -}}
{{- $hosts := regexReplaceAll "^[a-z]+://([^/]*@)?([^/?#]*).*$" . "${2}" -}}
{{- range splitList "," $hosts -}}
{{- $redis = append $redis (regexFind "[0-9]+$" (regexFind ":[0-9]+$" .) | default "6379" | int) -}}
{{- end -}}
{{- if $config.redis.sentinelMaster -}}{{- $redis = append $redis 6379 -}}{{- end -}}
{{- end -}}
{{- $outside := list -}}
{{- $inside := list -}}
{{- range regexFindAll "\"(endpoint|agentUrl|intakeUrl|apiEndpoint|otlpEndpoint)\":\"https?://[^\"/?#]+" (toJson (pick $config "datadog" "exporters" "spanMetrics")) -1 -}}
{{- $url := regexFind "https?://.*$" . | urlParse -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (eq $url.scheme "https" | ternary "443" "80") | int -}}
{{- if regexMatch "^([^.:]+|.*[.]svc([.].*)?|.*[.]local)(:[0-9]+)?$" $url.host -}}
{{- $inside = append $inside $port -}}
{{- else -}}
{{- $outside = append $outside $port -}}
{{- end -}}
{{- end -}}
{{- $datadog := $config.datadog | default dict -}}
{{- if or (not (or $inside $outside)) $datadog.apiKey (include "tss.mayHave" (list . "TSS_DATADOG_API_KEY")) (contains "\"type\":\"datadog\"" (toJson $config.exporters)) -}}
{{- $outside = append $outside 443 -}}
{{- end -}}
{{- dict "kafka" (uniq $kafka) "redis" (uniq $redis) "destinations" (uniq $outside) "inside" (uniq $inside) | toJson -}}
{{- end -}}

{{/* Whether something is mounted where that file is, or the image has it. */}}
{{- define "tss.mounted" -}}
{{- $file := index . 1 -}}
{{- $places := list "/etc/ssl/" "/etc/pki/" "/usr/" "/etc/tss/" -}}
{{- with index . 0 -}}
{{- if .Values.persistence.enabled -}}{{- $places = append $places "/var/lib/tss/" -}}{{- end -}}
{{- range .Values.secrets -}}{{- $places = append $places (printf "%s/" (.mountPath | default (printf "/etc/tss-secrets/%s" .name) | trimSuffix "/")) -}}{{- end -}}
{{- range .Values.extraVolumeMounts -}}{{- $places = concat $places (list .mountPath (printf "%s/" (trimSuffix "/" .mountPath))) -}}{{- end -}}
{{- end -}}
{{- range $places -}}{{- if or (eq . $file) (and (hasSuffix "/" .) (hasPrefix . $file)) -}}true{{- end -}}{{- end -}}
{{- end -}}
