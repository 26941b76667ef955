{{/* What other names are made from: at most 40 characters, so that they fit. */}}
{{- define "millrace.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of all that belongs to the operator. */}}
{{- define "millrace.operator" -}}
{{- printf "%s-operator" (include "millrace.fullname" .) -}}
{{- end -}}

{{/* The Service that leads the API server to the metrics API. */}}
{{- define "millrace.metricsApi" -}}
{{- printf "%s-metrics-api" (include "millrace.fullname" .) -}}
{{- end -}}

{{- define "millrace.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "millrace.operator" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed with serviceAccount.create=false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels that select pods; they never change. Takes a list: the root and the component. */}}
{{- define "millrace.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* All labels of an object. Takes a list: the root and the component. */}}
{{- define "millrace.labels" -}}
{{- $root := index . 0 -}}
{{ include "millrace.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: millrace
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels and the annotations of everything. Takes a list: the root, the component and, optionally, a dict of annotations. */}}
{{- define "millrace.metadata" -}}
{{- $root := index . 0 -}}
labels:
  {{- include "millrace.labels" . | nindent 2 }}
{{- $annotations := dict -}}
{{- if gt (len .) 2 -}}{{- $annotations = index . 2 -}}{{- end -}}
{{- with merge (dict) $annotations $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* An image. Takes a dict with repository, tag and digest. */}}
{{- define "millrace.imageOf" -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository .tag -}}
{{- end -}}
{{- end -}}

{{- define "millrace.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- include "millrace.imageOf" (dict "repository" .Values.image.repository "tag" $tag "digest" .Values.image.digest) -}}
{{- end -}}

{{/* The workers' image: the operator's, as far as nothing else is said. A digest belongs to the image it was written for. */}}
{{- define "millrace.workerImage" -}}
{{- $own := .Values.worker.image -}}
{{- $digest := $own.digest -}}
{{- if not (or $own.digest $own.repository $own.tag) -}}{{- $digest = .Values.image.digest -}}{{- end -}}
{{- $repository := default .Values.image.repository $own.repository -}}
{{- $tag := default (default .Chart.AppVersion .Values.image.tag) $own.tag -}}
{{- include "millrace.imageOf" (dict "repository" $repository "tag" $tag "digest" $digest) -}}
{{- end -}}

{{/* Fields that the pods of operator, hooks and test have in common. */}}
{{- define "millrace.podSpec" -}}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Fields that their containers have in common. */}}
{{- define "millrace.container" -}}
image: {{ include "millrace.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end -}}

{{/* A hook: its annotations. Takes a list: when, and the weight. Kept when it fails, so that it can be looked at. */}}
{{- define "millrace.hook" -}}
helm.sh/hook: {{ index . 0 }}
helm.sh/hook-weight: {{ index . 1 | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* --watch-namespace for each. */}}
{{- define "millrace.watchArgs" -}}
{{- range .Values.watchNamespaces }}
- --watch-namespace={{ . }}
{{- end -}}
{{- end -}}

{{/* Whether the operator may make PodMonitors: "true" or nothing. */}}
{{- define "millrace.podMonitors" -}}
{{- $known := .Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PodMonitor" -}}
{{- if or (eq .Values.worker.podMonitors "Always") (and (eq .Values.worker.podMonitors "Auto") $known) -}}true{{- end -}}
{{- end -}}

{{/* Where the test's route is: in a namespace that the operator watches, the release's own if it is one. */}}
{{- define "millrace.testNamespace" -}}
{{- if or (empty .Values.watchNamespaces) (has .Release.Namespace .Values.watchNamespaces) -}}
{{- .Release.Namespace -}}
{{- else -}}
{{- first .Values.watchNamespaces -}}
{{- end -}}
{{- end -}}
