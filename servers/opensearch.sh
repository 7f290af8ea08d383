#!/usr/bin/env bash
# A real OpenSearch for the integration tests: one node on loopback, no security, from the distribution without plugins on Maven Central.
# Needs bash, unzip, Maven and a JDK (17 or newer). What is fetched and what it writes is under $TOCSIN_IT_DIR.
#
#   servers/opensearch.sh up        fetch if need be, start, wait until it answers; prints its address
#   servers/opensearch.sh stop      ends it; kill: at once; the data stay
#   servers/opensearch.sh wipe      stop, and remove the data
set -euo pipefail
version=${OPENSEARCH_VERSION:-2.19.6}
port=${OPENSEARCH_PORT:-19200}
cache=${TOCSIN_IT_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/tocsin-it}
home=$cache/opensearch-$version
run=$cache/opensearch-run-$port
mark=-Dtocsin.opensearch=$port

say() { echo "opensearch: $*" >&2; }
alive() { [ -s "$run/pid" ] && ps -o args= -p "$(cat "$run/pid")" 2>/dev/null | grep -qF -- "$mark"; }

# The server's own main refuses root, as which CI often runs; opening its Node does not.
fetch() {
  [ -d "$home" ] && return
  local new; new=$(mktemp -d "$cache/fetch.XXXXXX")
  ${MVN:-mvn} -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
    -Dartifact="org.opensearch.distribution.integ-test-zip:opensearch:$version:zip" -DoutputDirectory="$new" >&2
  unzip -q "$new/opensearch-$version.zip" -d "$new"
  rm "$new/opensearch-$version.zip"
  cat >"$new/Start.java" <<'JAVA'
import java.nio.file.Path;
import java.util.Map;
import org.opensearch.common.logging.LogConfigurator;
import org.opensearch.common.settings.Settings;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;

public final class Start {
    public static void main(String[] dirs) throws Exception {
        Settings home = Settings.builder().put("path.home", dirs[0]).build();
        LogConfigurator.registerErrorListener();
        LogConfigurator.setNodeName("tocsin");
        var env = InternalSettingsPreparer.prepareEnvironment(home, Map.of(), Path.of(dirs[1]), () -> "tocsin");
        LogConfigurator.configure(env);
        Node node = new Node(env);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> { try { node.close(); } catch (Exception e) { throw new RuntimeException(e); } }));
        node.start();
        Thread.currentThread().join();
    }
}
JAVA
  javac -cp "$new/opensearch-$version/lib/*" -d "$new/start" "$new/Start.java"
  mv "$new" "$home" 2>/dev/null || rm -rf "$new" # somebody else was faster
}

start() {
  mkdir -p "$run/config"
  printf '%s\n' "cluster.name: tocsin-$port" "node.name: tocsin" "discovery.type: single-node" "network.host: 127.0.0.1" "http.port: $port" \
    "transport.port: $((port + 100))" "path.data: $run/data" "path.logs: $run/logs" "node.store.allow_mmap: false" \
    "cluster.routing.allocation.disk.threshold_enabled: false" >"$run/config/opensearch.yml"
  printf '%s\n' "rootLogger.level = warn" "rootLogger.appenderRef.console.ref = console" "appender.console.type = Console" \
    "appender.console.name = console" "appender.console.layout.type = PatternLayout" "appender.console.layout.pattern = %d %p %c{1.} %m%n" \
    >"$run/config/log4j2.properties"
  cd "$run"
  nohup java "$mark" -Xms512m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true -Dlog4j2.disable.jmx=true \
    -cp "$home/start:$home/opensearch-$version/lib/*" Start "$home/opensearch-$version" "$run/config" >>"$run/log" 2>&1 </dev/null &
  echo $! >"$run/pid"
}

answers() {
  (exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET /_cluster/health?wait_for_status=yellow&timeout=1s HTTP/1.0\r\n\r\n' >&3 &&
    IFS= read -r -t 5 line <&3 && [[ $line == HTTP/1.?\ 200* ]]) 2>/dev/null
}

up() {
  alive || { fetch; start; }
  for _ in $(seq 900); do
    answers && { echo "http://127.0.0.1:$port"; return; }
    alive || { tail -20 "$run/log" >&2; say "it ended; see above"; exit 1; }
    sleep 0.2
  done
  say "no answer after three minutes; see $run/log"; exit 1
}

stop() {
  alive || return 0
  local pid; pid=$(cat "$run/pid")
  kill "-${1:-TERM}" "$pid"
  for _ in $(seq 150); do alive || return 0; sleep 0.1; done
  kill -9 "$pid"
}

mkdir -p "$cache"
case ${1:-} in
  up) up ;;
  stop) stop ;;
  kill) stop KILL ;;
  wipe) stop; rm -rf "$run" ;;
  *) say "usage: $0 up|stop|kill|wipe"; exit 2 ;;
esac
