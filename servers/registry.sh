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
# REGISTRY_PORT (18081; another port is another registry, which also takes the port after it), REGISTRY_VERSION, REGISTRY_HEAP (256m),
# TOCSIN_SERVERS (where it is kept, default ~/.cache/tocsin-servers).
set -euo pipefail

die() { echo "registry: $*" >&2; exit 1; }

java=${JAVA_HOME:+$JAVA_HOME/bin/}java
command -v "$java" >/dev/null || die "no java: install a JDK of 17 or newer, or set JAVA_HOME"
major=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1)
[ "${major:-0}" -ge 17 ] || die "needs a JDK of 17 or newer, $java is ${major:-unknown}"

version=${REGISTRY_VERSION:-$([ "$major" -ge 21 ] && echo 3.3.3 || echo 2.6.13.Final)}
port=${REGISTRY_PORT:-18081}
heap=${REGISTRY_HEAP:-256m}
root=${TOCSIN_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/tocsin-servers}
dist=$root/apicurio-$version
run=$root/run/registry-$port
mark=-Dtocsin.servers=registry-$port
patience=90 # seconds

# install fills a folder beside the final one, which it then becomes in one step, so that a broken download is no installation.
install() {
  [ -d "$dist" ] && return
  command -v mvn >/dev/null || die "no mvn: install Maven"
  mkdir -p "$root"
  local stage
  stage=$(mktemp -d "$root/registry.XXXXXX")
  (cd "$stage" && mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
    -Dartifact="io.apicurio:apicurio-registry-app:$version:tar.gz:all" -DoutputDirectory="$stage" &&
    tar xzf ./*.tar.gz && rm ./*.tar.gz && ln -s ./*run*.jar registry.jar) >"$stage/install.log" 2>&1 ||
    { tail -20 "$stage/install.log" >&2; rm -rf "$stage"; die "could not be installed"; }
  if [ -d "$dist" ]; then rm -rf "$stage"; else mv "$stage" "$dist"; fi # another one may have been faster
}

# pid prints the registry's process, if it is one of ours.
pid() {
  local p
  p=$(cat "$run/pid" 2>/dev/null) && kill -0 "$p" 2>/dev/null && ps -o args= -p "$p" | grep -qF -- "$mark" && echo "$p"
}

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

answers() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
    printf 'GET /apis/ccompat/v7/subjects HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
    IFS= read -r -t 5 line <&3 || exit 1
    case $line in HTTP/1.?\ 2*) ;; *) exit 1 ;; esac
  ) 2>/dev/null
}

start() {
  taken && die "port $port is taken by something else"
  mkdir -p "$run"
  (cd "$run" && exec nohup "$java" "$mark" "-Xmx$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=$port" \
    -Dquarkus.management.host=127.0.0.1 "-Dquarkus.management.port=$((port + 1))" -Dquarkus.http.access-log.enabled=false \
    -Dregistry.access.log.enabled=false -jar "$dist/registry.jar" >"$run/log" 2>&1 </dev/null) &
  echo $! >"$run/pid"
}

wait_ready() {
  local end=$((SECONDS + patience))
  until answers; do
    pid >/dev/null || { tail -20 "$run/log" >&2; die "it did not start"; }
    [ $SECONDS -lt $end ] || { tail -20 "$run/log" >&2; die "not ready after $patience s"; }
    sleep 0.2
  done
}

stop() {
  local p
  if p=$(pid); then
    kill "$p" 2>/dev/null || true
    for _ in $(seq 1 150); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$p" 2>/dev/null || true
  fi
  rm -f "$run/pid"
}

address() { echo "http://127.0.0.1:$port/apis/ccompat/v7"; }

case ${1:-} in
install) install ;;
up) pid >/dev/null || { install; start; }; wait_ready; address ;;
stop) stop ;;
kill) p=$(pid) && kill -9 "$p" || true; rm -f "$run/pid" ;;
wipe) stop; rm -rf "$run" ;;
address) address ;;
log) cat "$run/log" ;;
*) echo "usage: $0 install|up|stop|kill|wipe|address|log" >&2; exit 2 ;;
esac
