#!/usr/bin/env bash
# Makes the image millrace.dev/millrace:local out of programs that are compiled already (`make image` does that first). The
# base is Dockerfile's where it is at hand or can be pulled, else one of the same content made of Debian packages.
#
#   MILLRACE_IMAGE    another name for the image
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=e2e/kind/lib.sh
source e2e/kind/lib.sh

image=${MILLRACE_IMAGE:-millrace.dev/millrace:local}
target=${CARGO_TARGET_DIR:-target}/release
# The builder of every Docker engine; the Dockerfile's first stages need no other.
export DOCKER_BUILDKIT=0
argument() { sed -n "s/^ARG $1=\"\{0,1\}\([^\"]*\)\"\{0,1\}$/\1/p" Dockerfile; }

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

programs() {
  local program
  for program in $(argument PROGRAMS); do
    [[ -e $target/$program ]] || fail "no $target/$program; 'make image' compiles it"
    strip -o "$context/$program" "$target/$program"
    chmod 755 "$context/$program"
  done
}

# The base's name, once it is in the engine.
base() {
  local pulled made=millrace.dev/base:openssl
  pulled=$(argument BASE)
  if docker image inspect "$pulled" > /dev/null 2>&1 || timeout 60 docker pull -q "$pulled" > /dev/null 2>&1; then
    echo "$pulled"
    return
  fi
  # What gcr.io/distroless/cc-debian12 has.
  local packages=(ca-certificates libc6 libgcc-s1 libssl3)
  if ! docker image inspect "$made" > /dev/null 2>&1; then
    mkdir -p "$cache/rootfs"
    scripts/rootfs.sh --no-deps "$cache/rootfs/base-openssl" "${packages[@]}" >&2 ||
      { apt-get update -qq && scripts/rootfs.sh --no-deps "$cache/rootfs/base-openssl" "${packages[@]}" >&2; }
    tar -C "$cache/rootfs/base-openssl" --numeric-owner -c . | docker import - "$made" > /dev/null
  fi
  echo "$made"
}

engine
programs
base=$(base)
step "make $image on $base" docker build -q -f Dockerfile --target prebuilt --build-arg "BASE=$base" -t "$image" "$context"
say "$image: $(docker image inspect -f '{{.Size}}' "$image" | numfmt --to=si)B"
