# The product's image: three programs, one user, nothing else. Two ways to the same result, for amd64 and arm64:
#
#   docker buildx build --platform linux/amd64,linux/arm64 -t millrace.dev/millrace:local .
#                      compiles in here; needs base images that can be pulled
#   make image         takes programs that were compiled outside, and a base made of Debian packages where none can be
#                      pulled (scripts/image.sh: --target prebuilt)
ARG BASE=gcr.io/distroless/cc-debian12

FROM ${BASE} AS base
USER 65532:65532

# Stands before `build`, so that the builder that knows no skipping does not try to pull Rust for it.
FROM base AS prebuilt
COPY . /

FROM rust:1-bookworm AS build
# librdkafka is built by CMake.
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The list of what ships; scripts/image.sh reads it here.
ARG PROGRAMS="bridge-worker millrace-operator millrace"
# BuildKit sets it from --build-arg or from its environment: the time that what is made bears.
ARG SOURCE_DATE_EPOCH
# What is in the base, for the bill of materials.
COPY --from=base /usr/lib/os-release /base/usr/lib/os-release
COPY --from=base /var/lib/dpkg/status.d/ /base/var/lib/dpkg/status.d/
# The target folder is no part of the image, and kept between builds by BuildKit's cache mounts.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo install --locked cargo-auditable@0.7.7 && scripts/compile.sh target && \
    mkdir -p /image/usr/local/bin /image/usr/share/sbom && \
    for program in $PROGRAMS; do strip -o "/image/usr/local/bin/$program" "target/release/$program" || exit 1; done && \
    target/release/millrace-sbom image --base /base /image/usr/local/bin/* > /image/usr/share/sbom/millrace.cdx.json

FROM base
COPY --from=build /image/ /
