#!/usr/bin/env bash
# A real Apache Kafka broker for integration tests and the benchmark: one process, KRaft, on loopback, from Maven Central's jars.
# Needs a JDK of 17 or newer and Maven.
#
#   servers/kafka.sh up        install if need be, start, wait until it answers
#   servers/kafka.sh stop      stop it; the data stay
#   servers/kafka.sh wipe      stop it and delete the data
#   servers/kafka.sh topic N   make topic N, of 4 partitions, or of as many as stand behind the name
#   servers/kafka.sh address   what a client needs
#   servers/kafka.sh log       what it says
#
# KAFKA_PORT (19092; another port is another broker, which also takes the port after it), KAFKA_VERSION, KAFKA_HEAP (384m),
# KAFKA_CONFIG (more lines of server.properties), TOCSIN_SERVERS (where it is kept, default ~/.cache/tocsin-servers).
set -euo pipefail

version=${KAFKA_VERSION:-4.4.0}
port=${KAFKA_PORT:-19092}
heap=${KAFKA_HEAP:-384m}
root=${TOCSIN_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/tocsin-servers}
dist=$root/kafka-$version
run=$root/run/kafka-$port
mark=-Dtocsin.servers=kafka-$port
patience=90 # seconds

die() { echo "kafka: $*" >&2; exit 1; }

java_17() {
  local java=${JAVA_HOME:+$JAVA_HOME/bin/}java major
  command -v "$java" >/dev/null || die "no java: install a JDK of 17 or newer, or set JAVA_HOME"
  major=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1)
  [ "${major:-0}" -ge 17 ] || die "needs a JDK of 17 or newer, $java is ${major:-unknown}"
  echo "$java"
}

# install fills a folder beside the final one, which it then becomes in one step, so that a broken download is no installation.
install() {
  [ -d "$dist" ] && return
  java_17 >/dev/null
  command -v mvn >/dev/null || die "no mvn: install Maven"
  mkdir -p "$root"
  local stage
  stage=$(mktemp -d "$root/kafka.XXXXXX")
  cat >"$stage/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>tocsin.servers</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$version</version></dependency>
<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.5</version></dependency>
</dependencies></project>
POM
  cat >"$stage/log4j2.properties" <<LOG
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %c{1} %m%n
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
LOG
  (cd "$stage" && mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$stage/lib") >"$stage/install.log" 2>&1 ||
    { tail -20 "$stage/install.log" >&2; rm -rf "$stage"; die "could not be installed"; }
  if [ -d "$dist" ]; then rm -rf "$stage"; else mv "$stage" "$dist"; fi # another one may have been faster
}

# pid prints the broker's process, if it is one of ours.
pid() {
  local p
  p=$(cat "$run/pid" 2>/dev/null) && kill -0 "$p" 2>/dev/null && ps -o args= -p "$p" | grep -qF -- "$mark" && echo "$p"
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

start() {
  local java
  java=$(java_17)
  answers && die "port $port is taken by something else"
  mkdir -p "$run"
  : >"$run/log"
  cat >"$run/server.properties" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$run/data
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
background.threads=2
${KAFKA_CONFIG:-}
CONF
  local opts=(-cp "$dist/lib/*" -XX:+UseSerialGC "-Dlog4j2.configurationFile=$dist/log4j2.properties")
  if [ ! -f "$run/data/meta.properties" ]; then
    "$java" -Xmx128m "${opts[@]}" kafka.tools.StorageTool format -t dG9jc2luLXNlcnZlcnMtMQ -c "$run/server.properties" >>"$run/log" 2>&1
  fi
  (cd "$run" && exec nohup "$java" "$mark" "-Xms$heap" "-Xmx$heap" "${opts[@]}" kafka.Kafka "$run/server.properties" >>"$run/log" 2>&1 </dev/null) &
  echo $! >"$run/pid"
}

wait_ready() {
  local end=$((SECONDS + patience))
  until answers && grep -q 'Kafka Server started' "$run/log"; do
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

tool() {
  local java
  java=$(java_17)
  "$java" -Xmx128m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$dist/lib/*" "-Dlog4j2.configurationFile=$dist/log4j2.properties" "$@" --bootstrap-server "127.0.0.1:$port"
}

case ${1:-} in
install) install ;;
up) pid >/dev/null || { install; start; }; wait_ready; echo "127.0.0.1:$port" ;;
stop) stop ;;
kill) p=$(pid) && kill -9 "$p" || true; rm -f "$run/pid" ;;
wipe) stop; rm -rf "$run" ;;
topic) tool org.apache.kafka.tools.TopicCommand --create --if-not-exists --topic "$2" --partitions "${3:-4}" --replication-factor 1 ;;
address) echo "127.0.0.1:$port" ;;
log) cat "$run/log" ;;
*) echo "usage: $0 install|up|stop|kill|wipe|topic|address|log" >&2; exit 2 ;;
esac
