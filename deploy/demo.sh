#!/usr/bin/env bash
# One node, one stack, shown at work. On a Debian 12 machine, as root:
#   deploy/demo.sh         installs what it needs, builds, starts a node, deploys and heals a stack
#   deploy/demo.sh down    stops the demo and removes everything it made but the build
set -euo pipefail
cd "$(dirname "$0")/.."

readonly STATE=/var/lib/muster-demo RUN=/run/muster-demo STACK=hello
readonly REGISTRY_PORT=${MUSTER_DEMO_REGISTRY_PORT:-5000} WEB_PORT=${MUSTER_DEMO_WEB_PORT:-8080}
readonly REGISTRY=127.0.0.1:$REGISTRY_PORT
readonly BIN=$PWD/build/release/bin
export MUSTER_SOCKET=unix://$RUN/muster.sock

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
die() { echo "demo: $*" >&2; exit 1; }

# Waits up to $1 seconds for the command to succeed; says $2 and the log if it does not.
await() {
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || die "$what did not happen within $seconds s"
    sleep 0.1
  done
}

is_running() { [[ -s $1 ]] && kill -0 "$(<"$1")" 2>/dev/null; }

stop_process() {  # pid file
  is_running "$1" || { rm -f "$1"; return 0; }
  local pid end=$((SECONDS + 20))
  pid=$(<"$1")
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do
    ((SECONDS < end)) || { kill -9 "$pid"; break; }
    sleep 0.1
  done
  rm -f "$1"
}

down() {
  say 'Stopping the demo'
  if [[ -d $STATE/node && ! -x $BIN/musterd ]]; then
    die "the build is gone, which is needed to end the demo's containers: run deploy/demo.sh first"
  fi
  if is_running $RUN/musterd.pid; then
    "$BIN/muster" swarm leave --force || echo "demo: the node did not leave cleanly" >&2
  fi
  stop_process $RUN/musterd.pid
  stop_process $RUN/registry.pid
  # A musterd that had died, or could not leave, has containers left.
  if [[ -d $STATE/node ]]; then
    "$BIN/musterd" --end-containers --log-level error --data-dir $STATE/node \
      --socket $RUN/muster.sock
  fi
  rm -rf --one-file-system $STATE $RUN
  echo 'Nothing of it is left but the build.'
}

# Somebody else's server on the port would answer in the place of ours.
check_port() {  # port, the variable that chooses another one
  ! ss -Hltn "sport = :$1" | grep -q . || die "port $1 is in use; choose another one with $2=PORT"
}

start_registry() {
  is_running $RUN/registry.pid && return
  check_port "$REGISTRY_PORT" MUSTER_DEMO_REGISTRY_PORT
  cat >$RUN/registry.yml <<CONFIG
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $STATE/registry}, delete: {enabled: true}}
http: {addr: $REGISTRY}
CONFIG
  setsid docker-registry serve $RUN/registry.yml >$STATE/registry.log 2>&1 </dev/null &
  echo $! >$RUN/registry.pid
  await 10 "the registry on $REGISTRY" curl -fsS "http://$REGISTRY/v2/"
}

start_node() {
  is_running $RUN/musterd.pid && return
  check_port "$WEB_PORT" MUSTER_DEMO_WEB_PORT
  setsid "$BIN/musterd" --data-dir $STATE/node --socket $RUN/muster.sock \
    >>$STATE/musterd.log 2>&1 </dev/null &
  echo $! >$RUN/musterd.pid
  await 15 "musterd (see $STATE/musterd.log)" "$BIN/muster" version
}

replicas_answer() {  # prints the different answers of the published port
  for _ in $(seq 12); do curl -fsS -m 3 "http://127.0.0.1:$WEB_PORT/"; done | sort | uniq -c
}
all_running() { [[ $("$BIN/muster" service ls --filter name=${STACK}_web --format '{{.Replicas}}') == "$1/$1" ]]; }

# Three run, and the given process is none of them. The service's count alone is also right in the
# moment before the end of a container is known.
is_replaced() {
  local pids
  pids=$(muster ps --filter "name=${STACK}_web" --format '{{.Pid}}')
  all_running 3 && (($(wc -l <<<"$pids") == 3)) && ! grep -qx "$1" <<<"$pids"
}

case ${1:-up} in
  up) ;;
  down) ((EUID == 0)) || die 'needs root'; down; exit ;;
  *) echo "usage: deploy/demo.sh [up|down]" >&2; exit 2 ;;
esac
((EUID == 0)) || die 'needs root, for containers and network namespaces'

say 'Installing what is missing'
deploy/packaging/install.sh run build demo
say 'Building (a few minutes the first time)'
cmake --preset release >/dev/null
cmake --build --preset release --target muster musterd muster-runtime-shim

mkdir -p $STATE $RUN
say 'A registry with three small images made of Debian packages'
start_registry
deploy/packaging/images/build.sh --out $STATE/images --push "$REGISTRY" busybox hello redis

say 'A node'
start_node
export PATH=$BIN:$PATH
if [[ $(muster info --format '{{.Swarm.LocalNodeState}}') != active ]]; then
  run muster swarm init --advertise-addr 127.0.0.1
fi

say 'A stack'
export REGISTRY WEB_PORT
run muster stack deploy --detach=false -c deploy/examples/hello/compose.yml $STACK
run muster stack services $STACK

say "The published port answers from every replica"
replicas_answer

say 'One container is killed'
task=$(muster ps --filter "name=${STACK}_web" -q | head -1)
pid=$(muster ps --filter "id=$task" --format '{{.Pid}}')
echo "$ kill -9 $pid"
kill -9 "$pid"
await 10 'the end of the killed replica' bash -c "! kill -0 $pid"
await 30 'its replacement' is_replaced "$pid"
run muster service ps ${STACK}_web
replicas_answer

say 'Look around'
cat <<HINTS
  export PATH=$BIN:\$PATH MUSTER_SOCKET=$MUSTER_SOCKET
  muster service ls
  muster service scale ${STACK}_web=6
  muster service logs ${STACK}_web
  muster exec -it ${STACK}_web.1 sh
  curl http://127.0.0.1:$WEB_PORT/

and to stop, leaving nothing behind:

  deploy/demo.sh down
HINTS
