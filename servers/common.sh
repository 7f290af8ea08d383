# What servers have in common: they are installed, started, waited for and stopped. A script sets `name` and `port`, sources this, sets
# `dist`, defines install_here, prepare, launch, ready and address, and ends with `main "$@"`; `also` are verbs of its own.
#
# TOCSIN_SERVERS is where everything is kept, default ~/.cache/tocsin-servers. Another port is another server.
# shellcheck shell=bash disable=SC2154,SC2034,SC2086
set -euo pipefail

root=${TOCSIN_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/tocsin-servers}
run=$root/run/$name-$port
mark=-Dtocsin.servers=$name-$port
patience=180 # seconds

die() { echo "$name: $*" >&2; exit 1; }

# need_java sets java and major, its version.
need_java() {
  java=${JAVA_HOME:+$JAVA_HOME/bin/}java
  command -v "$java" >/dev/null || die "no java: install a JDK of 17 or newer, or set JAVA_HOME"
  major=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1)
  [ "${major:-0}" -ge 17 ] || die "needs a JDK of 17 or newer, $java is ${major:-unknown}"
}

# needs fails when something is missing that the server is run with, or fetched with if it has to be.
needs() { need_java; [ -d "$dist" ] || command -v mvn >/dev/null || die "no mvn: install Maven"; }

# maven runs a goal of Maven's dependency plugin.
maven() { mvn -B -q "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:$1" "${@:2}"; }

# install has install_here fill a folder beside the final one, which it then becomes in one step: a broken download is no installation.
install() {
  [ -d "$dist" ] && return
  mkdir -p "$root"
  local stage
  stage=$(mktemp -d "$root/$name.XXXXXX")
  (cd "$stage" && install_here) >"$stage/install.log" 2>&1 || { tail -20 "$stage/install.log" >&2; rm -rf "$stage"; die "could not be installed"; }
  if [ -d "$dist" ]; then rm -rf "$stage"; else mv "$stage" "$dist"; fi # another one may have been faster
}

# pid prints the server's process, if it is one of ours.
pid() {
  local p
  p=$(cat "$run/pid" 2>/dev/null) && ps -o args= -p "$p" 2>/dev/null | grep -qF -- "$mark" && echo "$p"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

# gets says whether a path is answered with 2xx.
gets() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
    printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$1" >&3
    IFS= read -r -t 5 line <&3 || exit 1
    case $line in HTTP/1.?\ 2*) ;; *) exit 1 ;; esac
  ) 2>/dev/null
}

start() {
  listens && die "port $port is taken by something else"
  mkdir -p "$run"
  : >"$run/log"
  prepare >>"$run/log" 2>&1 || { tail -20 "$run/log" >&2; die "it could not be prepared"; }
  (cd "$run" && launch >>"$run/log" 2>&1 </dev/null) &
  echo $! >"$run/pid"
  until pid >/dev/null || ! kill -0 $! 2>/dev/null; do sleep 0.05; done # it is another program for a moment
}

up() {
  needs
  pid >/dev/null || { install; start; }
  local end=$((SECONDS + patience))
  until ready; do
    pid >/dev/null || { tail -20 "$run/log" >&2; die "it did not start"; }
    [ $SECONDS -lt $end ] || { tail -20 "$run/log" >&2; die "not ready after $patience s"; }
    sleep 0.2
  done
  address
}

# stop ends the server with a signal, TERM if none is named, and waits until it is gone.
stop() {
  local p children
  if p=$(pid); then
    children=$(pgrep -P "$p" || true) # which a launcher that is killed leaves behind
    [ "${1:-}" != KILL ] || kill -9 $children 2>/dev/null || true
    kill "-${1:-TERM}" "$p" 2>/dev/null || true
    for _ in $(seq 150); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$p" $children 2>/dev/null || true
    for _ in $(seq 100); do kill -0 "$p" 2>/dev/null || break; sleep 0.05; done
  fi
  rm -f "$run/pid"
}

also() { return 1; }

main() {
  case ${1:-} in
    install) needs; install ;;
    up) up ;;
    stop) stop ;;
    kill) stop KILL ;;
    wipe) stop; rm -rf "$run" ;;
    address) address ;;
    log) cat "$run/log" ;;
    *) also "$@" || { echo "usage: $0 install|up|stop|kill|wipe|address|log" >&2; exit 2; } ;;
  esac
}
