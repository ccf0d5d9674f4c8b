#!/usr/bin/env bash
# One node, one stack, shown at work. On a Debian 12 machine, as root:
#   deploy/demo.sh         installs what it needs, builds, starts a node, deploys a voting
#                          application of five services, heals it, and updates it: once in vain
#   deploy/demo.sh down    stops the demo and removes everything it made but the build
set -euo pipefail
cd "$(dirname "$0")/.."

readonly STATE=/var/lib/muster-demo RUN=/run/muster-demo STACK=voting
readonly COMPOSE=deploy/examples/voting/compose.yml
readonly REGISTRY_PORT=${MUSTER_DEMO_REGISTRY_PORT:-5000} WEB_PORT=${MUSTER_DEMO_WEB_PORT:-8080}
readonly RESULT_PORT=${MUSTER_DEMO_RESULT_PORT:-8081}
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
  check_port "$RESULT_PORT" MUSTER_DEMO_RESULT_PORT
  setsid "$BIN/musterd" --data-dir $STATE/node --socket $RUN/muster.sock \
    >>$STATE/musterd.log 2>&1 </dev/null &
  echo $! >$RUN/musterd.pid
  await 15 "musterd (see $STATE/musterd.log)" "$BIN/muster" version
}

page() { curl -fsS -m 3 "http://127.0.0.1:$WEB_PORT/" "$@"; }
result() { curl -fsS -m 3 "http://127.0.0.1:$RESULT_PORT/?text"; }
counted() { [[ $(result) == "$1" ]]; }

# Prints the versions and containers that answer on the published port.
who_answers() {
  for _ in $(seq 12); do page | sed -n 's/.*<small>\(.*\)<\/small>.*/\1/p'; done | sort | uniq -c
}

# Asks for the page until stop_asking, and then says how often it did not come.
start_asking() {
  rm -f $RUN/asking.*
  (
    asked=0 failed=0
    while [[ ! -e $RUN/asking.stop ]]; do
      page >/dev/null 2>&1 || failed=$((failed + 1))
      asked=$((asked + 1))
      sleep 0.02
    done
    echo "$asked requests meanwhile, $failed of them failed"
  ) >$RUN/asking.log &
  asking=$!
}
stop_asking() { touch $RUN/asking.stop; wait "$asking"; cat $RUN/asking.log; rm -f $RUN/asking.*; }

# Runs in another container than before. The service's count alone is also right in the moment
# before the end of a container is known.
is_replaced() {  # service, process id
  local pid
  pid=$(muster ps --filter "name=${STACK}_$1" --format '{{.Pid}}')
  [[ -n $pid && $pid != "$2" ]] &&
    [[ $(muster service ls --filter "name=${STACK}_$1" --format '{{.Replicas}}') == 1/1 ]]
}

deploy() { run muster stack deploy --detach=false -c $COMPOSE $STACK; }

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
say 'A registry with images made of Debian packages'
start_registry
deploy/packaging/images/build.sh --out $STATE/images --push "$REGISTRY" \
  busybox redis postgres vote vote:2 vote:3 worker result

say 'A node'
start_node
export PATH=$BIN:$PATH
if [[ $(muster info --format '{{.Swarm.LocalNodeState}}') != active ]]; then
  run muster swarm init --advertise-addr 127.0.0.1
fi

say 'A stack of five services, with a secret, a config and health checks'
[[ -s $STATE/db_password ]] || (umask 077 && head -c 16 /dev/urandom | sha256sum | cut -c1-32 >$STATE/db_password)
export REGISTRY WEB_PORT RESULT_PORT DB_PASSWORD_FILE=$STATE/db_password VOTE_VERSION=1
deploy
run muster stack services $STACK

say 'Votes go from the page through the queue into the database'
sql() { muster exec "${STACK}_db.1" psql -U postgres -qAtc "$1" postgres; }
await 10 'the table of the votes' sql 'truncate votes'
for _ in 1 2 3 4 5 6 7; do page -d vote=a; page -d vote=b; done >/dev/null
page -d vote=a >/dev/null
await 10 'the counting of 15 votes' counted 'Tabs: 8, Spaces: 7'
echo "$ curl http://127.0.0.1:$RESULT_PORT/?text"
result

say 'The database is killed: it comes back on its volume'
pid=$(muster ps --filter "name=${STACK}_db" --format '{{.Pid}}')
echo "$ kill -9 $pid"
kill -9 "$pid"
await 30 'the replacement of the database' is_replaced db "$pid"
await 10 'the same result' counted 'Tabs: 8, Spaces: 7'
run muster service ps ${STACK}_db
result

say 'An update that is broken: version 2 never becomes healthy, and is taken back'
start_asking
if VOTE_VERSION=2 deploy; then die 'the broken version was deployed'; fi
stop_asking
run muster service ps ${STACK}_vote
who_answers

say 'An update that works: version 3'
start_asking
VOTE_VERSION=3 deploy
stop_asking
who_answers

say 'Look around'
cat <<HINTS
  export PATH=$BIN:\$PATH MUSTER_SOCKET=$MUSTER_SOCKET
  muster service ls
  muster service scale ${STACK}_vote=4
  muster service logs ${STACK}_worker
  muster service explain ${STACK}_vote
  muster exec -it ${STACK}_db.1 psql -U postgres -c 'select * from votes'
  curl -d vote=b http://127.0.0.1:$WEB_PORT/

and to stop, leaving nothing behind:

  deploy/demo.sh down
HINTS
