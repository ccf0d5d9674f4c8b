#!/usr/bin/env bash
# A cluster on one machine, one stack, shown at work. On a Debian 12 machine, as root:
#   deploy/demo.sh         installs what it needs, builds, starts three managers and two workers,
#                          deploys a voting application of five services, kills the leader, shows
#                          that nothing stopped, and deploys again: once in vain
#   deploy/demo.sh down    stops the demo and removes everything it made but the build
# Variables:
#   MUSTER_DEMO_BIN=DIR    where muster's programs are, built already: nothing is built
#   MUSTER_DEMO=NAME       another demo beside the first, with files and a lab of its own
set -euo pipefail
BIN=${MUSTER_DEMO_BIN:+$(realpath "$MUSTER_DEMO_BIN")}
cd "$(dirname "$0")/.."

readonly BIN=${BIN:-$PWD/build/release/bin}
readonly NAME=demo${MUSTER_DEMO:+-$MUSTER_DEMO}
readonly STATE=/var/lib/muster-$NAME
readonly STACK=voting WEB_PORT=8080 RESULT_PORT=8081
readonly COMPOSE=deploy/examples/voting/compose.yml PLACE=deploy/examples/voting/data-node.yml
export MUSTER_LAB=$NAME MUSTER_LAB_DIR=$STATE/labs

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
die() { echo "demo: $*" >&2; exit 1; }

# Waits up to $1 seconds for the command to succeed; says $2 if it does not.
await() {
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || die "$what did not happen within $seconds s"
    sleep 0.1
  done
}

down() {
  say 'Stopping the demo'
  if [[ -d $MUSTER_LAB_DIR ]]; then
    [[ -x $BIN/muster ]] ||
      die "the build is gone ($BIN), which is needed to end the demo's nodes: run deploy/demo.sh first"
    "$BIN/muster" lab down --all
  fi
  rm -rf --one-file-system $STATE
  echo 'Nothing of it is left but the build.'
}

# NODE: from here on muster talks to this one.
talk_to() { export MUSTER_SOCKET=unix://$MUSTER_LAB_DIR/$MUSTER_LAB/$1/run/muster.sock; }
address_of() { muster lab ls --format '{{.Node}} {{.Address}}' | sed -n "s/^$1 //p"; }
leader() { muster node ls --format '{{.Hostname}} {{.ManagerStatus}}' | sed -n 's/ Leader$//p'; }
now_ms() { date +%s%3N; }

page() { curl -fsS -m 3 "http://$HOST:$WEB_PORT/" "$@"; }
result() { curl -fsS -m 3 "http://$HOST:$RESULT_PORT/?text"; }
counted() { [[ $(result) == "$1" ]]; }

# The last line of the page: version, container and client.
footer() { sed -n 's/.*<small>\(.*\)<\/small>.*/\1/p'; }
# Prints the versions and containers that answer on the published port.
who_answers() { for _ in $(seq 12); do page | footer; done | sort | uniq -c; }

# Asks for the page until stop_asking, and then says how often it did not come.
start_asking() {
  rm -f $STATE/asking.*
  (
    asked=0 failed=0
    while [[ ! -e $STATE/asking.stop ]]; do
      page >/dev/null 2>&1 || failed=$((failed + 1))
      asked=$((asked + 1))
      sleep 0.02
    done
    echo "$asked requests for the page meanwhile, $failed of them failed"
  ) >$STATE/asking.log &
  asking=$!
}
stop_asking() { touch $STATE/asking.stop; wait "$asking"; cat $STATE/asking.log; rm -f $STATE/asking.*; }

# Runs in another container than before. The service's count alone is also right in the moment
# before the end of a container is known.
db_pid() { muster lab ssh worker1 muster ps --filter "name=${STACK}_db" --format '{{.Pid}}'; }
db_is_replaced() {  # process id
  local pid
  pid=$(db_pid)
  [[ -n $pid && $pid != "$1" ]] &&
    [[ $(muster service ls --filter "name=${STACK}_db" --format '{{.Replicas}}') == 1/1 ]]
}

deploy() { run muster stack deploy --detach=false -c $COMPOSE -c $PLACE $STACK; }

[[ $NAME =~ ^[a-z0-9-]+$ ]] || die "MUSTER_DEMO: '$MUSTER_DEMO' is no name: it takes a-z, 0-9 and -"
case ${1:-up} in
  up) ;;
  down) ((EUID == 0)) || die 'needs root'; down; exit ;;
  -h | --help) sed -n '2,/^set /s/^# \?//p' deploy/demo.sh; exit ;;
  *) echo 'usage: deploy/demo.sh [up|down] (--help says more)' >&2; exit 2 ;;
esac
((EUID == 0)) || die 'needs root, for containers and network namespaces'

say 'Installing what is missing'
if [[ -n ${MUSTER_DEMO_BIN:-} ]]; then
  [[ -x $BIN/muster && -x $BIN/musterd ]] || die "MUSTER_DEMO_BIN: no muster and musterd in $BIN"
  deploy/packaging/install.sh run demo
else
  deploy/packaging/install.sh run build demo
  say 'Building (a few minutes the first time)'
  cmake --preset release >/dev/null
  cmake --build --preset release --target muster musterd muster-runtime-shim
fi
export PATH=$BIN:$PATH
mkdir -p $STATE

say 'Three managers and two workers'
# One of an earlier run may be half made, or have lost nodes: begin anew.
[[ ! -d $MUSTER_LAB_DIR ]] || muster lab down --all
run muster lab up --managers 3 --workers 2
talk_to manager1
run muster node ls

say 'Images made of Debian packages, into the registry of the lab'
REGISTRY=$(address_of registry) HOST=$(address_of worker1)
readonly REGISTRY HOST
deploy/packaging/images/build.sh --out $STATE/images --push "$REGISTRY" \
  busybox redis postgres vote vote:2 vote:3 worker result

say 'A stack of five services, with a secret, a config and health checks'
[[ -s $STATE/db_password ]] ||
  (umask 077 && head -c 16 /dev/urandom | sha256sum | cut -c1-32 >$STATE/db_password)
export REGISTRY WEB_PORT RESULT_PORT DB_PASSWORD_FILE=$STATE/db_password VOTE_VERSION=1
# The database and the queue stay where their volumes are; the others run anywhere.
run muster node update --label-add data=voting worker1
deploy
run muster stack services $STACK

say 'Every node answers on the published port, and the page knows its client'
nodes() { muster lab ls --format '{{.Node}} {{.Role}} {{.Address}}' | sed -n 's/ \(manager\|worker\) / /p'; }
answers=$(nodes)
[[ -n $answers ]] || die 'the lab has no nodes'
while read -r node address; do
  said=$(curl -fsS -m 3 "http://$address:$WEB_PORT/" | footer)
  [[ -n $said ]] || die "$node does not answer on port $WEB_PORT"
  mine=$(ip -4 -o route get "$address" | sed -n 's/.* src \([0-9.]*\).*/\1/p')
  [[ $said == *" for $mine" ]] || die "the page does not know its client, $mine: $node $said"
  echo "$node $said"
done <<<"$answers"

say 'Votes go from the page through the queue into the database'
sql() { muster lab ssh worker1 muster exec "${STACK}_db.1" psql -U postgres -qAtc "$1" postgres; }
await 10 'the table of the votes' sql 'truncate votes'
for _ in 1 2 3 4 5 6 7; do page -d vote=a; page -d vote=b; done >/dev/null
page -d vote=a >/dev/null
await 10 'the counting of 15 votes' counted 'Tabs: 8, Spaces: 7'
echo "$ curl http://$HOST:$RESULT_PORT/?text"
result

say 'The database is killed: it comes back on its volume'
pid=$(db_pid)
run muster lab ssh worker1 kill -9 "$pid"
await 30 'the replacement of the database' db_is_replaced "$pid"
await 10 'the same result' counted 'Tabs: 8, Spaces: 7'
run muster service ps ${STACK}_db
result

say 'A helper on every node'
run muster service create --detach=false --monitor 0s --mode global --name helper \
  "$REGISTRY/busybox:1" sleep infinity
run muster service ps helper

LEADER=$(leader)
OTHER=$(muster node ls --format '{{.Hostname}} {{.ManagerStatus}}' | sed -n 's/ Reachable$//p' | head -1)
say "The leader, $LEADER, is killed"
start_asking
talk_to "$OTHER"
helpers() { muster lab ssh "$LEADER" pgrep sleep; }
before=$(helpers)
run muster lab kill "$LEADER"
begin=$(now_ms)
label() { muster node update --label-add killed="$LEADER" worker2; }
await 10 'a write after the death of the leader' label
echo "The next change was accepted $(($(now_ms) - begin)) ms later; $(leader) leads."
[[ $(helpers) == "$before" ]] || die "a container of $LEADER ended"
echo "The containers of $LEADER run on without their daemon."
run muster lab ls
stop_asking
run muster service ps ${STACK}_vote
result

say 'Deploying goes on. An update that is broken: version 2 never becomes healthy, and is taken back'
start_asking
if VOTE_VERSION=2 deploy; then die 'the broken version was deployed'; fi
stop_asking
who_answers

say 'An update that works: version 3'
start_asking
VOTE_VERSION=3 deploy
stop_asking
who_answers

say "$LEADER comes back"
run muster lab start "$LEADER"
is_back() { [[ $(muster node ls --format '{{.Hostname}} {{.Status}} {{.ManagerStatus}}') == *"$LEADER Ready Reachable"* ]]; }
await 20 "the return of $LEADER" is_back
[[ $(helpers) == "$before" ]] || die "a container of $LEADER did not survive"
run muster node ls

say 'Look around'
cat <<HINTS
  export PATH=$BIN:\$PATH MUSTER_LAB=$MUSTER_LAB MUSTER_LAB_DIR=$MUSTER_LAB_DIR
  export MUSTER_SOCKET=$MUSTER_SOCKET
  muster node ls
  muster service scale ${STACK}_vote=4
  muster service logs ${STACK}_worker
  muster lab partition manager2
  muster lab ls
  muster lab heal
  muster lab ssh worker1
  curl -d vote=b http://$HOST:$WEB_PORT/

and to stop, leaving nothing behind:

  ${MUSTER_DEMO:+MUSTER_DEMO=$MUSTER_DEMO }${MUSTER_DEMO_BIN:+MUSTER_DEMO_BIN=$BIN }deploy/demo.sh down
HINTS
