# Sourced by the tests of several nodes, instead of lib.sh: each node is a musterd in a network
# namespace of its own, and a bridge joins them.
#   source tests/integration/cluster_lib.sh "$@"; add_node 1; m 1 swarm init ...; finish
# Node N is 10.<test>.0.N; the host, with the registry, is 10.<test>.0.254.
set -euo pipefail

BIN=${1:?usage: $0 FOLDER-OF-PROGRAMS}
((EUID == 0)) || { echo "$0 needs root" >&2; exit 1; }
BIN=$(realpath "$BIN")
PATH=$BIN:$PATH
BASE=/var/lib/muster-test-$$
RUN=/run/muster-test-$$
NET=10.$((200 + $$ % 50)).$(($$ / 50 % 250))
BRIDGE=mt$$
NODES=()
declare -A PID=()

# die WHY...: with what a command has SAID last, where that is kept, and the last lines of every node,
# first of all of node $SUSPECT.
SUSPECT='' SAID=''
die() {
  echo "FAILED: $*" >&2
  local n
  [[ -z $SAID ]] || printf -- '---- said last\n%s\n' "$SAID" >&2
  # Of the nodes' logs not all may be kept by whoever runs this.
  [[ -z $SUSPECT ]] || tail -40 "$BASE/$SUSPECT/musterd.log" >&2 2>/dev/null || true
  for n in "${NODES[@]}"; do
    echo "---- last lines of node $n" >&2
    tail -${MUSTER_TEST_LOG:-25} "$BASE/$n/musterd.log" >&2 2>/dev/null || true
  done
  exit 1
}
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# within SECONDS WHAT COMMAND...: it ends by then, however it ends.
within() {
  local limit=$1 what=$2 status=0
  shift 2
  timeout "$limit" "$@" >/dev/null 2>&1 || status=$?
  ((status != 124)) || die "$what takes longer than $limit s"
  checks=$((checks + 1))
}

# m N ARGS...: muster on node N
m() { local n=$1; shift; "$BIN/muster" --socket "unix://$RUN/$n/muster.sock" "$@"; }
address() { echo "$NET.$1"; }
data() { echo "$BASE/$1/data"; }
in_host() { local n=$1; shift; ip netns exec "$BRIDGE-$n" "$@"; }
# N: what the node's folders and control groups in the kernel are called by
instance() { sed 's/.*"instance_id":"\([^"]*\)".*/\1/' "$(data "$1")/node.json"; }

# What a container of busybox runs to be a page that says which container answers, and whom; how it is
# known to answer. page HOST[:PORT]: what the test's own host gets; on_node N HOST[:PORT]: a process of node N.
WHO='mkdir -p /www/cgi-bin
cat >/www/cgi-bin/who <<"PAGE"
#!/bin/sh
who=${REMOTE_ADDR##*:}
echo; echo $(hostname) ${who%]}
PAGE
chmod +x /www/cgi-bin/who
httpd -f -p 80 -h /www'
WHO_CHECK=(--health-cmd 'wget -q -O /dev/null http://127.0.0.1/cgi-bin/who'
  --health-interval "${slow}s" --health-start-period $((10 * slow))s --health-start-interval $((100 * slow))ms)
page() { curl -gfsS -m $((2 * slow)) "http://$1/cgi-bin/who"; }
on_node() { in_host "$1" curl -gfsS -m $((2 * slow)) "http://$2/cgi-bin/who"; }

sweep
ip link add "$BRIDGE" type bridge
ip address add "$NET.254/24" dev "$BRIDGE"
ip link set "$BRIDGE" up

# add_node N [FLAGS]: a host named nodeN, with a musterd that is in no swarm yet
add_node() {
  local n=$1
  shift
  mkdir -p "$BASE/$n" "$RUN/$n"
  ip netns add "$BRIDGE-$n"
  ip link add "$BRIDGE-$n" type veth peer name eth0 netns "$BRIDGE-$n"
  ip link set "$BRIDGE-$n" master "$BRIDGE" up
  ip -n "$BRIDGE-$n" address add "$NET.$n/24" dev eth0
  ip -n "$BRIDGE-$n" link set eth0 up
  ip -n "$BRIDGE-$n" link set lo up
  ip -n "$BRIDGE-$n" route add default via "$NET.254"
  NODES+=("$n")
  start_musterd "$n" "$@"
}
start_musterd() {
  local n=$1
  shift
  # Only the network is the node's own: control groups and images are the host's.
  nsenter --net="/run/netns/$BRIDGE-$n" "$BIN/musterd" --data-dir "$BASE/$n/data" \
    --socket "$RUN/$n/muster.sock" --hostname "node$n" --log-level debug \
    --insecure-registry "$NET.254:5000" "$@" \
    >>"$BASE/$n/musterd.log" 2>&1 </dev/null &
  PID[$n]=$!
  await 15 "musterd $n answers" m "$n" info
}
kill_musterd() { kill -9 "${PID[$1]}"; wait "${PID[$1]}" 2>/dev/null || true; }
stop_musterd() { kill "${PID[$1]}"; wait "${PID[$1]}" || SUSPECT=$1 die "musterd $1 ended with $?"; }

token() { m "$1" swarm join-token -q "$2"; }
# init N [FLAGS]; join N VIA ROLE [FLAGS]
init() { local n=$1; shift; m "$n" swarm init --advertise-addr "$NET.$n" "$@"; }
join() {
  local n=$1 via=$2 role=$3 attempt
  shift 3
  set -- swarm join --token "$(token "$via" "$role")" --advertise-addr "$NET.$n" "$@" "$NET.$via:2377"
  # Handshakes have time-outs that are for hosts: in an emulated one they may need another attempt.
  for ((attempt = 1; attempt < slow; attempt++)); do ! m "$n" "$@" || return 0; done
  m "$n" "$@"
}
# node_field VIA N FIELD: of `node ls` on VIA
node_field() { m "$1" node ls --filter "name=node$2" --format "{{.$3}}"; }
# Of a host that joined again the list has the earlier node, too.
node_is() { node_field "$1" "$2" "$3" | grep -qxF -- "$4"; }
# leader VIA: the number of the node that leads
leader() { m "$1" node ls --format '{{.Hostname}} {{.ManagerStatus}}' | sed -n 's/^node\([0-9]*\) Leader$/\1/p'; }
leads() { [[ $(leader "$1") == "$2" ]]; }
has_leader() { [[ -n $(leader "$1") ]]; }
runs() { [[ $(m "$1" service ls --filter "name=$2" --format '{{.Replicas}}') == "$3/$3"* ]]; }
# pids_on N SERVICE: processes of the service's containers on the node
pids_on() { m "$1" ps --format '{{.Pid}} {{.Names}}' | awk -v s="$2." 'index($2, s) == 1 {print $1}' | sort; }

# doctor N [ARGS]: sets OUT (VERDICT CHECK NETWORK NODE TEXT, a line each) and STATUS.
doctor() {
  local n=$1
  shift
  STATUS=0
  OUT=$(m "$n" network doctor --format '{{.Verdict}} {{.Check}} {{.Network}} {{.Node}}: {{.Text}}' "$@" 2>&1) || STATUS=$?
}
not_good() { grep -v '^good' <<<"$OUT" || true; }

# compare VIA: whether the kernel of every node is what the manager says; sets DIFFERENCES. settled VIA:
# it becomes so, of a swarm where nothing is changed any more.
compare() {
  DIFFERENCES=$(python3 "$(dirname "${BASH_SOURCE[0]}")/network_truth.py" "$RUN" "$BRIDGE" "$1" "${NODES[@]}")
  [[ -z $DIFFERENCES ]]
}
settled() {
  local end=$((SECONDS + 60 * slow))
  until compare "$1"; do
    ((SECONDS < end)) || die "the kernel is not what the managers say:
$DIFFERENCES"
  done
  checks=$((checks + 1))
}

# swarm_of ROLE...: node 1 founds a swarm and nodes 2, 3, ... join it; all of them are ready.
swarm_of() {
  local n=1 role
  init 1 >/dev/null
  for role in "$@"; do
    n=$((n + 1))
    join "$n" 1 "$role" >/dev/null
  done
  for (( ; n > 0; n--)); do await 15 "node $n is ready" node_is 1 "$n" Status Ready; done
}

# Managers that are short of processor time: what docs/managers.md has for them.
beat_slowly() {
  ((slow < 5)) || m "$1" swarm update --raft-heartbeat 500ms --raft-election-timeout 5s >/dev/null
}

start_registry() { serve_registry "$BASE" "$NET.254:5000"; }

cleanup() {
  local status=$? n
  trap - EXIT
  for n in "${NODES[@]}"; do
    kill -9 "${PID[$n]}" 2>/dev/null || true
    wait "${PID[$n]}" 2>/dev/null || true
  done
  for n in "${NODES[@]}"; do
    nsenter --net="/run/netns/$BRIDGE-$n" "$BIN/musterd" --end-containers --log-level error \
      --data-dir "$BASE/$n/data" --socket "$RUN/$n/muster.sock" || true
    ip netns delete "$BRIDGE-$n" || true
  done
  # The registry, and what else a test has left in the background when it ends in the middle: its
  # output would be waited for. A job that is a function is a shell with the program below it.
  for n in $(jobs -p); do
    pkill -P "$n" || true
    kill "$n" 2>/dev/null || true
  done
  ip link delete "$BRIDGE" 2>/dev/null || true
  ((status == 0)) || [[ -z ${MUSTER_TEST_KEEP:-} ]] || cp -r "$BASE" "$MUSTER_TEST_KEEP"
  rm -rf --one-file-system "$BASE" "$RUN"
  exit "$status"
}
trap cleanup EXIT

# Whatever a test did, no log says a key, or what lets a host in; and all lines have our form.
finish() {
  local leak foreign
  leak=$(grep -lE 'PRIVATE KEY|SWMKEY-1-.{43}|SWMTKN-1-.{50}-.{25}' "$BASE"/*/musterd.log || true)
  is "$leak" '' 'logs with keys or join tokens in them'
  foreign=$(grep -hE '^[DIWEF][0-9]{4} ' "$BASE"/*/musterd.log | head -n 3 || true)
  is "$foreign" '' "lines of gRPC's in the logs"
  echo "$checks checks passed"
}
