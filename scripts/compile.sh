#!/usr/bin/env bash
# Compiles as for a release: the same sources and the same Rust give the same programs, wherever they are compiled, and each
# program carries the list of its crates. `make reproducible` shows the first, a test of the image the second.
#
#   scripts/compile.sh TARGET_DIR [ARGS]    ARGS for cargo build: all programs unless they say which
#
# Needs cargo-auditable: cargo install --locked cargo-auditable
set -euo pipefail
cd "$(dirname "$0")/.."
(($# >= 1)) || { echo "usage: compile.sh TARGET_DIR [ARGS]" >&2; exit 64; }
mkdir -p "$1"
target=$(cd "$1" && pwd); shift
(($# > 0)) || set -- --workspace --bins
command -v cargo-auditable > /dev/null || { echo "needed: cargo install --locked cargo-auditable" >&2; exit 69; }

# Paths of this machine, and what is said in their place. The target folder may be in the sources: the last that fits counts.
sysroot=$(rustc --print sysroot)
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
from=("${CARGO_HOME:-$HOME/.cargo}" "$sysroot/lib/rustlib/src/rust" "$PWD" "$target")
to=(/cargo "/rustc/$commit" /millrace /target)
rust=() c=
for i in "${!from[@]}"; do
  rust+=("--remap-path-prefix=${from[i]}=${to[i]}")
  c+=" -ffile-prefix-map=${from[i]}=${to[i]}"
done
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo -n "${rust[*]}")
export CARGO_ENCODED_RUSTFLAGS CFLAGS="${CFLAGS:-}$c" CXXFLAGS="${CXXFLAGS:-}$c"
export CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=0 SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || echo 0)}
exec cargo auditable build --release --locked "$@"
