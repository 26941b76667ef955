# shellcheck shell=bash disable=SC2034  # the names set here are used where this is sourced
# What the scripts beside this file share. They source it.
set -euo pipefail
# Also in $(...), which -e does not reach otherwise.
shopt -s inherit_errexit

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
cache=${MILLRACE_TEST_CACHE:-$HOME/.cache/millrace}
kafka_jars=$cache/kafka-4.1.1 hivemq_jars=$cache/hivemq-2025.5 # scripts/test-deps.sh puts them there
cache=$cache/kind
bin=$cache/bin
cluster=millrace
export KUBECONFIG=$cache/kubeconfig
export PATH=$bin:$PATH:/usr/sbin:/sbin
# The older builder is in every Docker engine; the newer one is a plugin that Debian packages apart.
export DOCKER_BUILDKIT=0
mkdir -p "$bin" "$cache/stamps" "$cache/log"

# module_version PATH: what binaries/go.mod pins; no other file names a version of Kubernetes or of its parts.
module_version() { awk -v module="$1" '$1 == module { print $2; exit }' "$here/binaries/go.mod"; }
kubernetes=$(module_version k8s.io/kubernetes)
built_node=millrace.dev/kind/node:$kubernetes
pulled_node=kindest/node:$kubernetes

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# step TEXT COMMAND...: runs it and prints one line with the seconds it took. What it prints itself goes to a log, which is
# shown if it fails.
step() {
  local text=$1 start=$SECONDS log status; shift
  log=$cache/log/$(tr -cs 'a-zA-Z0-9\n' - <<< "$text").log
  # In a condition (`if "$@"`) a function would run without -e.
  set +e
  (set -e; "$@") > "$log" 2>&1 < /dev/null
  status=$?
  set -e
  if ((status != 0)); then
    tail -n 40 "$log" >&2
    fail "$text: failed after $((SECONDS - start)) s; all of it is in $log"
  fi
  say "$text: $((SECONDS - start)) s"
}

# A stage is done when its stamp holds the hash of what it was made from, wherever the clone is.
# fingerprint WORD|PATH... takes what begins with / as a file or folder.
fingerprint() {
  local item
  for item in "$@"; do
    if [[ $item == /* ]]; then
      find "$item" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sed "s# $project/# #"
    else
      echo "$item"
    fi
  done | sha256sum | cut -d' ' -f1
}
stamped() { [[ $(cat "$cache/stamps/$1" 2> /dev/null) == "$2" ]]; }
stamp() { echo "$2" > "$cache/stamps/$1"; }

# alone: one script at a time works on the cache and the cluster; the scripts that it calls itself are let through.
alone() {
  [[ -z ${MILLRACE_KIND_ALONE:-} ]] || return 0
  exec 9> "$cache/lock"
  flock -n 9 || { say "waiting until another run has ended"; flock 9; }
  export MILLRACE_KIND_ALONE=1
}

# engine: a Docker engine that answers. Starts one where none runs, as on a fresh machine.
engine() {
  docker info > /dev/null 2>&1 && return
  local missing=() package
  for package in docker.io iptables; do dpkg -s "$package" > /dev/null 2>&1 || missing+=("$package"); done
  ((${#missing[@]} == 0)) || step "install ${missing[*]}" install_packages "${missing[@]}"
  docker info > /dev/null 2>&1 || step "start the Docker engine" start_dockerd
}

install_packages() {
  command -v apt-get || fail "needed: $*; on Debian this would install them"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "$@"
}

start_dockerd() {
  local flags=()
  # A privileged container asks for every capability there is; where the host itself lacks one, runc refuses.
  if ! grep -q '^CapBnd:.*1ffffffffff$' /proc/self/status; then
    install -m 755 "$here/runc-available-caps" "$bin/"
    flags=(--add-runtime "available-caps=$bin/runc-available-caps" --default-runtime available-caps)
  fi
  rm -f /var/run/docker.pid # of an engine that did not end in order
  setsid dockerd "${flags[@]}" > "$cache/log/dockerd.log" 2>&1 < /dev/null 9>&- & # 9: alone's, which would be held as long
  for _ in {1..60}; do
    docker info > /dev/null 2>&1 && return
    sleep 0.5
  done
  tail -n 20 "$cache/log/dockerd.log"
  return 1
}
