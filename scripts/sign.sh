#!/usr/bin/env bash
# Signs what a release would publish: writes DIR/SHA256SUMS of all files in DIR, and DIR/SHA256SUMS.sig.
#
#   MILLRACE_SIGNING_KEY=FILE scripts/sign.sh DIR
#
# The key is a private key of ECDSA P-256 in PEM, with a passphrase if you like. docs/releases.md says how to make one, and
# how what is signed is verified.
set -euo pipefail
(($# == 1)) || { echo "usage: MILLRACE_SIGNING_KEY=FILE sign.sh DIR" >&2; exit 64; }
key=${MILLRACE_SIGNING_KEY:?names the file of the private key}
[[ -r $key ]] || { echo "sign: there is no key $key" >&2; exit 66; }
key=$(realpath "$key")
cd "$1"
find . -type f ! -name 'SHA256SUMS*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 -r sha256sum > SHA256SUMS
[[ -s SHA256SUMS ]] || { echo "sign: there is nothing in $1" >&2; exit 66; }
openssl dgst -sha256 -sign "$key" -out SHA256SUMS.sig SHA256SUMS || {
  rm -f SHA256SUMS.sig
  echo "sign: $key does not sign: it has to be a private key of ECDSA P-256 in PEM, see docs/releases.md" >&2
  exit 65
}
