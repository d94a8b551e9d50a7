{{/* The pod, alike in a Deployment and a StatefulSet. */}}
{{- define "tss.pod" -}}
{{- $settings := include "tss.settings" . | fromJson -}}
{{- $seen := .Values.config.observability -}}
metadata:
  annotations:
    # A change of settings starts new pods, unless the daemon takes it up while it runs: see tss.restarting.
    checksum/config: {{ include "tss.restarting" $settings.public | sha256sum }}
    {{- if $settings.secret }}
    checksum/secret: {{ toJson $settings.secret | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "tss.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "tss.serviceAccount" . }}
  automountServiceAccountToken: false
  # Kubernetes would announce each service of the namespace as a variable, and one called tss-... looks like a setting.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "tss.graceSecs" . }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: tail-sampling-selector
      image: {{ include "tss.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      securityContext:
        {{- toYaml .Values.containerSecurityContext | nindent 8 }}
      env:
        - name: TSS_CONFIG
          value: /etc/tss/tss.yaml
        {{- with .Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if or $settings.secret .Values.existingSecret .Values.externalSecret.enabled .Values.envFrom }}
      envFrom:
        {{- if $settings.secret }}
        - secretRef:
            name: {{ include "tss.fullname" . }}
        {{- end }}
        {{- if .Values.externalSecret.enabled }}
        - secretRef:
            name: {{ include "tss.fullname" . }}-external
        {{- end }}
        {{- with .Values.existingSecret }}
        - secretRef:
            name: {{ . }}
        {{- end }}
        {{- with .Values.envFrom }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      {{- $adminPort := include "tss.adminPort" . }}
      {{- if or $seen.enableHealthCheck $seen.enablePrometheus $adminPort }}
      ports:
        {{- if $seen.enableHealthCheck }}
        - name: http
          containerPort: {{ int $seen.healthPort }}
          protocol: TCP
        {{- end }}
        {{- if $seen.enablePrometheus }}
        - name: metrics
          containerPort: {{ int $seen.metricsPort }}
          protocol: TCP
        {{- end }}
        {{- with $adminPort }}
        - name: admin
          containerPort: {{ int . }}
          protocol: TCP
        {{- end }}
      {{- end }}
      {{- if $seen.enableHealthCheck }}
      {{- with .Values.startupProbe }}
      startupProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.livenessProbe }}
      livenessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.readinessProbe }}
      readinessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        # As a folder: a single file would not follow the ConfigMap.
        - name: config
          mountPath: /etc/tss
          readOnly: true
        {{- if .Values.persistence.enabled }}
        - name: data
          mountPath: /var/lib/tss
        {{- end }}
        {{- range .Values.secrets }}
        - name: {{ .name }}
          mountPath: {{ .mountPath | default (printf "/etc/tss-secrets/%s" .name) }}
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "tss.fullname" . }}
    {{- range .Values.secrets }}
    - name: {{ .name }}
      secret:
        {{- omit . "name" "mountPath" | toYaml | nindent 8 }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  affinity:
    {{- if .Values.affinity }}
    {{- toYaml .Values.affinity | nindent 4 }}
    {{- else }}
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            labelSelector:
              matchLabels:
                {{- include "tss.selector" . | nindent 16 }}
            topologyKey: kubernetes.io/hostname
    {{- end }}
  topologySpreadConstraints:
    {{- if .Values.topologySpreadConstraints }}
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
    {{- else }}
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "tss.selector" . | nindent 10 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
