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

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
sweep
mkdir -p "$NODE" "$RUN"

die() {
  echo "FAILED: $*" >&2
  echo "---- last lines of musterd's log" >&2
  tail -40 "$NODE/musterd.log" >&2 2>/dev/null || true
  muster service ps --no-trunc $(muster service ls -q 2>/dev/null) >&2 2>/dev/null || true
  exit 1
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

start_registry() { serve_registry "$NODE" "127.0.0.1:$(free_port)"; }

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
