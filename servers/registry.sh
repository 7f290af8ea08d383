#!/usr/bin/env bash
# A real schema registry with Confluent's API for integration tests: Apicurio Registry from Maven Central, in memory, on loopback: what
# is registered is gone when it stops. Needs a JDK of 17 or newer (21 or newer gets Apicurio 3) and Maven.
#
#   servers/registry.sh up        install if need be, start, wait until it answers; prints its address
#   servers/registry.sh stop      stop it; kill: at once
#   servers/registry.sh wipe      the same as stop
#   servers/registry.sh address   what a client needs
#   servers/registry.sh log       what it says
#
# REGISTRY_PORT (18081; it also takes the port after it), REGISTRY_VERSION, REGISTRY_HEAP (256m); common.sh says where it is kept.
name=registry port=${REGISTRY_PORT:-18081}
. "$(dirname "$0")/common.sh"
need_java
version=${REGISTRY_VERSION:-$([ "$major" -ge 21 ] && echo 3.3.3 || echo 2.6.13.Final)}
dist=$root/apicurio-$version

install_here() {
  maven copy -Dartifact="io.apicurio:apicurio-registry-app:$version:tar.gz:all" -DoutputDirectory="$PWD" &&
    tar xzf ./*.tar.gz && rm ./*.tar.gz && ln -s ./*run*.jar registry.jar
}

prepare() { :; }

launch() {
  exec nohup "$java" "$mark" "-Xmx${REGISTRY_HEAP:-256m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=$port" \
    -Dquarkus.management.host=127.0.0.1 "-Dquarkus.management.port=$((port + 1))" -Dquarkus.http.access-log.enabled=false \
    -Dregistry.access.log.enabled=false -jar "$dist/registry.jar"
}

ready() { gets /apis/ccompat/v7/subjects; }

address() { echo "http://127.0.0.1:$port/apis/ccompat/v7"; }

main "$@"
