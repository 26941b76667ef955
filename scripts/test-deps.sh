#!/bin/sh
# Installs what the tests need on Debian 12: mosquitto, a Java runtime, the tools and the OpenSSL that build librdkafka, the jars of
# Apache Kafka and HiveMQ CE from Maven Central, and helm, which it builds if there is Go, because Debian has no package
# of it.
# `scripts/test-deps.sh build` stops at what compiling needs. Installs only what is missing; a second run changes nothing and ends at once.
#
#   MILLRACE_TEST_CACHE   where the jars are kept (default: ~/.cache/millrace); outside the clone, so that a new clone
#                         finds them
set -eu

KAFKA_VERSION=4.1.1
SCALA_VERSION=2.13
LOG4J_VERSION=2.24.3
HIVEMQ_VERSION=2025.5
HELM_VERSION=v3.20.2
CACHE="${MILLRACE_TEST_CACHE:-${HOME:-/root}/.cache/millrace}"
KAFKA_JARS="$CACHE/kafka-$KAFKA_VERSION"
HIVEMQ_JARS="$CACHE/hivemq-$HIVEMQ_VERSION"

say() { echo "test-deps: $*"; }
fail() { echo "test-deps: $*" >&2; exit 1; }
# /usr/sbin is not on every PATH, and that is where Debian puts mosquitto.
have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

java_is_recent() {
    have java || return 1
    major=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${major:-0}" -ge 17 ]
}

has_jars() { [ -e "$KAFKA_JARS/.complete" ] && [ -e "$HIVEMQ_JARS/.complete" ]; }

# What is removed however this ends.
policy=
work=
trap 'rm -rf ${policy:+"$policy"} ${work:+"$work"}' EXIT

packages=
need() { packages="$packages $1"; }

if have cc && have c++ && have make; then say "C compiler and make: present"; else need build-essential; fi
for tool in cmake perl; do
    if have "$tool"; then say "$tool: present"; else need "$tool"; fi
done
if have pkg-config && pkg-config --exists openssl; then say "OpenSSL: present"; else need pkg-config; need libssl-dev; fi
# With `build` that is all: what it takes to compile Millrace itself.
if [ "${1:-}" != build ]; then
    if have mosquitto; then say "mosquitto: present"; else need mosquitto; fi
    if java_is_recent; then say "java: present"; else need openjdk-17-jre-headless; fi
    # Maven is needed only to fetch the jars.
    if ! has_jars && ! have mvn; then need maven; fi
fi

if [ -n "$packages" ]; then
    have apt-get || fail "missing:$packages; install them with your package manager and run this again"
    [ "$(id -u)" = 0 ] || fail "missing:$packages; run this as root, or: sudo apt-get install$packages"
    say "installing from Debian:$packages"
    export DEBIAN_FRONTEND=noninteractive
    # The tests start their own brokers: no service may start with the package.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    apt-get install -y -qq --no-install-recommends $packages >/dev/null
    if [ -d /run/systemd/system ]; then
        systemctl disable --now mosquitto >/dev/null 2>&1 || true
    fi
fi

[ "${1:-}" != build ] || exit 0

# Where the cluster's tools are built to as well.
HELM_BIN="$CACHE/kind/bin"
if have helm || [ -x "$HELM_BIN/helm" ]; then
    say "helm: present"
elif have go; then
    say "building helm $HELM_VERSION into $HELM_BIN"
    mkdir -p "$HELM_BIN"
    flags="-s -w -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=35"
    CGO_ENABLED=0 GOBIN="$HELM_BIN" go install -trimpath -ldflags "$flags" "helm.sh/helm/v3/cmd/helm@$HELM_VERSION" ||
        fail "helm could not be built"
else
    say "helm: absent, and no Go to build it with; the tests of the chart will be skipped"
fi

# dependency GROUP ARTIFACT VERSION
dependency() {
    echo "<dependency><groupId>$1</groupId><artifactId>$2</artifactId><version>$3</version></dependency>"
}

# jars NAME DIR MAIN DEPENDENCY...: what Maven brings of them goes to DIR, unless it is there; MAIN is a jar that must be.
jars() {
    name=$1 dir=$2 main=$3
    shift 3
    if [ -e "$dir/.complete" ]; then
        say "$name: present in $dir"
        return
    fi
    say "fetching $name into $dir"
    # Complete or absent: the jars are put together beside their place and moved there in one step.
    mkdir -p "$CACHE"
    work=$(mktemp -d "$CACHE/fetch.XXXXXX")
    cat >"$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>dev.millrace</groupId>
  <artifactId>test-deps</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>$*</dependencies>
</project>
POM
    mvn -q -B -ntp -f "$work/pom.xml" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$work/jars" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        fail "Maven could not fetch the jars"
    }
    [ -e "$work/jars/$main" ] || fail "Maven did not deliver $main"
    : >"$work/jars/.complete"
    rm -rf "$dir"
    mv "$work/jars" "$dir"
    rm -rf "$work"
    say "$name: $(find "$dir" -name '*.jar' | wc -l) jars, $(du -sh "$dir" | cut -f1)"
}

# Kafka's distribution brings log4j, its libraries do not: without it nothing is logged.
jars "Apache Kafka $KAFKA_VERSION" "$KAFKA_JARS" "kafka_$SCALA_VERSION-$KAFKA_VERSION.jar" \
    "$(dependency org.apache.kafka "kafka_$SCALA_VERSION" "$KAFKA_VERSION")" \
    "$(dependency org.apache.kafka kafka-tools "$KAFKA_VERSION")" \
    "$(dependency org.apache.logging.log4j log4j-slf4j-impl "$LOG4J_VERSION")"
jars "HiveMQ CE $HIVEMQ_VERSION" "$HIVEMQ_JARS" "hivemq-community-edition-embedded-$HIVEMQ_VERSION.jar" \
    "$(dependency com.hivemq hivemq-community-edition-embedded "$HIVEMQ_VERSION")"
