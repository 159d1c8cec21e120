{{/*
Beginning of each name. Kubernetes puts the name of the StatefulSet NAME-redis and a hash, together at
most 63 characters, into a label of its pods; a Service has no dot, and begins with a letter.
*/}}
{{- define "name" -}}
{{- if regexMatch "^[0-9]" .Release.Name -}}
{{- fail (printf "release %s: a Service cannot have this name; begin it with a letter" .Release.Name) -}}
{{- end -}}
{{- .Release.Name | replace "." "-" | trunc 46 | trimSuffix "-" -}}
{{- end }}

{{- define "labels" -}}
app.kubernetes.io/name: geodes-tasks
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "metadata" -}}
name: {{ include "name" .root }}-{{ .component }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "labels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* Address of Redis for one of its users. */}}
{{- define "redisUrl" -}}
{{- $redis := .root.Values.redis -}}
{{- $ca := "" -}}
{{- $user := $redis.username | default .user -}}
{{- if and (ne $redis.mode "internal") .root.Values.secrets.redisCa -}}
{{- $ca = "ssl_ca_certs=/secrets/redis-ca/ca.pem" -}}
{{- end -}}
{{- if eq $redis.mode "internal" -}}
redis://{{ .user }}@{{ include "name" .root }}-redis:6379/0
{{- else if eq $redis.mode "external" -}}
{{ ternary "rediss" "redis" $redis.external.tls }}://{{ $user }}@{{ $redis.external.host }}:{{ $redis.external.port }}/0{{ with $ca }}?{{ . }}{{ end }}
{{- else -}}
sentinel://{{ $user }}@{{ join ";" $redis.sentinel.hosts }}/0?master_name={{ $redis.sentinel.masterName }}{{ if $redis.sentinel.tls }}&ssl=true{{ end }}{{ with $redis.sentinel.username }}&sentinel_username={{ . }}{{ end }}{{ if .root.Values.secrets.sentinel }}&sentinel_password=$(SENTINEL_PASSWORD){{ end }}{{ with $ca }}&{{ . }}{{ end }}
{{- end -}}
{{- end }}

{{/* Settings, password and address that each pod of ours has. */}}
{{- define "environment" -}}
envFrom:
  - configMapRef: { name: {{ include "name" .root }}-settings }
env:
  {{- if and (eq .root.Values.redis.mode "sentinel") .root.Values.secrets.sentinel }}
  # Kubernetes puts it into the address below; the variables that a value names come before it.
  - name: SENTINEL_PASSWORD
    valueFrom:
      secretKeyRef: { name: {{ .root.Values.secrets.sentinel | quote }}, key: password }
  {{- end }}
  - { name: GEODES_TASKS_REDIS_URL, value: {{ include "redisUrl" . | quote }} }
  - { name: GEODES_TASKS_REDIS_PASSWORD_FILE, value: /secrets/redis/password }
{{- end }}

{{- define "volumeMounts" -}}
- { name: tmp, mountPath: /tmp }
- { name: redis-password, mountPath: /secrets/redis, readOnly: true }
{{- if and (ne .root.Values.redis.mode "internal") .root.Values.secrets.redisCa }}
- { name: redis-ca, mountPath: /secrets/redis-ca, readOnly: true }
{{- end }}
{{- end }}

{{- define "volumes" -}}
- name: tmp
  emptyDir: { sizeLimit: 256Mi }
- name: redis-password
  secret: { secretName: {{ .secret | quote }}, defaultMode: 0440 }
{{- if and (ne .root.Values.redis.mode "internal") .root.Values.secrets.redisCa }}
- name: redis-ca
  secret: { secretName: {{ .root.Values.secrets.redisCa | quote }}, defaultMode: 0440 }
{{- end }}
{{- end }}

{{- define "claim" -}}
{{ .Values.storage.existingClaim | default (printf "%s-downloads" (include "name" .)) }}
{{- end }}

{{- define "podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .Values.user.uid | int64 }}
  runAsGroup: {{ .Values.user.gid | int64 }}
  fsGroup: {{ .Values.user.gid | int64 }}
  # A shared volume may hold millions of files: do not change their group at each start.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{- define "image" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}
