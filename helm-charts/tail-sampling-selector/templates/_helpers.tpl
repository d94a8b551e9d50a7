{{- define "tss.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tss.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "tss.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tss.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* By these the workload and the services find the pods; they can never change. */}}
{{- define "tss.selector" -}}
app: {{ include "tss.name" . }}
app.kubernetes.io/name: {{ include "tss.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tss.labels" -}}
{{ include "tss.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tss.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default (printf "v%s" .Chart.AppVersion)) -}}
{{- end -}}
{{- end -}}

{{- define "tss.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tss.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Whether something else than replicaCount owns the number of replicas. */}}
{{- define "tss.scaled" -}}
{{- if or .Values.keda.enabled .Values.autoscaling.enabled }}true{{ end -}}
{{- end -}}

{{/*
Under a scaler the number is left out, so that no upgrade sets it. But what a release had and has no more, Helm takes away,
and Kubernetes makes one replica of that: where a running release is put under a scaler, the number of now stays in it.
*/}}
{{- define "tss.replicas" -}}
{{- if not (include "tss.scaled" .) -}}
{{- int .Values.replicaCount -}}
{{- else if .Release.IsUpgrade -}}
{{- with lookup "apps/v1" .Values.kind .Release.Namespace (include "tss.fullname" .) -}}
{{- if ne (dig "metadata" "annotations" "tail-sampling-selector/replicas" "" .) "scaler" -}}
{{- int .spec.replicas -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tss.graceSecs" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds | or (eq (toString .Values.terminationGracePeriodSeconds) "") -}}
{{- add (ceil .Values.config.app.shutdownTimeoutSecs) 15 -}}
{{- else -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/*
The settings, in two parts: `public` for the ConfigMap, and `secret`, a mapping of variables. files/secrets.json is made
from the daemon's settings classes and tells which keys are secrets, and by which variable each goes.
*/}}
{{- define "tss.settings" -}}
{{- $public := deepCopy .Values.config -}}
{{- $secret := dict -}}
{{- if .Values.keda.enabled -}}
{{- $_ := set $public.kafka "scalerGroup" .Values.keda.kafka.consumerGroup -}}
{{- end -}}
{{- range $path, $known := .Files.Get "files/secrets.json" | fromJson -}}
{{- $parts := splitList "." $path -}}
{{- $section := $public -}}
{{- range initial $parts -}}
{{- $section = get $section . | default dict -}}
{{- end -}}
{{- $value := get $section (last $parts) -}}
{{- if $value -}}
{{- if or (not $known.when) (regexMatch $known.when (toJson $value)) -}}
{{- $_ := set $secret $known.variable (kindIs "string" $value | ternary $value (toJson $value)) -}}
{{- $_ := unset $section (last $parts) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- dict "public" $public "secret" $secret | toJson -}}
{{- end -}}

{{/*
The settings that only a restart changes, as JSON: all but the policies and the log level. The daemon takes these up from the
ConfigMap, which Kubernetes brings into the running pods. Of `sampling` a few keys are no policies: those that the daemon
refuses to change while it runs.
*/}}
{{- define "tss.restarting" -}}
{{- $sampling := .sampling | default dict -}}
{{- $fixed := pick $sampling "weights" "annotate" -}}
{{- with $sampling.otelTailSampling -}}
{{- $_ := set $fixed "otelTailSampling" (pick . "decision_wait" "decision_wait_after_root_received" "maximum_trace_size_bytes") -}}
{{- end -}}
{{- $rest := omit . "sampling" "observability" -}}
{{- $_ := set $rest "sampling" $fixed -}}
{{- $_ := set $rest "observability" (omit (.observability | default dict) "logLevel") -}}
{{- toJson $rest -}}
{{- end -}}

{{/* Whether a variable is given to the container by name, or may be by a Secret that the chart cannot look into. */}}
{{- define "tss.mayHave" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- range $root.Values.env -}}{{- if has .name (list $name (printf "%s_FILE" $name)) }}true{{ end -}}{{- end -}}
{{- if or $root.Values.envFrom $root.Values.existingSecret }}true{{ end -}}
{{- if $root.Values.externalSecret.enabled -}}
{{- range $root.Values.externalSecret.data -}}{{- if has .secretKey (list $name (printf "%s_FILE" $name)) }}true{{ end -}}{{- end -}}
{{- end -}}
{{- end -}}

{{/* The port of the admin pages where others than the pod itself may reach it; else nothing. */}}
{{- define "tss.adminPort" -}}
{{- $force := .Values.config.forceSampling | default dict -}}
{{- $addr := $force.adminAddr | default "127.0.0.1" -}}
{{- if and $force.adminPort (not (or (hasPrefix "127." $addr) (eq $addr "::1") (eq $addr "localhost"))) -}}
{{- int $force.adminPort -}}
{{- end -}}
{{- end -}}
