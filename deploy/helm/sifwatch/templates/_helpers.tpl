{{- define "sifwatch.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* of a component: (dict "root" $ "component" "probes") */}}
{{- define "sifwatch.selectorLabels" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "sifwatch.labels" -}}
{{ include "sifwatch.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sifwatch
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "sifwatch.image" -}}
{{- $image := .image -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $image.repository $image.digest }}
{{- else -}}
{{ printf "%s:%s" $image.repository (default .root.Chart.AppVersion $image.tag) }}
{{- end -}}
{{- end -}}

{{/* what Pod Security's level "restricted" asks of a pod */}}
{{- define "sifwatch.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* ... and of a container, with a read-only root */}}
{{- define "sifwatch.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "sifwatch.scheduling" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* what a schema cannot say in words that help */}}
{{- define "sifwatch.check" -}}
{{- $probes := .Values.probes -}}
{{- range $key := list "pack" "trigger_keys" "store" "listen" "evidence" -}}
{{- if hasKey $probes.config $key -}}
{{- fail (printf "probes.config.%s: the chart sets this itself; see probes.pack, probes.triggerKeys, probes.store, probes.service and probes.evidence" $key) -}}
{{- end -}}
{{- end -}}
{{- $folders := list -}}
{{- range $probes.files -}}
{{- if eq (empty .existingSecret) (empty .existingConfigMap) -}}
{{- fail (printf "probes.files: %s: set one of existingSecret and existingConfigMap" .name) -}}
{{- end -}}
{{- $folders = append $folders (printf "/srv/sifwatch/files/%s" .name) -}}
{{- end -}}
{{- if ne (len $folders) (len (uniq $folders)) -}}
{{- fail "probes.files: two have the same name" -}}
{{- end -}}
{{- with $probes.config.targets_folder -}}
{{- if not (has . $folders) -}}
{{- fail (printf "probes.config.targets_folder: %s is not mounted; /srv/sifwatch/files/NAME is, for each NAME of probes.files" .) -}}
{{- end -}}
{{- end -}}
{{- range $target := $probes.config.targets -}}
{{- range $key := list "ca_file" "api_key_file" -}}
{{- with get $target $key -}}
{{- if not (has (dir .) $folders) -}}
{{- fail (printf "probes.config.targets: %s: %s: %s is not mounted; /srv/sifwatch/files/NAME is, for each NAME of probes.files" $target.name $key .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey $target "api_key" -}}
{{- fail (printf "probes.config.targets: %s: a key is never written here; name it in api_key_env and put it into probes.credentialsSecret" $target.name) -}}
{{- end -}}
{{- end -}}
{{- if and (gt (int $probes.replicas) 1) (ne $probes.store.type "postgres") -}}
{{- fail "probes.replicas: more than one needs probes.store.type: postgres" -}}
{{- end -}}
{{- if eq $probes.store.type "postgres" -}}
{{- if not (and $probes.store.postgres.host $probes.store.postgres.existingSecret) -}}
{{- fail "probes.store.postgres: host and existingSecret are needed with probes.store.type: postgres" -}}
{{- end -}}
{{- end -}}
{{- with $probes.evidence -}}
{{- if .existingSecret -}}
{{- if eq .key $probes.triggerKeys.key -}}
{{- fail "probes.evidence.key: must differ from probes.triggerKeys.key; both files get a private copy in one folder" -}}
{{- end -}}
{{- if and (gt (int $probes.replicas) 1) (not .volume.existingClaim) (ne .volume.accessMode "ReadWriteMany") -}}
{{- fail "probes.evidence.volume: with several replicas it takes accessMode: ReadWriteMany, or a claim of yours that all of them can mount" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $packs := without (list $probes.pack.existingClaim $probes.pack.existingSecret $probes.pack.image.repository) "" -}}
{{- if ne (len $packs) 1 -}}
{{- fail "probes.pack: set exactly one of existingClaim, existingSecret and image.repository" -}}
{{- end -}}
{{- end -}}

{{/* the file that the probes read */}}
{{- define "sifwatch.probesConfig" -}}
{{- $store := "sqlite:////var/lib/sifwatch/sif-probes.sqlite" -}}
{{- if eq .Values.probes.store.type "postgres" -}}
{{- with .Values.probes.store.postgres -}}
{{- $store = printf "postgresql+psycopg://%s@%s:%d/%s?sslmode=%s" (.user | urlquery) .host (int .port) (.database | urlquery) .sslmode -}}
{{- end -}}
{{- end -}}
{{- $set := dict "pack" "/srv/sifwatch/pack" "trigger_keys" (printf "/run/sifwatch/%s" .Values.probes.triggerKeys.key) "store" $store "listen" (dict "host" "0.0.0.0" "port" 9464) -}}
{{- with .Values.probes.evidence -}}
{{- if .existingSecret -}}
{{- $_ := set $set "evidence" (dict "folder" "/srv/sifwatch/evidence" "signing_key" (printf "/run/sifwatch/%s" .key)) -}}
{{- end -}}
{{- end -}}
{{- merge $set .Values.probes.config | toYaml -}}
{{- end -}}
