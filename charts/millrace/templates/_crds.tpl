{{/*
What becomes of a CustomResourceDefinition. Takes a list: the root and the definition. One of
  release  it is part of the release: it is not there yet, or it is this release's own
  leave    it belongs to another release or to nobody Helm knows, and is as new as this chart's, or newer
  update   likewise, but it is older: a hook brings it up to date

Why. Helm never upgrades what is in a chart's folder crds/, so definitions are templates here, with resource-policy
keep: deleting them would delete every route of the cluster. But Helm refuses to touch an object of another release
("invalid ownership metadata"), and looks before any hook runs. Kept definitions carry the name of the release that is
gone, so a new install under another name would fail, as would one after `kubectl apply -f crds/`. Since Helm 3.17
there is --take-ownership, which one would have to know. A Job that always applies the definitions has none of these
problems, but others: it may create definitions of any name (RBAC cannot limit create), `helm template`, `helm diff` and
`helm get manifest` do not show them, and nothing can be installed before its image runs. So: templates where Helm
accepts them, which is nearly always, and the Job only for definitions of others that are too old; that one exists
already, so the Job may patch three names and create nothing. It never lowers a version.

`helm template` cannot look into a cluster, and renders all of them: right for Argo CD, which knows no releases.
*/}}
{{- define "millrace.crdFate" -}}
{{- $root := index . 0 -}}
{{- $crd := index . 1 -}}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $crd.metadata.name -}}
{{- if not $there -}}
release
{{- else -}}
{{- $labels := default (dict) $there.metadata.labels -}}
{{- $annotations := default (dict) $there.metadata.annotations -}}
{{- $managed := eq "Helm" (default "" (get $labels "app.kubernetes.io/managed-by")) -}}
{{- $name := eq $root.Release.Name (default "" (get $annotations "meta.helm.sh/release-name")) -}}
{{- $namespace := eq $root.Release.Namespace (default "" (get $annotations "meta.helm.sh/release-namespace")) -}}
{{- if and $managed $name $namespace -}}
release
{{- else if lt (int (default "0" (get $annotations "millrace.dev/crd-version"))) (int (get $crd.metadata.annotations "millrace.dev/crd-version")) -}}
update
{{- else -}}
leave
{{- end -}}
{{- end -}}
{{- end -}}
