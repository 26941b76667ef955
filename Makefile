# What a person runs, on Debian 12: `make demo` needs Rust, `make test` Rust and Go.
.DEFAULT_GOAL := help
CARGO ?= cargo
# What is compiled for the image. With `--bins --tests` dependencies have the features that tests need: those that were
# compiled for tests are not compiled again.
IMAGE_TARGETS ?= --bins
# Tests in a cluster that are longer forms of others, or of what changes seldom: `make e2e-full` alone runs them.
LONG = answers_reach topics_grow every_step twenty_times of_a_share_group no_fault_of_nodes operator_that_is_away another_image no_secret_value

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build-deps
build-deps: ## from Debian: a C compiler and OpenSSL, for librdkafka
	scripts/test-deps.sh build

.PHONY: demo
demo: build-deps ## build and run the whole thing: broker, Kafka, a plant, the bridge, and the count at the end
	$(CARGO) run --release -p millrace -- demo

.PHONY: test
test: test-deps ## install what the tests need, and run them: here, and in a cluster made for them all but the longest
	e2e/kind/build binaries
	$(CARGO) test --release --workspace --no-fail-fast
	e2e/run $(LONG:%=--skip %)

.PHONY: test-deps
test-deps: ## mosquitto and Java from Debian, Kafka and HiveMQ from Maven, helm from its Go module
	scripts/test-deps.sh

.PHONY: check
check: ## formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

.PHONY: bench
bench: test-deps ## the figures of README, about 15 minutes on a quiet machine
	$(CARGO) build --release -p bridge-worker -p millrace-bench
	target/release/millrace-bench all

.PHONY: bench-quick
bench-quick: test-deps ## the same in about 2 minutes, one run each
	$(CARGO) build --release -p bridge-worker -p millrace-bench
	target/release/millrace-bench all --quick --no-fail

.PHONY: campaign
campaign: test-deps ## the long forms of the fault tests and of rotation, about three quarters of an hour
	MILLRACE_CAMPAIGN=long $(CARGO) test --release -p bridge-worker --test brokers --test outage --test rotation -- --include-ignored

.PHONY: campaign-api
campaign-api: test-deps ## 500 routes, 10,000 sequences and a kill after every write, against a real API server
	e2e/kind/build binaries
	MILLRACE_CAMPAIGN=long $(CARGO) test --release --workspace --test api_server -- --nocapture

.PHONY: fuzz
fuzz: ## every fuzz target for five minutes, on stable Rust
	MILLRACE_FUZZ_SECONDS=300 $(CARGO) test --release -p millrace-fuzz -- --nocapture

.PHONY: crds
crds: ## write crds/*.yaml, and the copies in the chart, anew from the types
	UPDATE=1 $(CARGO) test --release -p millrace-crds --test crds

.PHONY: chart-readme
chart-readme: ## write the values in the chart's README anew from values.yaml
	UPDATE=1 $(CARGO) test --release -p millrace-crds --test chart values::

.PHONY: deny
deny: ## licences, sources, duplicates and advisories of dependencies (needs cargo-deny, and GitHub for the last)
	$(CARGO) deny check licenses bans sources
	$(CARGO) deny check advisories

.PHONY: reproducible
reproducible: build-deps ## compile the worker twice as for a release, in two folders, and compare (needs cargo-auditable)
	scripts/reproducible.sh

.PHONY: release
release: build-deps ## what a release would publish, in target/release-artifacts; signed if MILLRACE_SIGNING_KEY names a key
	scripts/release.sh

.PHONY: image
image: ## the product's image, millrace.dev/millrace:local
	$(CARGO) build --release --workspace $(IMAGE_TARGETS)
	scripts/image.sh

.PHONY: e2e
e2e: test-deps ## the tests in a cluster of three nodes that is made for them, but for the longest
	e2e/run $(LONG:%=--skip %)

.PHONY: e2e-full
e2e-full: test-deps ## all of them; how they went is written to e2e/results.md
	RESULTS=e2e/results.md e2e/run

.PHONY: kind-up
kind-up: ## a cluster of three nodes on this machine (the first time it is built: see e2e/README.md)
	e2e/kind/up

.PHONY: kind-load
kind-load: image ## into that cluster: the product's image, a mosquitto and a Kafka
	e2e/kind/load millrace.dev/millrace:local
	e2e/kind/build images
	e2e/kind/load --nodes control-plane millrace.dev/e2e/mosquitto:2.0.11 millrace.dev/e2e/kafka:4.1.1

.PHONY: kind-down
kind-down: ## delete that cluster
	e2e/kind/down
