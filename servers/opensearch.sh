#!/usr/bin/env bash
# A real OpenSearch for the integration tests: one node on loopback, no security, from the distribution without plugins on Maven Central.
# Needs a JDK of 17 or newer, Maven and unzip.
#
#   servers/opensearch.sh up        install if need be, start, wait until it answers; prints its address
#   servers/opensearch.sh stop      stop it; kill: at once; the data stay
#   servers/opensearch.sh wipe      stop it and delete the data
#   servers/opensearch.sh address   what a client needs
#   servers/opensearch.sh log       what it says
#
# OPENSEARCH_PORT (19200; it also takes the port 100 after it), OPENSEARCH_VERSION; common.sh says where it is kept.
name=opensearch port=${OPENSEARCH_PORT:-19200}
. "$(dirname "$0")/common.sh"
version=${OPENSEARCH_VERSION:-2.19.6}
dist=$root/opensearch-$version
home=$dist/opensearch-$version

# The server's own main refuses root, as which CI often runs; opening its Node does not.
install_here() {
  maven copy -Dartifact="org.opensearch.distribution.integ-test-zip:opensearch:$version:zip" -DoutputDirectory="$PWD" &&
    unzip -q "opensearch-$version.zip" && rm "opensearch-$version.zip" &&
    cat >Start.java <<'JAVA' && javac -cp "opensearch-$version/lib/*" -d start Start.java
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
}

prepare() {
  mkdir -p "$run/config"
  printf '%s\n' "cluster.name: tocsin-$port" "node.name: tocsin" "discovery.type: single-node" "network.host: 127.0.0.1" "http.port: $port" \
    "transport.port: $((port + 100))" "path.data: $run/data" "path.logs: $run/logs" "node.store.allow_mmap: false" \
    "cluster.routing.allocation.disk.threshold_enabled: false" >"$run/config/opensearch.yml"
  printf '%s\n' "rootLogger.level = warn" "rootLogger.appenderRef.console.ref = console" "appender.console.type = Console" \
    "appender.console.name = console" "appender.console.layout.type = PatternLayout" "appender.console.layout.pattern = %d %p %c{1.} %m%n" \
    >"$run/config/log4j2.properties"
}

launch() {
  exec nohup "$java" "$mark" -Xms512m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true -Dlog4j2.disable.jmx=true \
    -cp "$dist/start:$home/lib/*" Start "$home" "$run/config"
}

ready() { gets '/_cluster/health?wait_for_status=yellow&timeout=1s'; }

address() { echo "http://127.0.0.1:$port"; }

main "$@"
