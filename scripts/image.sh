#!/usr/bin/env bash
# Makes the image millrace.dev/millrace:local out of programs that are compiled already (`make image` does that first). The
# base is Dockerfile's where it is at hand or can be pulled, else one of the same content made of Debian packages.
#
# The programs carry the list of their crates, and the image has its bill of materials: /usr/share/sbom/millrace.cdx.json, which is
# also put beside the programs. docs/releases.md says what they are for.
#
#   MILLRACE_IMAGE        another name for the image
#   MILLRACE_FRESH_BASE   not empty: the base is looked for, or made, anew
#   SOURCE_DATE_EPOCH     the time that what is put into the image bears, as seconds since 1970
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=e2e/kind/lib.sh
source e2e/kind/lib.sh

image=${MILLRACE_IMAGE:-millrace.dev/millrace:local}
target=${CARGO_TARGET_DIR:-target}/release
# The builder of every Docker engine; the Dockerfile's first stages need no other.
export DOCKER_BUILDKIT=0
argument() { sed -n "s/^ARG $1=\"\{0,1\}\([^\"]*\)\"\{0,1\}$/\1/p" Dockerfile; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
context=$work/context

programs() {
  local program into=$context/usr/local/bin
  mkdir -p "$into"
  for program in $(argument PROGRAMS) millrace-sbom; do
    [[ -e $target/$program ]] || fail "no $target/$program; 'make image' compiles it"
  done
  for program in $(argument PROGRAMS); do
    strip -o "$into/$program" "$target/$program"
    chmod 755 "$into/$program"
    # `cargo auditable` has compiled a release's. For tests nothing is compiled anew: the same list is added here.
    if ! has_crates "$into/$program"; then
      "$target/millrace-sbom" crates "$program" > "$work/crates"
      objcopy --add-section .dep-v0="$work/crates" "$into/$program"
    fi
  done
}
has_crates() { [[ -n $(readelf -SW "$1" | sed -n '/ \.dep-v0 /p') ]]; }

# What the base says of itself, and out of that and of the programs the bill of materials.
bill() {
  local container program file=usr/share/sbom/millrace.cdx.json programs=()
  mkdir -p "$work/base"/{usr/lib,var/lib/dpkg} "$context/${file%/*}"
  container=$(docker create "$1" none)
  docker cp "$container:/usr/lib/os-release" "$work/base/usr/lib/"
  docker cp "$container:/var/lib/dpkg/status.d" "$work/base/var/lib/dpkg/"
  docker rm "$container"
  for program in $(argument PROGRAMS); do programs+=("$context/usr/local/bin/$program"); done
  "$target/millrace-sbom" image --name "${image%:*}" --base "$work/base" "${programs[@]}" > "$context/$file"
  cp "$context/$file" "$target/${file##*/}"
}

# The base's name, once it is in the engine.
base() {
  local pulled made
  pulled=$(argument BASE)
  if has "$pulled" || timeout 60 docker pull -q "$pulled" > /dev/null 2>&1; then
    echo "$pulled"
    return
  fi
  # What gcr.io/distroless/cc-debian12 has.
  local packages=(base-files ca-certificates libc6 libgcc-s1 libssl3) root=$cache/rootfs/base
  made=millrace.dev/base:$(fingerprint "$project/scripts/rootfs.sh" "${packages[@]}" | cut -c1-12)
  if ! has "$made"; then
    mkdir -p "$cache/rootfs"
    [[ -z ${MILLRACE_FRESH_BASE:-} ]] || apt-get update -qq >&2
    scripts/rootfs.sh --no-deps "$root" "${packages[@]}" >&2 ||
      { apt-get update -qq && scripts/rootfs.sh --no-deps "$root" "${packages[@]}" >&2; }
    tar -C "$root" --numeric-owner -c . | docker import - "$made" > /dev/null
  fi
  echo "$made"
}
has() { [[ -z ${MILLRACE_FRESH_BASE:-} ]] && docker image inspect "$1" > /dev/null 2>&1; }

engine
programs
base=$(base)
step "list what is in $image" bill "$base"
[[ -z ${SOURCE_DATE_EPOCH:-} ]] || find "$context" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
step "make $image on $base" docker build -q -f Dockerfile --target prebuilt --build-arg "BASE=$base" -t "$image" "$context"
say "$image: $(docker image inspect -f '{{.Size}}' "$image" | numfmt --to=si)B"
