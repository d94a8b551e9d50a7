{{/* What the schema cannot say: rules across values. All faults at once, each with what to do. */}}
{{- define "tss.validate" -}}
{{- $faults := list -}}
{{- $config := .Values.config -}}
{{- if not (or $config.kafka.brokers (include "tss.mayHave" (list . "TSS_KAFKA_BROKERS"))) -}}
{{- $faults = append $faults "config.kafka.brokers is missing: --set config.kafka.brokers=kafka:9092" -}}
{{- end -}}
{{- range splitList "," (include "tss.brokers" .) -}}
{{- if and . (not (regexMatch ":[0-9]+$" (trim .))) -}}
{{- $faults = append $faults (printf "config.kafka.brokers: %s has no port: %s:9092" (trim .) (trim .)) -}}
{{- end -}}
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
{{- $tls := include "tss.kedaTls" . -}}
{{- $given := list -}}
{{- range $keda.authentication.secretTargetRef -}}{{- $given = append $given .parameter -}}{{- end -}}
{{- if not $keda.authentication.existing -}}
{{- if and (ne $sasl "none") (not (and (has "username" $given) (has "password" $given))) -}}
{{- $faults = append $faults (printf "KEDA needs credentials of its own for SASL %s: set keda.authentication.secretTargetRef (parameters username and password), or keda.authentication.existing" $sasl) -}}
{{- end -}}
{{- if and (eq $tls "enable") $config.kafka.sslCaLocation (not (has "ca" $given)) -}}
{{- $faults = append $faults "KEDA needs the CA of config.kafka.sslCaLocation, too: add it to keda.authentication.secretTargetRef (parameter ca), or set keda.authentication.existing" -}}
{{- end -}}
{{- if and (eq $tls "enable") $config.kafka.sslCertificateLocation (not (and (has "cert" $given) (has "key" $given))) -}}
{{- $faults = append $faults "KEDA needs a certificate of its own, as the daemon has with config.kafka.sslCertificateLocation: add it to keda.authentication.secretTargetRef (parameters cert and key), or set keda.authentication.existing" -}}
{{- end -}}
{{- end -}}
{{- if and (or $keda.authentication.existing $given) (eq $sasl "none") (eq $tls "disable") (not (or $keda.kafka.sasl $keda.kafka.tls)) -}}
{{- $faults = append $faults "keda.authentication would have no effect, since the values do not tell whether Kafka wants SASL or TLS: set keda.kafka.sasl and keda.kafka.tls (or config.kafka.saslMechanism and securityProtocol)" -}}
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
{{- $seen := $config.observability -}}
{{- if and $seen.enableHealthCheck $seen.enablePrometheus (eq (int $seen.healthPort) (int $seen.metricsPort)) -}}
{{- $faults = append $faults "config.observability.healthPort and metricsPort are the same: each needs one of its own" -}}
{{- end -}}
{{- $admin := int (dig "forceSampling" "adminPort" 0 $config) -}}
{{- if and $admin (or (and $seen.enableHealthCheck (eq $admin (int $seen.healthPort))) (and $seen.enablePrometheus (eq $admin (int $seen.metricsPort)))) -}}
{{- $faults = append $faults "config.forceSampling.adminPort is that of /health or /metrics: it needs one of its own" -}}
{{- end -}}
{{- if and .Values.service.adminPort (not (include "tss.adminPort" .)) -}}
{{- $faults = append $faults "service.adminPort needs config.forceSampling.adminPort, and an adminAddr that is not of loopback" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not (dig "requests" "cpu" "" (.Values.resources | default dict))) -}}
{{- $faults = append $faults "autoscaling.enabled needs resources.requests.cpu: its target is a share of that" -}}
{{- end -}}
{{- range $path := list "kafka.sslCaLocation" "kafka.sslCertificateLocation" "kafka.sslKeyLocation" "redis.sslCaLocation" "redis.sslCertificateLocation" "redis.sslKeyLocation" -}}
{{- $parts := splitList "." $path -}}
{{- $file := get (get $config (first $parts) | default dict) (last $parts) -}}
{{- if and $file (not (include "tss.mounted" (list $ $file))) -}}
{{- $faults = append $faults (printf "config.%s is %s, and nothing is mounted there: add the Secret to secrets (name, secretName), whose files are at /etc/tss-secrets/NAME" $path $file) -}}
{{- end -}}
{{- end -}}
{{- if dig "readOnlyRootFilesystem" false (.Values.containerSecurityContext | default dict) -}}
{{- range $config.exporters -}}
{{- if and (has .type (list "file" "parquet")) .path (not (include "tss.mounted" (list $ .path))) -}}
{{- $faults = append $faults (printf "the exporter of type %s writes to %s, which is read-only: kind: StatefulSet with persistence.enabled and a path in /var/lib/tss, or a mount of your own (extraVolumes, extraVolumeMounts)" .type .path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .Values.networkPolicy.enabled -}}
{{- $named := include "tss.ports" . | fromJson -}}
{{- range $part := list "kafka" "redis" "destinations" -}}
{{- $allowed := list -}}
{{- range (get $.Values.networkPolicy $part).ports -}}{{- $allowed = append $allowed (int .) -}}{{- end -}}
{{- range get $named $part -}}
{{- if and $allowed (not (has (int .) $allowed)) -}}
{{- $faults = append $faults (printf "networkPolicy.%s.ports leaves out %v, which config names: add it, or leave the list empty" $part .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range .Values.secrets -}}
{{- if has .name (list "config" "data") -}}
{{- $faults = append $faults (printf "secrets: the name %s is the chart's own; choose another" .name) -}}
{{- end -}}
{{- end -}}
{{- if $faults -}}
{{- $hint := and .Release.IsUpgrade (not $config.kafka.brokers) | ternary "\nhelm upgrade forgets the values of before as soon as one is given: give your --values again, or --reset-then-reuse-values.\n" "" -}}
{{- fail (printf "\n\n%d wrong in the values:\n  - %s\n%s" (len $faults) (join "\n  - " $faults) $hint) -}}
{{- end -}}
{{- end -}}

{{/* SASL and TLS in KEDA's words: as the values say for it, else as far as they tell how the daemon speaks. */}}
{{- define "tss.kedaSasl" -}}
{{- $parameters := list -}}
{{- range .Values.keda.authentication.secretTargetRef -}}{{- $parameters = append $parameters .parameter -}}{{- end -}}
{{- $mechanism := include "tss.said" (list . "kafka" "saslMechanism" "TSS_KAFKA_SASL_MECHANISM") -}}
{{- $protocol := include "tss.said" (list . "kafka" "securityProtocol" "TSS_KAFKA_SECURITY_PROTOCOL") -}}
{{- if .Values.keda.kafka.sasl -}}
{{- .Values.keda.kafka.sasl -}}
{{- else if or .Values.config.kafka.saslUsername $mechanism (hasPrefix "sasl_" (lower $protocol)) (has "username" $parameters) (include "tss.named" (list . "TSS_KAFKA_SASL_USERNAME")) -}}
{{- get (dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512") (upper ($mechanism | default "PLAIN")) -}}
{{- else -}}none{{- end -}}
{{- end -}}

{{- define "tss.kedaTls" -}}
{{- $kafka := .Values.config.kafka -}}
{{- $protocol := lower (include "tss.said" (list . "kafka" "securityProtocol" "TSS_KAFKA_SECURITY_PROTOCOL")) -}}
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
{{- range (index . 0).Values.env -}}{{- if has .name (list $name (printf "%s_FILE" $name)) }}true{{ end -}}{{- end -}}
{{- end -}}
