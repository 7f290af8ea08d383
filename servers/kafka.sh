#!/usr/bin/env bash
# A real Apache Kafka broker for integration tests and the benchmark: one process, KRaft, on loopback, from Maven Central's jars.
# Needs a JDK of 17 or newer and Maven.
#
#   servers/kafka.sh up        install if need be, start, wait until it answers; prints what a client needs
#   servers/kafka.sh stop      stop it; kill: at once; the data stay
#   servers/kafka.sh wipe      stop it and delete the data
#   servers/kafka.sh topic N   make topic N, of 4 partitions, or of as many as stand behind the name
#   servers/kafka.sh address   what a client needs
#   servers/kafka.sh log       what it says
#
# KAFKA_PORT (19092; it also takes the port after it), KAFKA_VERSION, KAFKA_HEAP (384m), KAFKA_CONFIG (more lines of server.properties);
# common.sh says where it is kept.
name=kafka port=${KAFKA_PORT:-19092}
. "$(dirname "$0")/common.sh"
version=${KAFKA_VERSION:-4.4.0}
dist=$root/kafka-$version
options=(-cp "$dist/lib/*" -XX:+UseSerialGC "-Dlog4j2.configurationFile=$dist/log4j2.properties")

install_here() {
  cat >pom.xml <<POM &&
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>tocsin.servers</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$version</version></dependency>
<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.5</version></dependency>
</dependencies></project>
POM
  cat >log4j2.properties <<LOG &&
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %c{1} %m%n
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
LOG
  maven copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/lib"
}

prepare() {
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
  [ -f "$run/data/meta.properties" ] ||
    "$java" -Xmx128m "${options[@]}" kafka.tools.StorageTool format -t dG9jc2luLXNlcnZlcnMtMQ -c "$run/server.properties"
}

launch() { exec nohup "$java" "$mark" "-Xms${KAFKA_HEAP:-384m}" "-Xmx${KAFKA_HEAP:-384m}" "${options[@]}" kafka.Kafka "$run/server.properties"; }

ready() { listens && grep -q 'Kafka Server started' "$run/log"; }

address() { echo "127.0.0.1:$port"; }

also() {
  [ "${1:-}" = topic ] || return
  need_java
  "$java" -Xmx128m -XX:TieredStopAtLevel=1 "${options[@]}" org.apache.kafka.tools.TopicCommand --create --if-not-exists --topic "$2" \
    --partitions "${3:-4}" --replication-factor 1 --bootstrap-server "127.0.0.1:$port" || exit
}

main "$@"
