# Sourced by the integration tests: a node of one's own, a registry of one's own, and checks.
#   source tests/integration/lib.sh; start_node; ...; finish
# The first argument of a test is the folder of the programs.
set -euo pipefail

BIN=${1:?usage: $0 FOLDER-OF-PROGRAMS}
((EUID == 0)) || { echo "$0 needs root" >&2; exit 1; }
BIN=$(realpath "$BIN")
PATH=$BIN:$PATH
NODE=/var/lib/muster-test-$$
RUN=/run/muster-test-$$
export MUSTER_SOCKET=unix://$RUN/muster.sock
checks=0

# A test that was killed with everything above it left a node: its bridge holds the subnet that the
# next one is given.
sweep() {
  local node pid
  for node in /var/lib/muster-test-*; do
    pid=${node##*-}
    [[ -d $node/data && ! -d /proc/$pid ]] || continue
    "$BIN/muster" lab down --all --dir "$node/labs" >/dev/null || true
    pkill -9 -f -- "$node/|/run/muster-test-$pid/" || true
    "$BIN/musterd" --end-containers --log-level error --data-dir "$node/data" \
      --socket "/run/muster-test-$pid/muster.sock" || true
    rm -rf --one-file-system "$node" "/run/muster-test-$pid"
  done
}
sweep
mkdir -p "$NODE" "$RUN"

note() { echo "-- $*"; }
die() {
  echo "FAILED: $*" >&2
  echo "---- last lines of musterd's log" >&2
  tail -40 "$NODE/musterd.log" >&2 2>/dev/null || true
  muster service ps --no-trunc $(muster service ls -q 2>/dev/null) >&2 2>/dev/null || true
  exit 1
}

# is ACTUAL EXPECTED WHAT; has TEXT PART WHAT
is() { [[ $1 == "$2" ]] || die "$3: got '$1', expected '$2'"; checks=$((checks + 1)); }
has() { [[ $1 == *"$2"* ]] || die "$3: '$2' is not in: $1"; checks=$((checks + 1)); }
hasnt() { [[ $1 != *"$2"* ]] || die "$3: '$2' is in: $1"; checks=$((checks + 1)); }
# fails TEXT COMMAND...: exits 1 and says TEXT on stderr
fails() {
  local text=$1 out status=0
  shift
  out=$("$@" 2>&1 >/dev/null) || status=$?
  ((status != 0)) || die "succeeded: $*"
  has "$out" "$text" "the error of: $*"
}
# await SECONDS WHAT COMMAND...: until the command succeeds. An emulated machine is slower than a
# real one by the factor MUSTER_TEST_SLOW (below 20): it gets more time, and is asked less often.
slow=${MUSTER_TEST_SLOW:-1}
pause=0.$(printf %02d $((5 * slow)))
await() {
  local end=$((SECONDS + $1 * slow)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || die "waited in vain for: $what"
    sleep "$pause"
  done
  checks=$((checks + 1))
}

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 10000))
    ss -Hltn "sport = :$port" | grep -q . || { echo "$port"; return; }
  done
}

start_daemon() {
  "$BIN/musterd" --data-dir "$NODE/data" --socket "$RUN/muster.sock" --log-level debug "$@" \
    >>"$NODE/musterd.log" 2>&1 </dev/null &
  DAEMON=$!
  await 15 'musterd answers' muster info
}
start_node() {
  start_daemon "$@"
  local address
  address=127.0.0.1:$(free_port)
  muster swarm init --listen-addr "$address" --advertise-addr "$address" >/dev/null
  await 10 'the node is ready' node_is_ready
  INSTANCE=$(sed 's/.*"instance_id":"\([^"]*\)".*/\1/' "$NODE/data/node.json")
}
node_is_ready() { [[ $(muster node ls --format '{{.Status}}') == Ready ]]; }
kill_daemon() { kill -9 "$DAEMON"; wait "$DAEMON" 2>/dev/null || true; }

start_registry() {
  REGISTRY=127.0.0.1:$(free_port)
  [[ -z ${MUSTER_TEST_REGISTRY:-} ]] || cp -r "$MUSTER_TEST_REGISTRY" "$NODE/registry"
  cat >"$RUN/registry.yml" <<CONFIG
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $NODE/registry}}
http: {addr: $REGISTRY}
CONFIG
  docker-registry serve "$RUN/registry.yml" >"$NODE/registry.log" 2>&1 </dev/null &
  REGISTRY_PID=$!
  await 10 'the registry' curl -fsS "http://$REGISTRY/v2/"
}
# MUSTER_TEST_REGISTRY is the storage of a registry that holds every image of build.sh already.
push_images() {
  [[ -z ${MUSTER_TEST_REGISTRY:-} ]] || return 0
  deploy/packaging/images/build.sh --out "$NODE/images" --push "$REGISTRY" "$@" >/dev/null
}

# SERVICE N: N replicas of N run
runs() { [[ $(muster service ls --filter "name=$1" --format '{{.Replicas}}') == "$2/$2"* ]]; }
pids_of() { muster ps --format '{{.Pid}} {{.Names}}' | awk -v s="$1." 'index($2, s) == 1 {print $1}' | sort; }
# SERVICE N PID: N replicas run and none of them is PID. The count alone is also right in the moment
# between a kill and its discovery.
replaced() { runs "$1" "$2" && [[ $(pids_of "$1" | wc -l) == "$2" ]] && ! pids_of "$1" | grep -qx "$3"; }

# What this node would leave behind in the kernel and on the disk.
leftovers() {
  grep -o "$NODE[^ ]*" /proc/self/mountinfo | sed 's/^/mount /' || true
  grep -o "$RUN[^ ]*" /proc/self/mountinfo | sed 's/^/mount /' || true
  # Bridges say whose they are; the other links go with their namespaces.
  ip -o link | grep -o "alias muster $INSTANCE.*" | sed 's/^/link /' || true
  nft list tables 2>/dev/null | grep "$INSTANCE" || true
  find /sys/fs/cgroup -maxdepth 3 -type d -name "$INSTANCE*" 2>/dev/null | sed 's/^/cgroup /' || true
  pgrep -fa "conmon.*$NODE" | sed 's/^/process /' || true
  pgrep -fa "netd --run-dir $RUN/" | sed 's/^/process /' || true
}

cleanup() {
  local status=$?
  trap - EXIT
  if kill -0 "${DAEMON:-0}" 2>/dev/null && [[ -n ${DAEMON:-} ]]; then
    timeout 30 muster swarm leave --force >/dev/null 2>&1 || true
    kill "$DAEMON" 2>/dev/null || true
    wait "$DAEMON" 2>/dev/null || true
  fi
  # A daemon that was killed, or could not leave, has left containers.
  "$BIN/musterd" --end-containers --log-level error --data-dir "$NODE/data" \
    --socket "$RUN/muster.sock" || true
  [[ -z ${REGISTRY_PID:-} ]] || kill "$REGISTRY_PID" 2>/dev/null || true
  rm -rf --one-file-system "$NODE" "$RUN"
  exit "$status"
}
trap cleanup EXIT

finish() {
  note 'leave the swarm: nothing is left behind'
  muster swarm leave --force >/dev/null
  is "$(leftovers)" '' 'left behind after leaving'
  kill "$DAEMON"
  wait "$DAEMON" || die "musterd ended with $?"
  DAEMON=
  echo "$checks checks passed"
}
