{{/*
What the operator may do where it runs routes: the rules of its ClusterRole, or of its Role in each watched namespace.
No Secrets, ever: pods mount them, and the operator only names them. No wildcard, nothing that grants rights to others.
docs/install.md says what each rule is for.
*/}}
{{- define "millrace.rules" -}}
- apiGroups: [millrace.dev]
  resources: [mqttbrokers, kafkasinks, topicroutes]
  verbs: [list, watch, patch]
- apiGroups: [millrace.dev]
  resources: [mqttbrokers/status, kafkasinks/status, topicroutes/status]
  verbs: [patch]
- apiGroups: [millrace.dev]
  resources: [mqttbrokers/finalizers, kafkasinks/finalizers, topicroutes/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods, serviceaccounts, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
{{- if include "millrace.podMonitors" . }}
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* What the hook before an uninstall may do to routes. */}}
{{- define "millrace.uninstallRules" -}}
- apiGroups: [millrace.dev]
  resources: [topicroutes]
  verbs: [list, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
