#!/usr/bin/env bash
# Hundreds of random steps from one seed: services and networks come, change, grow and go, running tasks
# enter and leave networks, ports are published in all ways there are, musterd is killed, nodes are drained,
# lost and come back, managers and their leader among them. Whoever asks a service that has a healthy task
# gets an answer, by its name from containers and by its published ports through every node; and whenever
# it is quiet the kernel of every node is what the managers say, without musterd having had anything to
# repair. In the end nothing is left.
# MUSTER_SEED=N: other steps. MUSTER_FULL=1: 400 of them, others each day; MUSTER_STEPS=N: so many.
source "$(dirname "$0")/cluster_lib.sh"
HERE=$(realpath "$(dirname "$0")")
SEED=${MUSTER_SEED:-$((${MUSTER_FULL:-0} ? $(date +%s) / 86400 : 1))}
STEPS=${MUSTER_STEPS:-$((${MUSTER_FULL:-0} ? 400 : 120))}
MANAGERS=(1 2 3) WORKERS=(4 5)
LOST=
DRAINED=
VIA=1
MOVED_AT=-1000 # when tasks that are asked were last made to come and go

# pick N: sets REPLY to 0 .. N-1. Not in a subshell, whose numbers would be others in each run.
pick() { REPLY=$((RANDOM % $1)); }
one_of() { pick $#; shift "$REPLY"; REPLY=$1; }
pins() { echo "$RUN/$1/$(instance "$1")/netns"; }
# say ARGS: muster on a manager, which may have no leader for a moment. What an earlier attempt has done
# already, or what cannot be any more, is no failure.
say() {
  local out end=$((SECONDS + 20 * slow))
  did "$@"
  until out=$(timeout $((10 * slow)) "$BIN/muster" --socket "unix://$RUN/$VIA/muster.sock" "$@" 2>&1); do
    [[ $out != *'already exists'* && $out != *'not found'* && $out != *'no such'* ]] || break
    ((SECONDS < end)) || die "muster $*: $out"
    sleep "$pause"
  done
}
# may ARGS: the same once; what does not fit what there is just now is refused.
may() {
  did "$@"
  timeout $((10 * slow)) "$BIN/muster" --socket "unix://$RUN/$VIA/muster.sock" "$@" >/dev/null 2>&1 || true
}
# did WORDS: written down with the time, for who looks for the reason of a failure.
did() { echo "$EPOCHREALTIME $*" >>"$BASE/steps"; }

# ---------------------------------------------------------------- who asks

EXCUSES=$BASE/excuses
STOP=$BASE/stop
declare -A ASKERS=() # what ends them: process
# excuse BEGIN WHAT [SECONDS]: until now, and so many seconds from now.
excuse() { echo "$1 $(awk "BEGIN { printf \"%.3f\", $EPOCHREALTIME + ${3:-0} }") $2" >>"$EXCUSES"; }
ask_outside() {
  local at
  at=$(address "$1")
  python3 "$HERE/traffic_tools.py" ask "$STOP.port$1" "$BASE/asked.port$1" "node$1" "steady=$at:8080" \
    "roam=$at:8081" "steady=$at:8082" "roam=$at:8083" &
  ASKERS[$STOP.port$1]=$!
}
# client_of N: sets REPLY to the container that shall go on there, once it runs.
client_of() {
  local task
  task=$(m "$VIA" service ps -q --no-trunc --filter desired-state=running --filter "node=node$1" client)
  REPLY=$(m "$1" ps --no-trunc --format '{{.ID}} {{.Names}}' | sed -n "s/ client\..*\.$task\$//p")
  [[ -n $task && -n $REPLY ]]
}
no_client() { ! m "$1" ps --format '{{.Names}}' | grep -q '^client\.'; }
# Until the container goes: hush.
ask_inside() {
  await 30 "a container that asks on node $1" client_of "$1"
  rm -f "$STOP.name$1"
  nsenter --net="$(pins "$1")/$REPLY" python3 "$HERE/traffic_tools.py" ask "$STOP.name$1" \
    "$BASE/asked.name$1.$EPOCHREALTIME" "node$1" steady=steady:80 roam=roam:80 &
  ASKERS[$STOP.name$1]=$!
}
hush() { # STOP-FILE...
  local stop
  touch "$@"
  for stop in "$@"; do
    [[ -z ${ASKERS[$stop]:-} ]] || wait "${ASKERS[$stop]}"
    unset "ASKERS[$stop]"
  done
}
# Nobody waits longer than the acknowledgement time for a node that does not say that it leads elsewhere, and
# an event tells of it: connections by that node may meet a task that has gone, until it hears again.
excuse_unheard() {
  local n
  for n in "${MANAGERS[@]}"; do
    timeout $((10 * slow)) "$BIN/muster" --socket "unix://$RUN/$n/muster.sock" events --since 1h --until 0s \
      --filter event=unacknowledged --format '{{.TimeNano}} {{.Actor.Attributes.missing}}' 2>/dev/null || true
  done | sort -u >"$BASE/unheard"
  awk '{ at = $1 / 1e9; n = split($2, nodes, ","); for (i = 1; i <= n; i++) printf "%.3f %.3f %s\n", at, at + 5, nodes[i] }' \
    "$BASE/unheard" >>"$EXCUSES"
  echo "   $(wc -l <"$BASE/unheard") times a task stopped before every node had said that it leads elsewhere"
}
judge() {
  local said
  touch "$EXCUSES"
  hush "${!ASKERS[@]}"
  excuse_unheard
  said=$(python3 "$HERE/traffic_tools.py" judge "$EXCUSES" "$BASE"/asked.*)
  echo "   $(tail -1 <<<"$said")"
  if (($(wc -l <<<"$said") > 1)); then
    echo "what was done around the first of them:"
    awk -v at="${said%% *}" '$1 > at - 10 && $1 < at + 5' "$BASE/steps"
  fi
  is "$(head -n -1 <<<"$said" | head -20)" '' 'requests that failed'
  (($(tail -1 <<<"$said" | cut -d' ' -f1) > 4 * STEPS)) || die 'hardly anything was asked'
}

# ---------------------------------------------------------------- what is done

CHECK=(--health-cmd 'wget -q -O /dev/null http://127.0.0.1/' --health-interval $((5 * slow))s
  --health-start-period $((20 * slow))s --health-start-interval $((100 * slow))ms)
declare -A NETS=() # of service cN
# a_port N: sets REPLY to the port of service cN, which answers in one of the ways there are. Most of them are
# not asked, but compared with what the managers say.
a_port() {
  one_of '' ,local ,bind=eth0 ,bind=lo ",bind=$(address 4)" ,client-address=masquerade \
    ,bind=eth0,client-address=masquerade ,proxy-protocol=1 ,local,proxy-protocol=2
  REPLY=published=$((8100 + $1)),target=80$REPLY
}
create() {
  local name=c$1 options=() networks=(blue green shut)
  [[ -z ${NETS[$name]:-} ]] || return 0
  pick 3
  networks=("${networks[@]:REPLY:2}")
  for net in "${networks[@]}"; do options+=(--network "name=$net,alias=also-$name"); done
  pick 4
  if ((REPLY == 0)); then options+=(--mode global); else options+=(--replicas "$REPLY"); fi
  pick 4
  if ((REPLY == 0)); then
    options+=(--endpoint-mode dnsrr)
  elif ((REPLY > 1)); then
    a_port "$1"
    options+=(-p "$REPLY")
  fi
  NETS[$name]=${networks[*]}
  say service create --detach --name "$name" --update-parallelism 0 "${options[@]}" "${CHECK[@]}" \
    "$REGISTRY/hello:1"
}
any() {
  ((${#NETS[@]} > 0)) || return 1
  one_of $(printf '%s\n' "${!NETS[@]}" | sort)
}
is_manager() { [[ " ${MANAGERS[*]} " == *" $1 "* ]]; }
# via_other N: what is said goes to a manager on another node, which is there.
via_other() {
  one_of "${MANAGERS[@]}"
  while [[ $REPLY == "$1" || $REPLY == "$LOST" ]]; do REPLY=$((REPLY % 3 + 1)); done
  VIA=$REPLY
}
lose() { # NODE HOW
  local begin=$EPOCHREALTIME pid
  did lose "$@"
  LOST=$1 LOST_AT=$begin HOW=$2
  via_other "$1"
  ! is_manager "$1" || hush "$STOP.name$1"
  ip link set "$BRIDGE-$1" down
  if [[ $2 == kill ]]; then
    kill_musterd "$1"
    for pid in $(find /sys/fs/cgroup -path "*$(instance "$1")*" -name cgroup.procs -exec cat {} + 2>/dev/null) \
      $(pgrep -f -- "$BASE/$1/|$RUN/$1/"); do
      kill -9 "$pid" 2>/dev/null || true
    done
  fi
  await 30 "node $1 is called down" node_is "$VIA" "$1" Status Down
  MOVED_AT=$SECONDS
  # What is committed is everywhere within a fraction of a second.
  excuse "$begin" roam
  ! is_manager "$1" || excuse "$begin" steady
}
come_back() {
  local n=$LOST
  [[ -n $n ]] || return 0
  did come_back "$n"
  ip link set "$BRIDGE-$n" up
  [[ $HOW != kill ]] || start_musterd "$n"
  await 40 "node $n is ready" node_is "$VIA" "$n" Status Ready
  is_served() { curl -fsS -m $((2 * slow)) -o /dev/null "http://$(address "$n"):8080/" && curl -fsS -m $((2 * slow)) -o /dev/null "http://$(address "$n"):8081/"; }
  await 15 "node $n serves" is_served
  # It leads as it did when it was cut off until its kernel has been told: to tasks that have gone, too.
  excuse "$LOST_AT" "node$n" $((2 * slow))
  LOST=
  ! is_manager "$n" || { grow_first; ask_inside "$n"; }
  did is_back "$n"
}
# All that runs there goes elsewhere, and nobody who asks notices.
drain() {
  DRAINED=$1 MOVED_AT=$SECONDS
  ! is_manager "$1" || hush "$STOP.name$1"
  say node update --availability drain "node$1"
}
undrain() {
  local n=$DRAINED
  [[ -n $n ]] || return 0
  ! is_manager "$n" || await 30 "node $n is drained" no_client "$n"
  DRAINED= MOVED_AT=$SECONDS
  say node update --availability active "node$n"
  ! is_manager "$n" || { grow_first; ask_inside "$n"; }
}
# grow NETWORK: by another subnet.
GROWN=()
grow() {
  GROWN+=("$1")
  say network update --subnet "10.190.${#GROWN[@]}.0/24" "$1"
}
# What waits for an address in the small one would go on waiting.
grow_first() { [[ " ${GROWN[*]} " == *' blue '* ]] || grow blue; }
# Whether tasks that are asked come and go, or nobody says that they do not.
moving() {
  ((SECONDS - MOVED_AT < 20 * slow)) && return 0
  local said
  said=$(timeout $((10 * slow)) "$BIN/muster" --socket "unix://$RUN/$VIA/muster.sock" service inspect roam steady 2>/dev/null) &&
    ! grep -q '"State": "updating"' <<<"$said" && return 1
  return 0
}
restart() {
  local begin=$EPOCHREALTIME sessions moved=
  did restart "$1"
  ! moving || moved=1
  sessions=$(has_session "$1")
  kill_musterd "$1"
  via_other "$1"
  start_musterd "$1"
  # Nobody waits for a node without a session, and its kernel hears of nothing: while tasks that are asked
  # come and go, connections by it may meet one that has gone. Else it goes on as before; what comes next
  # waits until it hears again.
  knows() { (($(has_session "$1") > $2)); }
  await 20 "node $1 has a session again" knows "$1" "$sessions"
  [[ -z $moved ]] || excuse "$begin" "node$1" $((2 * slow))
}
# N: how many sessions the node has had.
has_session() { grep -c 'session .* established' "$BASE/$1/musterd.log" || true; }
step() {
  local what=$1 task
  case $what in
    0 | 1 | 2 | 3) pick 8; create "$REPLY" ;;
    4 | 5) any || return 0; local name=$REPLY; pick 4; may service scale --detach "$name=$REPLY" ;;
    6 | 7) any || return 0; local name=$REPLY; pick 1000; may service update --detach --env-add "V=$REPLY" "$name" ;;
    8 | 9) any || return 0; unset "NETS[$REPLY]"; say service rm "$REPLY" ;;
    10 | 11) MOVED_AT=$SECONDS; pick 4; say service scale --detach "roam=$((REPLY + 2))" ;;
    12) MOVED_AT=$SECONDS; pick 1000; say service update --detach --env-add "V=$REPLY" roam ;;
    13) MOVED_AT=$SECONDS; pick 1000; say service update --detach --env-add "V=$REPLY" steady ;;
    14 | 15)
      any || return 0
      task=$(m "$VIA" service ps -q --no-trunc --filter desired-state=running "$REPLY" 2>/dev/null | head -1) || true
      [[ -z $task ]] || may network connect --alias "hand" green "$task"
      ;;
    16)
      any || return 0
      task=$(m "$VIA" service ps -q --no-trunc --filter desired-state=running "$REPLY" 2>/dev/null | head -1) || true
      [[ -z $task ]] || may network disconnect green "$task"
      ;;
    17) pick 3; say network create --driver overlay "extra$REPLY" ;;
    18) pick 3; say network rm "extra$REPLY" ;;
    19) one_of "${MANAGERS[@]}"; [[ -n $LOST ]] && is_manager "$LOST" || restart "$REPLY" ;; # never two at once
    20) one_of "${WORKERS[@]}"; [[ $REPLY == "$LOST" ]] || restart "$REPLY" ;;
    21)
      one_of "${NODES[@]}"
      local n=$REPLY
      one_of kill cut
      [[ -n $LOST || $n == "$DRAINED" ]] || lose "$n" "$REPLY"
      ;;
    22 | 23) come_back ;;
    24) one_of "${NODES[@]}"; [[ -n $DRAINED || $REPLY == "$LOST" ]] || drain "$REPLY" ;;
    25) undrain ;;
    26) one_of blue green shut; ((${#GROWN[@]} > 8)) || grow "$REPLY" ;;
    27)
      any || return 0
      local name=$REPLY
      a_port "${name#c}"
      may service update --detach --publish-add "$REPLY" "$name"
      ;;
  esac
}

# ---------------------------------------------------------------- what is to be

quiet() {
  local n
  come_back
  undrain
  settled "$VIA"
  for n in "${NODES[@]}"; do is "$(unprovoked "$n")" '' "what node $n repaired"; done
}
# N: repairs of the node, but for those of the first look after a start, which find what the one that was
# killed has left undone.
unprovoked() {
  python3 - "$BASE/$1/musterd.log" <<'PYTHON'
import datetime
import re
import sys
started = None
for line in open(sys.argv[1], encoding="utf-8", errors="replace"):
    at = re.match(r"(\d{4}-\S+)Z ", line)
    if not at:
        continue
    now = datetime.datetime.fromisoformat(at.group(1))
    if re.search(r"musterd \S+ serves", line) or started is None:
        started = now
    if "repaired: " in line and (now - started).total_seconds() > 15:
        print(line.strip())
PYTHON
}

echo "seed $SEED, $STEPS steps"
RANDOM=$SEED
start_registry
push_images busybox hello
for n in 1 2 3 4 5; do add_node $n; done
swarm_of manager manager worker worker
# In an emulated machine a node that the processors have no time for is no reason for a request to fail, nor
# to be called down.
ACK=2s
((slow == 1)) || ACK=10s
m 1 swarm update --drain-ack-timeout $ACK --dispatcher-heartbeat $((slow))s >/dev/null
beat_slowly 1

m 1 network create --driver overlay --subnet 10.190.0.0/28 blue >/dev/null
# Where the kernel can, one of the networks is encrypted.
ENCRYPTED=()
[[ $(m 1 info) != *'Encryption of networks: IPsec ESP'* ]] || ENCRYPTED=(--opt encrypted)
m 1 network create --driver overlay --attachable --ipv6 "${ENCRYPTED[@]}" green >/dev/null
m 1 network create --driver overlay --internal shut >/dev/null
m 1 service create --detach=false --monitor 0s --name client --mode global --constraint node.role==manager \
  --network blue --network green "$REGISTRY/busybox:1" sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
m 1 service create --detach=false --monitor 0s --name steady --replicas 3 --constraint node.role==manager \
  --network blue -p 8080:80 -p published=8082,target=80,client-address=masquerade --update-parallelism 1 \
  "${CHECK[@]}" "$REGISTRY/hello:1" >/dev/null
m 1 service create --detach=false --monitor 0s --name roam --replicas 5 \
  --network green -p 8081:80 -p published=8083,target=80,bind=eth0 --update-parallelism 1 \
  "${CHECK[@]}" "$REGISTRY/hello:1" >/dev/null
quiet
for n in "${MANAGERS[@]}"; do ask_inside $n; done
for n in "${NODES[@]}"; do ask_outside $n; done

note 'steps'
for ((i = 1; i <= STEPS; i++)); do
  pick 28
  step "$REPLY"
  ((i % (STEPS / 4) != 0)) || { note "quiet after $i"; grow_first; quiet; }
done
note 'who asked was answered'
judge

note 'removed, nothing is left on any node'
VIA=1
await 20 'a leader' has_leader 1
m 1 service rm $(m 1 service ls -q) >/dev/null
gone() { [[ -z $(m "$1" ps -q) ]]; }
for n in "${NODES[@]}"; do await 30 "containers of node $n end" gone $n; done
rm_networks() { local id; for id in $(m 1 network ls -q --filter driver=overlay --filter type=custom); do m 1 network rm "$id" || return 1; done; }
await 20 'networks go' rm_networks
quiet
left() {
  local n=$1
  find "$RUN/$n" -path '*netns/*' | sed 's/^/namespace /'
  in_host "$n" ip -o link | grep -o 'alias muster.*' | sed 's/^/link /' || true
  in_host "$n" nft list tables
  find /sys/fs/cgroup -maxdepth 3 -type d -name "$(instance "$n")*" | sed 's/^/cgroup /'
  pgrep -fa "conmon.*$BASE/$n/" | sed 's/^/process /' || true
  grep -o "$BASE/$n/[^ ]*\|$RUN/$n/[^ ]*" /proc/self/mountinfo | sed 's/^/mount /' || true
}
for n in 5 4 3 2 1; do
  m $n swarm leave --force >/dev/null
  is "$(left $n)" '' "left behind on node $n"
done
finish
