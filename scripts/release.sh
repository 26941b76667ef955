#!/usr/bin/env bash
# Makes what a release would publish, and signs it. Publishes nothing.
#
#   MILLRACE_SIGNING_KEY=FILE scripts/release.sh [DIR]    default: target/release-artifacts, which is made anew
#
# Without a key it ends before it signs. Needs cargo-auditable and root, for the Docker engine. docs/releases.md says what is made.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=e2e/kind/lib.sh
source e2e/kind/lib.sh

out=${1:-target/release-artifacts}
target=target/release-build
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
platform=linux-$(dpkg --print-architecture)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C # which also sorts names
[[ -z $(git status --porcelain) ]] || fail "commit first: a release is made of what is committed"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The same files give the same archive.
pack() { tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=gnu "$@"; }

# An archive for `docker load`, skopeo and crane: one layer, and no time but that of the commit.
archive() {
  local name=$1 image=$2 container settings digest time layer=$work/layer.tar
  settings=$(docker image inspect -f '{"User":"{{.Config.User}}","Env":{{json .Config.Env}}}' "$image")
  container=$(docker create "$image" none)
  mkdir "$work/root" "$work/archive"
  docker export "$container" | tar -x -C "$work/root" --numeric-owner
  docker rm "$container"
  # What the engine puts into a container.
  rm -rf "$work/root"/{.dockerenv,dev,proc,sys,etc/hostname,etc/hosts,etc/mtab,etc/resolv.conf}
  tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --numeric-owner --format=gnu -C "$work/root" -cf "$layer" .
  digest=$(sha256sum "$layer" | cut -d' ' -f1)
  mkdir "$work/archive/$digest"
  mv "$layer" "$work/archive/$digest/layer.tar"
  time=$(date -u -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)
  printf '{"architecture":"%s","os":"linux","created":"%s","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"%s","created_by":"scripts/release.sh"}]}' \
    "${platform#*-}" "$time" "$settings" "$digest" "$time" > "$work/config"
  local config
  config=$(sha256sum "$work/config" | cut -d' ' -f1)
  mv "$work/config" "$work/archive/$config.json"
  printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["%s/layer.tar"]}]' "$config" "$name" "$digest" > "$work/archive/manifest.json"
  pack -C "$work/archive" -cf - . | gzip -9 -n > "$out/millrace-$version-$platform-image.tar.gz"
}

step "compile" scripts/compile.sh "$target"
image=millrace.dev/millrace:$version
MILLRACE_IMAGE=$image MILLRACE_FRESH_BASE=1 CARGO_TARGET_DIR=$target scripts/image.sh
rm -rf "$out"; mkdir -p "$out"
step "pack the image" archive "$image" "$image"
cp "$target/release/millrace.cdx.json" "$out/millrace-$version-$platform.cdx.json"
pack -C "$work/root/usr/local/bin" -cf - . | gzip -9 -n > "$out/millrace-$version-$platform.tar.gz"
# Named as Helm names it.
pack -C charts -cf - millrace | gzip -9 -n > "$out/millrace-$version.tgz"
awk 'FNR == 1 { print "---" } { print }' crds/*.yaml > "$out/millrace-$version-crds.yaml"
if [[ -n ${MILLRACE_SIGNING_KEY:-} ]]; then
  scripts/sign.sh "$out"
else
  say "not signed: MILLRACE_SIGNING_KEY names no key"
fi
say "$out: $(ls "$out" | wc -l) files, $(du -sh "$out" | cut -f1)"
