#!/usr/bin/env bash
# BigQuery's emulator (github.com/goccy/bigquery-emulator) on loopback, REST and gRPC, for types, SQL and the form of calls. It keeps a row
# that comes twice with one insert id or offset, which the service does not, and knows no BQML: it is no witness of "once".
# Needs Go only; the first time it is compiled, which takes 8 minutes of CPU and 7 GB of memory. All it holds is gone when it stops.
#
#   servers/bigquery.sh up        install if need be, start, wait until it answers; prints its addresses, REST and gRPC
#   servers/bigquery.sh stop      stop it; kill: at once
#   servers/bigquery.sh wipe      the same as stop
#   servers/bigquery.sh address   what a client needs
#   servers/bigquery.sh log       what it says
#
# BIGQUERY_PORT (19050; it also takes the port 10 after it), BIGQUERY_VERSION; common.sh says where it is kept.
name=bigquery port=${BIGQUERY_PORT:-19050}
. "$(dirname "$0")/common.sh"
version=${BIGQUERY_VERSION:-v0.8.1}
dist=$root/bigquery-emulator-$version
mark="--port=$port --grpc-port=$((port + 10))"

needs() { command -v go >/dev/null || die "no go: install Go"; }

# A copy of the module is built, for its own go.mod and go.sum say what it is built of; the cache of a build this large is not kept.
install_here() {
  local from
  export GOFLAGS= GOWORK=off CGO_ENABLED=0 GOCACHE=$PWD/cache
  from=$(go mod download -json "github.com/goccy/bigquery-emulator@$version" | sed -n 's/^\t*"Dir": "\(.*\)",*$/\1/p') && [ -n "$from" ] &&
    cp -R "$from" source && chmod -R u+w source &&
    (cd source && go build -trimpath -ldflags='-s -w' -o ../bigquery-emulator ./cmd/bigquery-emulator) && rm -rf source cache
}

prepare() { :; }

launch() {
  # shellcheck disable=SC2086
  exec nohup "$dist/bigquery-emulator" --project=tocsin --host=127.0.0.1 $mark
}

ready() { gets /bigquery/v2/projects/tocsin/datasets; }

address() { echo "http://127.0.0.1:$port 127.0.0.1:$((port + 10))"; }

main "$@"
