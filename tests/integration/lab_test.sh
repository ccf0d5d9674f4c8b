#!/usr/bin/env bash
# The lab: several nodes on one machine. Their musterds, containers, network and registry are real;
# what is tested is that a command does to a node what it says, that a lab is found again whatever
# was killed, and that nothing of it is left behind.
source "$(dirname "$0")/lib.sh"

# Labs of this test only, so that it does not meet those of others.
export MUSTER_LAB_DIR=$NODE/labs
unset MUSTER_SOCKET MUSTER_LAB
trap 'status=$?; trap - EXIT; end_outside; end_labs; cleanup_lab $status' EXIT
outside=
end_outside() {
  [[ -z $outside ]] || kill "$outside" 2>/dev/null || true
  ip netns delete "lab-out-$$" 2>/dev/null || true
}
end_labs() { "$BIN/muster" lab down --all >/dev/null 2>&1 || true; }
cleanup_lab() { rm -rf --one-file-system "$NODE" "$RUN"; exit "$1"; }
die() {
  echo "FAILED: $*" >&2
  for log in "$MUSTER_LAB_DIR"/*/*/log; do
    echo "---- last lines of $log" >&2
    tail -15 "$log" >&2 2>/dev/null || true
  done
  exit 1
}

state() { muster lab ls --name "${2:-one}" --format '{{.Node}} {{.State}}' | sed -n "s/^$1 //p"; }
on() { muster --socket "unix://$MUSTER_LAB_DIR/one/$1/run/muster.sock" "${@:2}"; }
nothing_left_of() { [[ -z $(left_of "$1") ]] || die "left behind: $(left_of "$1")"; checks=$((checks + 1)); }

note 'wrong usage is told'
fails 'a lab has 1 to 15 managers' muster lab up --managers 0
fails 'for --workers: a number' muster lab up --workers two
fails 'cannot be the name of a lab' muster lab up --name 'A b'
fails 'musterd beside muster' muster lab up --musterd /nowhere/musterd
fails 'too long for a socket' muster lab up --dir "$NODE/$(printf 'a%.0s' {1..90})"
fails 'there is no lab' muster lab ssh manager1
fails 'there is no lab "other"' muster lab down --name other
[[ ! -e $MUSTER_LAB_DIR ]] || die 'a lab that was refused left its folder'

note 'a lab of one manager'
out=$(muster lab up --name one)
has "$out" 'manager1 started the swarm' 'progress'
is "$(state manager1)" running 'the state of a node'
is "$(state registry)" running 'the state of the registry'
is "$(muster lab ls --name one --format '{{.Node}} {{.Status}} {{.ManagerStatus}}' | tail -1)" \
  'manager1 Ready Leader' 'the node as its manager knows it'
fails 'lab one exists already' muster lab up --name one
registry=$(muster lab ls --name one --format '{{.Node}} {{.Address}}' | sed -n 's/^registry //p')
address=$(muster lab ls --name one --format '{{.Node}} {{.Address}}' | sed -n 's/^manager1 //p')

note 'a node is a host: its name, its processes, its names of others, its musterd'
is "$(muster lab ssh manager1 hostname)" manager1 'the host name'
is "$(muster lab ssh manager1 -- hostname)" manager1 'the host name, after a --'
is "$(muster lab ssh manager1 cat /proc/1/comm)" lab:manager1 'its first process'
is "$(muster lab ssh manager1 muster node ls --format '{{.Hostname}}')" manager1 'muster inside'
has "$(muster lab ssh manager1 cat /etc/hosts)" 'registry.one' 'names of the lab'
status=0
muster lab ssh manager1 sh -c 'exit 7' || status=$?
is "$status" 7 'the exit code of a command inside'
is "$(echo in | muster lab ssh manager1 cat)" in 'standard input of a command inside'
is "$(hostname)" "$(uname -n)" 'the host kept its own name'

note 'images from the registry, ports on the node'
deploy/packaging/images/build.sh --out "$NODE/images" --push "$registry" busybox >/dev/null
serve='mkdir -p /www && hostname >/www/index.html && httpd -f -p 80 -h /www'
on manager1 service create --name web -p 8080:80 --detach=false registry:5000/busybox:1 \
  sh -c "$serve" >/dev/null
page() { curl -fsS -m 2 "http://$address:8080/"; }
await 10 'the published port, from the host' page
before=$(page)

note 'networks keep away from what the node reaches by itself'
subnet_of() { on manager1 network inspect "$1" --format '{{(index .IPAM.Config 0).Subnet}}'; }
own=${address%.*}.0/24
has "$(on manager1 node inspect self --format '{{.Description.LocalRanges}}')" "$own" 'what it reaches'
has "$(on manager1 network create --subnet "$own" clash 2>&1)" \
  "WARNING: subnet $own overlaps $own, which node manager1 reaches by itself" 'a warning'
has "$(on manager1 node inspect --pretty self)" "overlaps subnet $own of network clash" 'the node'
on manager1 network rm clash >/dev/null
on manager1 network create first >/dev/null
first=$(subnet_of first)
on manager1 network rm first >/dev/null
muster lab ssh manager1 ip route add "$first" via "${address%.*}.1"
await 30 'the route is known' bash -c \
  "muster --socket unix://$MUSTER_LAB_DIR/one/manager1/run/muster.sock node inspect self | grep -q '$first'"
on manager1 network create second >/dev/null
[[ $(subnet_of second) != "$first" ]] || die 'a subnet that the node reaches by a route'
on manager1 network rm second >/dev/null
muster lab ssh manager1 ip route del "$first"

note 'musterd is killed: containers go on, and a new one finds them'
is "$(muster lab kill manager1)" manager1 'kill names the node'
is "$(state manager1)" killed 'a killed node'
is "$(page)" "$before" 'the container of a killed musterd'
fails 'manager1 does not run' muster lab kill manager1
fails 'manager1 does not run' muster lab pause manager1
muster lab start manager1 >/dev/null
is "$(state manager1)" running 'a node started again'
fails 'manager1 runs already' muster lab start manager1
is "$(page)" "$before" 'the container after a new start'
muster lab stop manager1 >/dev/null
is "$(state manager1)" stopped 'a stopped node'
is "$(page)" "$before" 'the container of a stopped musterd'
muster lab start >/dev/null

note 'paused and resumed'
muster lab pause manager1 >/dev/null
is "$(state manager1)" paused 'a paused node'
fails 'manager1 is paused' muster lab stop manager1
muster lab resume manager1 >/dev/null
is "$(state manager1)" running 'a resumed node'

note 'a node without power comes back with its disk'
note_instances one
muster lab kill --all-processes manager1 >/dev/null
is "$(state manager1)" off 'a node without power'
! page 2>/dev/null || die 'a container outlived the power of its node'
fails 'nothing of manager1 runs' muster lab ssh manager1 true
fails "is the lab's switch too" muster lab kill --all-processes registry
muster lab start manager1 >/dev/null
await 30 'the service on the node that came back' page
[[ $(page) != "$before" ]] || die 'the container is that of before'

note 'the registry is a node like others'
muster lab kill registry >/dev/null
is "$(state registry)" killed 'the registry killed'
! curl -fsS -m 1 "http://$registry/v2/" 2>/dev/null || die 'a killed registry answers'
muster lab start registry >/dev/null
curl -fsS "http://$registry/v2/" >/dev/null

note 'logs'
has "$(muster lab logs manager1)" 'leading term' "the node's log"
is "$(muster lab logs -n 2 manager1 | wc -l)" 2 'the last two lines'
is "$(muster lab logs -n 0 manager1 | wc -l)" 0 'no lines'
# In the foreground timeout(1) passes a signal on once; the second would kill what ends by the first.
timeout --foreground 60 muster lab logs -f -n 0 manager1 >"$NODE/followed" &
follower=$!
followed() { grep -q 'stopping on' "$NODE/followed"; }
# Only what is written after it began is followed, and when it has begun cannot be seen.
restart() { muster lab stop manager1 && muster lab start manager1 && followed; }
await 20 'a followed line' restart
kill "$follower"
wait "$follower" || die "following ended with $?"

note 'nodes reach nothing outside, unless there is a way out'
ip netns add "lab-out-$$"
ip link add "lo$$" type veth peer name eth0 netns "lab-out-$$"
ip address add 198.51.100.1/30 dev "lo$$"
ip link set "lo$$" up
ip -n "lab-out-$$" address add 198.51.100.2/30 dev eth0
ip -n "lab-out-$$" link set eth0 up
ip netns exec "lab-out-$$" socat TCP-LISTEN:80,fork SYSTEM:'echo $SOCAT_PEERADDR' &
outside=$!
seen_as() { muster lab ssh --name "$1" manager1 timeout 2 bash -c 'cat </dev/tcp/198.51.100.2/80'; }
from_host() { timeout 2 bash -c 'cat </dev/tcp/198.51.100.2/80'; }
await 5 'the host outside' from_host
! seen_as one 2>/dev/null || die 'a node without a way out found one'
forwards=$(</proc/sys/net/ipv4/ip_forward)
muster lab up --name out --nat >/dev/null
is "$(seen_as out)" 198.51.100.1 'whom the outside sees'
is "$(</proc/sys/net/ipv4/ip_forward)" 1 'forwarding, with a way out'
INSTANCES=
has "$(left_of out)" 'muster_lab_out' 'the rules of a way out'
muster lab down --name out >/dev/null
nothing_left_of out
is "$(</proc/sys/net/ipv4/ip_forward)" "$forwards" 'forwarding, afterwards'
kill "$outside"
ip netns delete "lab-out-$$"

note 'a second lab beside it'
muster lab up --name two >/dev/null
fails 'there are several labs (one, two)' muster lab kill manager1
is "$(MUSTER_LAB=two muster lab ssh manager1 muster node ls --format '{{.Hostname}}')" manager1 \
  'a node of the second lab'
[[ $(muster lab ls --format '{{.Address}}' | sort | uniq -d) == '' ]] || die 'labs share addresses'
INSTANCES=
muster lab down --name two >/dev/null
nothing_left_of two

note 'down: nothing is left'
note_instances one
for part in process link cgroup folder; do has "$(left_of one)" "$part " 'what a lab that is up has'; done
muster lab down --name one >/dev/null
nothing_left_of one
fails 'there is no lab' muster lab down

note 'three managers and two workers'
muster lab up --name big --managers 3 --workers 2 >/dev/null
export MUSTER_LAB=big
big() { muster --socket "unix://$MUSTER_LAB_DIR/big/$1/run/muster.sock" "${@:2}"; }
field() { muster lab ls --name big --format "{{.Node}} {{.$2}}" | sed -n "s/^$1 //p"; }
all_well() {
  [[ $(muster lab ls --name big --format '{{.Status}}' | grep -c Ready) == 5 ]] &&
    [[ $(muster lab ls --name big --format '{{.ManagerStatus}}' | grep -c -e Leader -e Reachable) == 3 ]]
}
all_well || die "not all are well: $(muster lab ls --name big)"
# Sets `leader` and `other`, another manager.
find_leader() {
  leader=$(muster lab ls --name big --format '{{.Node}} {{.ManagerStatus}}' | sed -n 's/ Leader$//p')
  other=$(muster lab ls --name big --format '{{.Node}} {{.ManagerStatus}}' | sed -n 's/ Reachable$//p' | head -1)
  [[ -n $leader && -n $other ]] || die "no leader: $(muster lab ls --name big)"
}
change() { timeout 5 "$BIN/muster" --socket "unix://$MUSTER_LAB_DIR/big/$other/run/muster.sock" \
  node update --label-add "n=$RANDOM" worker1; }
registry=$(field registry Address)
deploy/packaging/images/build.sh --out "$NODE/images" --push "$registry" busybox >/dev/null
big manager2 service create --name everywhere --mode global --detach=false --monitor 0s \
  registry:5000/busybox:1 sleep infinity >/dev/null
big manager3 service create --name moving --replicas 4 --constraint node.role==worker \
  --detach=false --monitor 0s registry:5000/busybox:1 sleep infinity >/dev/null

note 'cuts: silent, refused, in one direction, healed'
reach() { muster lab ssh "$1" curl -sS -m "${2:-1}" -o /dev/null "http://$registry/v2/" 2>&1; }
is "$(reach worker1 10)" '' 'a node reaches the registry'
muster lab partition registry worker1
has "$(reach worker1 || true)" 'timed out' 'a silent cut'
is "$(reach worker2 10)" '' 'another node'
is "$(field worker1 CutOffFrom)" registry 'whom a node is cut off from'
muster lab heal worker1 registry
is "$(reach worker1 10)" '' 'a healed cut'
muster lab partition --refuse worker1 registry
has "$(reach worker1 || true)" "Couldn't connect" 'a cut that refuses'
muster lab heal
muster lab partition --one-way registry worker1
is "$(field worker1 CutOffFrom)" 'registry (from it)' 'a cut in one direction'
muster lab kill --all-processes worker1 >/dev/null
muster lab start worker1 >/dev/null
has "$(reach worker1 || true)" 'timed out' 'a cut outlives the power of its node'
muster lab heal
fails 'nothing is cut' muster lab heal worker1
fails 'has no node "worker3"' muster lab partition worker1,worker3
fails 'on both sides' muster lab partition worker1 worker1
await 20 'all nodes are well' all_well

note 'the leader is cut off: the others go on, and it says so itself'
find_leader
muster lab partition "$leader"
await 30 'a change without the old leader' change
asks_it() { timeout 6 "$BIN/muster" --socket "unix://$MUSTER_LAB_DIR/big/$leader/run/muster.sock" \
  node update --label-add old=1 worker1 2>&1; }
says_so() { [[ $(asks_it) == *'does not have a leader'* ]]; }
says_so || says_so || says_so || die 'the old leader does not say within 6 s that there is none'
checks=$((checks + 1))
muster lab heal
await 20 'all nodes are well' all_well
[[ $(field "$leader" ManagerStatus) != Leader ]] || die 'the old leader leads again'

note 'the leader is frozen, stopped, killed'
for how in pause stop kill; do
  find_leader
  muster lab "$how" "$leader" >/dev/null
  await 30 "a change after $how" change
  if [[ $how == pause ]]; then muster lab resume "$leader"; else muster lab start "$leader"; fi >/dev/null
  await 20 "all nodes are well after $how" all_well
done
is "$(big manager1 service ls --filter name=everywhere --format '{{.Replicas}}')" 5/5 'tasks on all nodes'

note "a worker loses its power: its tasks run elsewhere, and come to an end on it"
muster lab kill --all-processes worker1 >/dev/null
moved() { [[ $(big manager1 service ps --filter node=worker2 --filter desired-state=running --format '{{.CurrentState}}' moving | grep -c ^Running) == 4 ]]; }
await 30 'all tasks on the other worker' moved
is "$(field worker1 State)" off 'a node without power'
muster lab start worker1 >/dev/null
await 20 'all nodes are well' all_well
note_instances big
unset MUSTER_LAB
muster lab down --name big >/dev/null
nothing_left_of big

note 'a lab whose making was killed is taken down, at whatever moment'
for after in 0.02 0.05 0.1 0.2 0.4; do
  muster lab up --name cut >/dev/null 2>&1 &
  up=$!
  read -rt "$after" <> <(:) || true
  kill -9 "$up" 2>/dev/null || true
  wait "$up" 2>/dev/null || true
  INSTANCES=
  # Nothing at all may have been made yet.
  muster lab down --name cut >/dev/null 2>&1 || true
  nothing_left_of cut
done

note 'Ctrl-C takes back what was made'
for after in 0.3 0.9 1.5; do
  status=0
  timeout -s INT "$after" "$BIN/muster" lab up --name cut --managers 3 >/dev/null 2>&1 || status=$?
  INSTANCES=
  # A fast machine may be through by then.
  ((status != 0)) || muster lab down --name cut >/dev/null
  nothing_left_of cut
done

note 'a lab whose switch, record and folder are gone is taken down'
muster lab up --name cut >/dev/null
pkill -9 -f -- "init-node $MUSTER_LAB_DIR/cut registry"
muster lab ls >/dev/null
muster lab start registry >/dev/null
is "$(muster lab ssh manager1 cat /sys/class/net/lo/operstate)" unknown 'a node with a new switch'
curl -fsS "http://$(muster lab ls --format '{{.Node}} {{.Address}}' | sed -n 's/^registry //p')/v2/" >/dev/null
note_instances cut
echo '{' >"$MUSTER_LAB_DIR/cut/lab.json"
fails 'damaged or half made' muster lab start
has "$(muster lab ls)" damaged 'a damaged lab in the list'
fails 'damaged or half made' muster lab up --name cut
muster lab down --name cut >/dev/null
nothing_left_of cut
muster lab up --name cut >/dev/null
rm -rf --one-file-system "$MUSTER_LAB_DIR/cut"
fails 'processes of an earlier lab' muster lab up --name cut
INSTANCES=
muster lab down --all >/dev/null
nothing_left_of cut

note 'a lab that does not come up goes again, or is kept'
printf '#!/bin/sh\necho no luck today >&2\nexit 1\n' >"$NODE/musterd"
chmod +x "$NODE/musterd"
fails 'no luck today' muster lab up --name bad --musterd "$NODE/musterd"
nothing_left_of bad
fails 'and is kept' muster lab up --name bad --keep --musterd "$NODE/musterd"
is "$(state manager1 bad)" ended 'a node that ended by itself'
muster lab down --name bad >/dev/null
nothing_left_of bad
[[ ! -e $MUSTER_LAB_DIR ]] || die 'the folder of all labs is left'
echo "$checks checks passed"
