#!/usr/bin/env bash
# A real Elasticsearch 8 for the integration tests: one node on loopback, no security, from the distribution on Maven Central, which lacks most
# modules (no scripts, no ingest processors, no data streams' API). Needs a JDK of 17 or newer, Maven and unzip, and of root user namespaces.
#
#   servers/elasticsearch.sh up        install if need be, start, wait until it answers; prints its address
#   servers/elasticsearch.sh stop      stop it; kill: at once; the data stay
#   servers/elasticsearch.sh wipe      stop it and delete the data
#   servers/elasticsearch.sh address   what a client needs
#   servers/elasticsearch.sh log       what it says
#   servers/elasticsearch.sh possible  fails, and says why, where it cannot be started
#
# ELASTICSEARCH_PORT (19210; it also takes the port 100 after it), ELASTICSEARCH_VERSION; common.sh says where it is kept.
# Its licences (AGPL, SSPL, Elastic's) allow it in tests; nothing of it is shipped.
name=elasticsearch port=${ELASTICSEARCH_PORT:-19210}
. "$(dirname "$0")/common.sh"
version=${ELASTICSEARCH_VERSION:-8.19.21}
dist=$root/elasticsearch-$version

# It refuses root, as which CI often runs: in a user namespace it is somebody else.
as=()
[ "$(id -u)" != 0 ] || as=(unshare --user --map-user=1000 --map-group=1000)

possible() { [ ${#as[@]} = 0 ] || "${as[@]}" true 2>/dev/null || die "it does not run as root, and there are no user namespaces here"; }

needs() {
  need_java
  possible
  [ -d "$dist" ] || command -v mvn >/dev/null || die "no mvn: install Maven"
}

install_here() {
  maven copy -Dartifact="org.elasticsearch.distribution.integ-test-zip:elasticsearch:$version:zip" -DoutputDirectory="$PWD" &&
    unzip -q "elasticsearch-$version.zip" && rm "elasticsearch-$version.zip"
}

prepare() {
  mkdir -p "$run/config/jvm.options.d" "$run/tmp"
  printf '%s\n' "cluster.name: tocsin-$port" "node.name: tocsin" "discovery.type: single-node" "network.host: 127.0.0.1" "http.port: $port" \
    "transport.port: $((port + 100))" "path.data: $run/data" "path.logs: $run/logs" "node.store.allow_mmap: false" \
    "cluster.routing.allocation.disk.threshold_enabled: false" "action.destructive_requires_name: false" "xpack.security.enabled: false" >"$run/config/elasticsearch.yml"
  printf '%s\n' -Xms512m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 >"$run/config/jvm.options"
  printf '%s\n' "rootLogger.level = warn" "rootLogger.appenderRef.console.ref = console" "appender.console.type = Console" \
    "appender.console.name = console" "appender.console.layout.type = PatternLayout" "appender.console.layout.pattern = %d %p %c{1.} %m%n" \
    >"$run/config/log4j2.properties"
}

# What is started is a launcher, whose child is the server; both carry the mark.
launch() {
  java=$(readlink -f "$(command -v "$java")")
  export ES_PATH_CONF=$run/config ES_TMPDIR=$run/tmp ES_JAVA_HOME=${java%/bin/java} ES_JAVA_OPTS=$mark CLI_JAVA_OPTS="-Xmx64m $mark"
  exec nohup "${as[@]}" bash "$dist/elasticsearch-$version/bin/elasticsearch"
}

ready() { gets '/_cluster/health?wait_for_status=yellow&timeout=1s'; }

address() { echo "http://127.0.0.1:$port"; }

also() { [ "${1:-}" = possible ] && possible; }

main "$@"
