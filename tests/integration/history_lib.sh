# Sourced by the tests that do things to a lab while clients read and write it, instead of lib.sh.
#   source "$(dirname "$0")/history_lib.sh"; lab_of 3 1; ...; after 'what was done'; finish_history
# What clients asked and were told is in $HISTORY (tests/history); a service runs on every node.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# A lab of this test only, so that it does not meet those of others.
export MUSTER_LAB_DIR=$NODE/labs MUSTER_LAB=faults
unset MUSTER_SOCKET
HISTORY=$NODE/history
RECORDER=
trap 'status=$?
  trap - EXIT
  [[ -z $RECORDER ]] || { kill "$RECORDER"; wait "$RECORDER"; } 2>/dev/null || true
  "$BIN/muster" lab heal >/dev/null 2>&1 || true
  "$BIN/muster" lab down --all >/dev/null 2>&1 || true
  ((status == 0)) || [[ -z ${MUSTER_TEST_KEEP:-} ]] || cp "$HISTORY"* "$MUSTER_TEST_KEEP" || true
  rm -rf --one-file-system "$NODE" "$RUN"
  exit "$status"' EXIT
die() {
  echo "FAILED: $*" >&2
  local log
  for log in "$MUSTER_LAB_DIR"/*/*/log; do
    echo "---- last lines of $log" >&2
    tail -n "${MUSTER_TEST_LOG:-20}" "$log" >&2 2>/dev/null || true
  done
  exit 1
}

home() { echo "$MUSTER_LAB_DIR/$MUSTER_LAB/$1"; }
# on NODE ARGS...: muster on a node
on() { local node=$1; shift; "$BIN/muster" --socket "unix://$(home "$node")/run/muster.sock" "$@"; }
states() { muster lab ls --format "{{.Node}} {{.State}} {{.Status}} {{.ManagerStatus}}"; }
# All of them run, can be reached, and one manager leads.
all_well() {
  local now
  now=$(states) &&
    [[ $(grep -c ' running Ready' <<<"$now") == "${#NODES[@]}" ]] &&
    [[ $(grep -c -E ' (Leader|Reachable)$' <<<"$now") == "${#MANAGERS[@]}" ]] &&
    [[ $(grep -c ' Leader$' <<<"$now") == 1 ]]
}
# Sets LEADER, and OTHERS: all other nodes, with commas.
find_leader() {
  await 40 'all nodes are well' all_well
  LEADER=$(states | sed -n 's/ running Ready Leader$//p')
  OTHERS=$(printf '%s\n' "${NODES[@]}" | grep -vx "$LEADER" | paste -sd,)
}
leader_is() { [[ $(states | sed -n 's/ running Ready Leader$//p') == "$1" ]]; }

# Ids and processes of the service's containers, on every node.
containers() {
  local node
  for node in "${NODES[@]}"; do
    on "$node" ps --no-trunc --format '{{.ID}} {{.Pid}} {{.Names}}' | sort | sed "s/^/$node /"
  done
}
everywhere() { [[ $(on "${MANAGERS[0]}" service ls --format '{{.Replicas}}') == "$1/$1" ]]; }

# lab_of MANAGERS WORKERS: ready, with a service that runs on every node.
lab_of() {
  muster lab up --managers "$1" --workers "$2" >/dev/null
  mapfile -t MANAGERS < <(seq -f 'manager%g' "$1")
  mapfile -t NODES < <(seq -f 'manager%g' "$1"; seq -f 'worker%g' "$2")
}
serve_everywhere() {
  local registry
  registry=$(muster lab ls --format '{{.Node}} {{.Address}}' | sed -n 's/^registry //p')
  deploy/packaging/images/build.sh --out "$NODE/images" --push "$registry" busybox >/dev/null
  on "${MANAGERS[0]}" service create --detach --name web --mode global registry:5000/busybox:1 \
    sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
  await 60 'a task on every node' everywhere "${#NODES[@]}"
  BEFORE=$(containers)
  [[ $(wc -l <<<"$BEFORE") == "${#NODES[@]}" ]] || die "containers: $BEFORE"
}

# start_clients PREFIX: they read and write through every manager.
start_clients() {
  local sockets=() manager
  for manager in "${MANAGERS[@]}"; do sockets+=(--socket "$(home "$manager")/run/muster.sock"); done
  "$BIN/muster-history" record --seed "${MUSTER_TEST_SEED:-$$}" --prefix "$1" "${sockets[@]}" \
    ${MUSTER_TEST_CLIENTS:-} "$HISTORY" 2>"$HISTORY.errors" &
  RECORDER=$!
  await 10 'the first lines of the history' test -s "$HISTORY"
}
# writes_within SECONDS AFTER-WHAT: the next write that is begun from now on is acknowledged
writes_within() {
  local took
  took=$("$BIN/muster-history" await --seconds $(($1 * slow)) "$HISTORY") ||
    die "no write within $1 s after $2"
  checks=$((checks + 1))
  note "   $2: the next write after $took ms"
}
linearizable() {
  local said
  said=$("$BIN/muster-history" check "$HISTORY" 2>&1) || die "after $1: $said"
  checks=$((checks + 1))
  note "   $1: $said"
}
# after WHAT: all is well again, no container was touched, and what clients were told holds together
after() {
  await 60 "all nodes are well after $1" all_well
  is "$(containers)" "$BEFORE" "the containers after $1"
  linearizable "$1"
}

# Ends the clients; every register there was is read once more.
finish_clients() {
  kill "$RECORDER"
  wait "$RECORDER" || die "the clients: $(cat "$HISTORY.errors")"
  RECORDER=
  linearizable 'the end'
  (($(grep -c '^e [0-9]* ok' "$HISTORY") > 200)) || die 'the clients did next to nothing'
}
finish_history() {
  finish_clients
  is "$(grep -hE '^[DIWEF][0-9]{4} ' "$MUSTER_LAB_DIR"/*/*/log | head -n 3 || true)" '' "lines of gRPC's in the logs"
  muster lab down >/dev/null
  is "$(pgrep -fa -- "$MUSTER_LAB_DIR/" || true)" '' 'processes that are left'
  [[ ! -e $MUSTER_LAB_DIR ]] || die 'the folder of the lab is left'
  is "$(grep -o "$NODE/[^ ]*" /proc/self/mountinfo || true)" '' 'mounts that are left'
  echo "$checks checks passed"
}
