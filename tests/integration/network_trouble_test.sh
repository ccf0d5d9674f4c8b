#!/usr/bin/env bash
# What goes wrong with networks for reasons outside of muster: address pools that are used up, subnets
# that a host reaches by itself, two hosts that name one data-path address, a kernel without VXLAN, one
# without br_netfilter, harm done inside of a container while musterd is dead. Each is said where a user
# looks, nothing is half made, what waits goes on when the reason is gone, and nothing is left.
source "$(dirname "$0")/cluster_lib.sh"

task() { m "$1" ps --format '{{.Names}}' | grep "^$2\." | head -1; }
inside() { local n=$1 s=$2; shift 2; m "$n" exec "$(task "$n" "$s")" "$@"; }
overlay_address() { inside "$1" "$2" ip -4 -o address show eth0 | sed -n 's/.*inet \([0-9.]*\).*/\1/p'; }
# seen WORDS COMMAND...: in what the command shows
seen() { local words=$1; shift; SAID=$("$@" 2>&1) || true; [[ $SAID == *"$words"* ]]; }
says() { local what=$1 words=$2; shift 2; await 15 "$what: $words" seen "$words" "$@"; }
idle='trap "exit 0" TERM; sleep 86400 & wait'
create() { m 1 service create --detach --monitor 0s "$@" "$REGISTRY/busybox:1" sh -c "$idle" >/dev/null; }

start_registry
push_images busybox
add_node 1
LD_PRELOAD=$BIN/no_br_netfilter.so add_node 2
LD_PRELOAD=$BIN/no_vxlan.so add_node 3
in_host 2 ip link add own type bridge
in_host 2 ip address add 10.66.0.1/16 dev own
in_host 2 ip link set own up

note 'two hosts that name one data-path address'
shared=10.67.0.9
for n in 2 3; do in_host $n ip address add $shared/32 dev lo; done
# A /25 of the pool for each network, and the first piece for the mesh.
init 1 --default-addr-pool 172.20.0.0/23 --default-addr-pool-mask-length 25 >/dev/null
join 2 1 worker --data-path-addr $shared >/dev/null
fails 'address' join 3 1 worker --data-path-addr 10.67.0.200
join 3 1 worker --data-path-addr $shared >/dev/null
for n in 1 2 3; do await 15 "node $n is ready" node_is 1 $n Status Ready; done
says 'node 2' "data-path address $shared is that of node node3, too: what is sent to the one reaches the other" \
  m 1 node inspect --pretty node2
says 'node 3' "is that of node node2, too" m 1 node inspect node3
hasnt "$(m 1 node inspect node1)" 'is that of node' 'of a node that has its own'
for n in 3 2; do
  m $n swarm leave >/dev/null
  await 15 "node $n is down" node_is 1 $n Status Down
  m 1 node rm node$n >/dev/null
  is "$(in_host $n nft list tables)$(in_host $n ip -o link | grep -o 'alias muster.*' || true)" '' "left on node $n"
  in_host $n ip address del $shared/32 dev lo
  join $n 1 worker >/dev/null
done
for n in 2 3; do
  await 15 "node $n is ready" node_is 1 $n Status Ready
  hasnt "$(m 1 node inspect node$n)" 'is that of node' 'of nodes that have their own'
done

note 'a subnet that a host reaches by itself'
knows() { [[ $(m 1 node inspect --format '{{.Description.LocalRanges}}' node2) == *10.66.0.0/16* ]]; }
await 15 'what node 2 reaches' knows
# An address that no route leads to, as keepalived has it.
in_host 2 ip address add 10.68.0.9/32 dev lo
own_address() { [[ $(m 1 node inspect --format '{{.Description.LocalRanges}}' node2) == *10.68.0.9/32* ]]; }
await 30 'an address of its own' own_address
in_host 2 ip address del 10.68.0.9/32 dev lo
has "$(m 1 network create --driver overlay --subnet 10.66.7.0/24 lapped 2>&1 >/dev/null)" \
  'WARNING: subnet 10.66.7.0/24 overlaps 10.66.0.0/16, which node node2 reaches by itself' 'who makes the network'
has "$(m 1 network inspect lapped)" 'which node node2 reaches by itself' 'the network'
has "$(m 1 node inspect --pretty node2)" \
  '10.66.0.0/16, which this node reaches by itself, overlaps subnet 10.66.7.0/24 of network lapped' 'the node'
m 1 network rm lapped >/dev/null
hasnt "$(m 1 node inspect node2)" 'overlaps subnet' 'the node afterwards'

note 'address pools that are used up'
made=()
for i in 1 2 3 4 5 6; do
  SAID=$(m 1 network create --driver overlay pool$i 2>&1 >"$BASE/made") || break
  is "$SAID" '' 'beside the id of a network that can be used'
  has "$(m 1 network inspect pool$i)" '"Subnet": "172.2' "pool$i has its subnet when the command ends"
  made+=("pool$i")
done
has "$SAID" "network pool$i is made, but cannot be used yet: no free /25 subnet is left in the IPv4 address pools (" \
  'who makes one too many'
has "$SAID" "): name one by --subnet, also from outside of them; it waits until something is given back, or \`network rm pool$i\` takes it back" \
  'the ways out'
is "$(m 1 network inspect --format '{{.ID}}' pool$i)" "$(cat "$BASE/made")" 'its id'
has "$(m 1 network inspect pool$i)" 'no free /25 subnet is left in the IPv4 address pools (' 'the network'
((${#made[@]} >= 2)) || die "only ${#made[@]} networks of the pool"
create --name waits --network pool$i
why="network pool$i: no free /25 subnet is left in the IPv4 address pools"
says 'the service' "$why" m 1 service inspect waits
says 'the service, for people' "$why" m 1 service inspect --pretty waits
says 'its task' "$why" m 1 service ps --no-trunc waits
says 'who explains it' "$why" m 1 service explain waits
is "$(m 1 ps -q)$(m 2 ps -q)$(m 3 ps -q)" '' 'containers without a network'
fails 'overlaps' m 1 network create --driver overlay --subnet 172.20.0.0/25 taken
m 1 network rm "${made[0]}" >/dev/null
await 20 'it goes on when a subnet is given back' runs 1 waits 1
hasnt "$(m 1 network inspect pool$i)" AllocationError 'the network afterwards'
m 1 service rm waits >/dev/null
for net in pool$i "${made[@]:1}"; do await 20 "network $net goes" m 1 network rm $net; done

note 'a kernel without VXLAN'
m 1 network create --driver overlay --attachable blue >/dev/null
# Whether a container comes before there are members elsewhere, or after them.
create --name lone --network blue --constraint node.hostname==node3
create --name box --mode global --network blue
lacks='this kernel has no VXLAN (module vxlan), by which other nodes are reached'
for service in lone box; do says "the task of $service" "$lacks" m 1 service ps --no-trunc $service; done
says 'the task of lone' 'overlay networks not possible on 1 node' m 1 service ps --no-trunc lone
says 'who explains it' "$lacks" m 1 service explain lone
create --name plain --constraint node.hostname==node3
await 20 'a container in no network' runs 1 plain 1
fails "network blue cannot be entered on node node3 of task plain.1: $lacks" \
  m 1 network connect blue "$(task 3 plain)"
m 1 service rm plain >/dev/null
says 'node 3' "network ingress is not as it should be here" m 1 node inspect node3
says 'node 3' "$lacks" m 1 node inspect node3
hasnt "$(m 1 node inspect node2)" VXLAN 'of a node that has it'
doctor() { m 1 network doctor --timeout $((4 * slow))s 2>&1; }
has "$(doctor || true)" "$lacks" 'the doctor'
running() { [[ -n $(task "$1" box) ]]; }
for n in 1 2; do await 20 "a container on node $n" running $n; done
blue=$(m 1 network inspect blue --format '{{.ID}}')
nothing() { [[ -z $(m 3 ps -aq)$(find "$RUN/3" -path "*netns/net-$blue") ]]; }
await 10 'nothing is half made' nothing
await 5 'others reach one another' inside 1 box ping -c 1 -W 1 "$(overlay_address 2 box)"
stop_musterd 3
start_musterd 3
await 20 'node 3 is ready' node_is 1 3 Status Ready
await 25 'the third one when the module is there' runs 1 box 3
await 25 'and the lone one' runs 1 lone 1
for n in 1 2; do
  await 5 "the way to node $n" inside 3 box ping -c 1 -W 1 "$(overlay_address $n box)"
done
not_said() { ! seen "$1" m 1 node inspect "node$2"; }
await 15 'nothing is said any more' not_said VXLAN 3

note 'a kernel without br_netfilter'
lacks='this kernel has no br_netfilter'
says 'node 2' "$lacks" m 1 node inspect node2
says 'node 2' "$lacks" m 1 node inspect --pretty node2
for n in 1 3; do hasnt "$(m 1 node inspect node$n)" br_netfilter 'of a node that has it'; done
has "$(doctor || true)" "$lacks" 'the doctor'
serve() { m 1 service create --detach=false --monitor 0s "$@" "${WHO_CHECK[@]}" "$REGISTRY/busybox:1" sh -c "$WHO" >/dev/null; }
serve --name there --constraint node.hostname==node2 \
  -p 8080:80 -p published=8081,target=80,client-address=keep
serve --name elsewhere --constraint node.hostname==node1 -p 8082:80
# place N: node N's address in the ingress network; shows N PORT ADDRESS: whom a task sees by that port of N
place() { m 1 node inspect --format '{{(index .Ingress.Addresses 0)}}' "node$1" | sed 's|/.*||'; }
shows() { [[ $(page "$(address "$1"):$2" | cut -d' ' -f2) == "$3" ]]; }
for n in 1 2 3; do
  for port in 8080 8082; do
    await 15 "port $port shows node $n in its clients' place" shows $n $port "$(place $n)"
  done
done
# The node does not find the way back, which is what the others are masqueraded for.
for n in 1 3; do ! page "$(address $n):8081" 2>/dev/null || die "a port that keeps its clients answers by node $n"; done
stop_musterd 2
start_musterd 2
await 20 'node 2 is ready' node_is 1 2 Status Ready
await 15 'nothing is said any more' not_said br_netfilter 2
for n in 1 2 3; do
  for port in 8080 8081 8082; do
    await 15 "port $port shows its client by node $n" shows $n $port "$NET.254"
  done
done
m 1 service rm there elsewhere >/dev/null

note 'harm inside of a container while musterd is dead'
create --name harmed --network blue --publish 5353:53/udp --constraint node.hostname==node2
await 25 'a task that is published' runs 1 harmed 1
container=$(m 2 ps --no-trunc --format '{{.ID}} {{.Names}}' | sed -n 's/ harmed\..*//p')
pin=$(find "$RUN/2" -path "*netns/$container")
in_container() { in_host 2 nsenter --net="$pin" "$@"; }
given() {
  in_container ip -o address show scope global | sed 's/valid_lft.*//' | sort
  in_container ip route show table all | grep -v '^\(local\|broadcast\)' | sort
  in_container ip rule
  in_container ip neigh show nud permanent
}
was=$(given)
has "$was" 'lookup 77' 'rules of the mesh'
has "$was" 'default via 172.' 'a default route'
address=$(in_container ip -4 -o address show eth1 | sed -n 's/.*inet \([0-9./]*\).*/\1/p')
kill_musterd 2
in_container ip address del "$address" dev eth1
in_container ip route del default
in_container ip rule del pref 74
in_container ip address add 198.51.100.9/32 dev eth1  # its own
hasnt "$(given)" "$address" 'the harm'
start_musterd 2
own() { grep -v 198.51.100.9; }
whole() { [[ $(given | own) == "$was" ]]; }
await 15 'all is back' whole
has "$(given)" 198.51.100.9 "what is the container's own"
for what in "lacked address $address at eth1" 'lacked its default route' 'lacked routing rule 74'; do
  says 'node 2' "container $container $what" m 1 node inspect --pretty node2
  has "$(cat "$BASE/2/musterd.log")" "repaired: container $container $what" 'the log'
done
m 1 service rm harmed >/dev/null

note 'nothing is left'
m 1 service rm box lone >/dev/null
gone() { [[ -z $(m "$1" ps -q) ]]; }
for n in 1 2 3; do await 20 "containers of node $n end" gone $n; done
await 20 'the network goes' m 1 network rm blue
for n in 3 2 1; do
  m $n swarm leave --force >/dev/null
  is "$(find "$RUN/$n" -path '*netns/*')" '' "namespaces of node $n"
  is "$(in_host $n ip -o link | grep -o 'alias muster.*' || true)" '' "links of node $n"
  is "$(in_host $n nft list tables)" '' "tables of node $n"
done
finish
