{{/* What the schema cannot say: rules across values. All faults at once, each with what to do. */}}
{{- define "tss.validate" -}}
{{- $faults := list -}}
{{- $config := .Values.config -}}
{{- if not (or $config.kafka.brokers (include "tss.mayHave" (list . "TSS_KAFKA_BROKERS"))) -}}
{{- $faults = append $faults "config.kafka.brokers is missing: --set config.kafka.brokers=kafka:9092" -}}
{{- end -}}
{{- $datadog := $config.datadog | default dict -}}
{{- if not (or $config.exporters $datadog.apiKey $datadog.agentUrl (include "tss.mayHave" (list . "TSS_DATADOG_API_KEY")) (include "tss.mayHave" (list . "TSS_DATADOG_AGENT_URL")) (include "tss.mayHave" (list . "TSS_EXPORTERS"))) -}}
{{- $faults = append $faults "no destination: set config.datadog.apiKey (or TSS_DATADOG_API_KEY in env, from a Secret), config.datadog.agentUrl, or config.exporters" -}}
{{- end -}}
{{- if and .Values.keda.enabled .Values.autoscaling.enabled -}}
{{- $faults = append $faults "keda.enabled and autoscaling.enabled: both would own the number of replicas; choose one (KEDA looks at the lag)" -}}
{{- end -}}
{{- if le (int (include "tss.graceSecs" .)) (int (ceil $config.app.shutdownTimeoutSecs)) -}}
{{- $faults = append $faults (printf "terminationGracePeriodSeconds is %s: make it more than config.app.shutdownTimeoutSecs, which is %v, or leave it out" (include "tss.graceSecs" .) $config.app.shutdownTimeoutSecs) -}}
{{- end -}}
{{- if .Values.keda.enabled -}}
{{- $keda := .Values.keda -}}
{{- if eq $keda.kafka.consumerGroup $config.kafka.consumerGroup -}}
{{- $faults = append $faults "keda.kafka.consumerGroup is config.kafka.consumerGroup: KEDA would take the traces that wait for their spans for a backlog; name another group, the daemon commits its read positions under it" -}}
{{- end -}}
{{- if and $config.kafka.scalerGroup (ne $config.kafka.scalerGroup $keda.kafka.consumerGroup) -}}
{{- $faults = append $faults "config.kafka.scalerGroup and keda.kafka.consumerGroup differ: leave the first out, the chart sets it" -}}
{{- end -}}
{{- if eq ($config.kafka.enableAutoCommit | toString) "false" -}}
{{- $faults = append $faults "config.kafka.enableAutoCommit is false: nothing is committed, so KEDA has no lag to look at; leave keda.enabled false in a rehearsal" -}}
{{- end -}}
{{- if gt (int $keda.minReplicaCount) (int $keda.maxReplicaCount) -}}
{{- $faults = append $faults "keda.minReplicaCount is more than keda.maxReplicaCount" -}}
{{- end -}}
{{- if and $keda.kafka.partitions (gt (int $keda.maxReplicaCount) (int $keda.kafka.partitions)) -}}
{{- $faults = append $faults (printf "keda.maxReplicaCount is %v, keda.kafka.partitions %v: a replica without a partition has nothing to do; lower the first, or add partitions" $keda.maxReplicaCount $keda.kafka.partitions) -}}
{{- end -}}
{{- if not (or $keda.kafka.brokers $config.kafka.brokers) -}}
{{- $faults = append $faults "keda.kafka.brokers is missing: KEDA cannot read TSS_KAFKA_BROKERS" -}}
{{- end -}}
{{- if and $keda.authentication.existing $keda.authentication.secretTargetRef -}}
{{- $faults = append $faults "keda.authentication: either existing or secretTargetRef" -}}
{{- end -}}
{{- $sasl := include "tss.kedaSasl" . -}}
{{- if and (ne $sasl "none") (not (or $keda.authentication.existing $keda.authentication.secretTargetRef)) -}}
{{- $faults = append $faults (printf "KEDA needs credentials of its own for SASL %s: set keda.authentication.secretTargetRef (parameters username and password), or keda.authentication.existing" $sasl) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- $faults = append $faults "autoscaling.minReplicas is more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if eq .Values.kind "Deployment" -}}
{{- if $config.kafka.staticMembership -}}
{{- $faults = append $faults "config.kafka.staticMembership needs names that stay: kind: StatefulSet" -}}
{{- end -}}
{{- if .Values.persistence.enabled -}}
{{- $faults = append $faults "persistence.enabled needs a volume a pod: kind: StatefulSet" -}}
{{- end -}}
{{- end -}}
{{- $scaled := include "tss.scaled" . -}}
{{- $many := or $scaled (gt (int .Values.replicaCount) 1) -}}
{{- if and $many ($config.app.instanceId) -}}
{{- $faults = append $faults "config.app.instanceId would be the same in all replicas: leave it empty, it is the pod's name then" -}}
{{- end -}}
{{- if and .Values.externalSecret.enabled (not (and .Values.externalSecret.secretStoreRef .Values.externalSecret.data)) -}}
{{- $faults = append $faults "externalSecret.enabled needs externalSecret.secretStoreRef and externalSecret.data" -}}
{{- end -}}
{{- if and (or .Values.serviceMonitor.enabled) (not $config.observability.enablePrometheus) -}}
{{- $faults = append $faults "serviceMonitor.enabled, and config.observability.enablePrometheus is false: there is nothing to scrape" -}}
{{- end -}}
{{- range .Values.secrets -}}
{{- if has .name (list "config" "data") -}}
{{- $faults = append $faults (printf "secrets: the name %s is the chart's own; choose another" .name) -}}
{{- end -}}
{{- end -}}
{{- if $faults -}}
{{- $hint := and .Release.IsUpgrade (not $config.kafka.brokers) | ternary "\nhelm upgrade forgets the values of before as soon as one is given: add --reuse-values, or your --values.\n" "" -}}
{{- fail (printf "\n\n%d wrong in the values:\n  - %s\n%s" (len $faults) (join "\n  - " $faults) $hint) -}}
{{- end -}}
{{- end -}}

{{/* SASL and TLS in KEDA's words. */}}
{{- define "tss.kedaSasl" -}}
{{- $kafka := .Values.config.kafka -}}
{{- if .Values.keda.kafka.sasl -}}
{{- .Values.keda.kafka.sasl -}}
{{- else if or $kafka.saslUsername (hasPrefix "sasl_" (lower ($kafka.securityProtocol | default ""))) (include "tss.named" (list . "TSS_KAFKA_SASL_USERNAME")) -}}
{{- get (dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512") (upper ($kafka.saslMechanism | default "PLAIN")) -}}
{{- else -}}none{{- end -}}
{{- end -}}

{{- define "tss.kedaTls" -}}
{{- $kafka := .Values.config.kafka -}}
{{- $protocol := lower ($kafka.securityProtocol | default "") -}}
{{- if .Values.keda.kafka.tls -}}
{{- .Values.keda.kafka.tls -}}
{{- else if $protocol -}}
{{- hasSuffix "ssl" $protocol | ternary "enable" "disable" -}}
{{- else if or $kafka.sslCaLocation $kafka.sslCertificateLocation (ne (include "tss.kedaSasl" .) "none") -}}
enable
{{- else -}}
disable
{{- end -}}
{{- end -}}

{{/* Whether `env` has this variable. */}}
{{- define "tss.named" -}}
{{- $name := index . 1 -}}
{{- range (index . 0).Values.env -}}{{- if eq .name $name }}true{{ end -}}{{- end -}}
{{- end -}}
