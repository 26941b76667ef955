#!/usr/bin/env bash
# Compiles a program twice as a release does, in two folders with two cargo homes, and compares what comes out.
#
#   scripts/reproducible.sh [PROGRAM]    default: bridge-worker, which has librdkafka, zlib, zstd and ring in it: all that is C
#
# Takes what is committed. Exits with an error where the two differ.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-bridge-worker}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() {
  local folder=$work/$1 home=${CARGO_HOME:-$HOME/.cargo}
  mkdir -p "$folder/source" "$folder/cargo"
  git archive HEAD | tar -x -C "$folder/source"
  # What was downloaded is the same; where it is, is not.
  cp -al "$home/registry" "$folder/cargo/registry" 2> /dev/null || true
  CARGO_HOME=$folder/cargo SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) \
    "$folder/source/scripts/compile.sh" "$folder/target" --bin "$program"
  strip -o "$folder/$program" "$folder/target/release/$program"
  rm -rf "$folder/target"
  if grep -q -a -F -e "$folder" -e "$HOME/.cargo" "$folder/$program"; then
    echo "reproducible: paths of this machine are in $program:" >&2
    strings "$folder/$program" | grep -F -e "$folder" -e "$HOME/.cargo" | sort -u | head >&2
    exit 1
  fi
}

start=$SECONDS
compile one
compile two/in/a/longer/path
sums=$(cd "$work" && sha256sum "one/$program" "two/in/a/longer/path/$program" | cut -d' ' -f1)
echo "$sums"
[[ $(sort -u <<< "$sums" | wc -l) == 1 ]] || { echo "reproducible: $program differs" >&2; exit 1; }
echo "reproducible: $program is the same, byte for byte: $((SECONDS - start)) s"
