#!/usr/bin/env bash
# Networks in use: running containers are connected to attachable networks and leave them, also
# while their node's musterd is away, names and aliases lead where they should on both hosts, and a
# network whose addresses are all in use grows by a second subnet.
source "$(dirname "$0")/cluster_lib.sh"

SERVE='mkdir -p /www; hostname >/www/who; httpd -f -p 80 -h /www'
CHECK=(--health-cmd 'wget -q -O /dev/null http://127.0.0.1/who' --health-interval "${slow}s"
  --health-start-period $((10 * slow))s --health-start-interval $((100 * slow))ms)
CREATE=(service create --detach=false --monitor 0s)
# task N SERVICE: the name of the service's container on node N
task() { m "$1" ps --format '{{.Names}}' | grep "^$2\." | head -1; }
inside() { local n=$1 s=$2; shift 2; m "$n" exec "$(task "$n" "$s")" "$@"; }
# N SERVICE: the addresses of the service's container on node N, as it sees them
addresses() { inside "$1" "$2" ip -4 -o address | sed -n 's/.* eth[0-9]* *inet \([0-9.]*\).*/\1/p'; }
in_front() { addresses "$1" "$2" | grep '^10\.31\.'; }
not_in_front() { ! in_front "$@"; }
# N SERVICE NAME: who answers there
who() { inside "$1" "$2" timeout $((3 * slow)) wget -q -O - "http://$3/who"; }
answers() { [[ -n $(who "$@") ]]; }
nobody() { ! answers "$@"; }
# N SERVICE NAME ADDRESS: the name means the address
means() { inside "$1" "$2" nslookup "$3" 127.0.0.11 | grep -q "Address.*: *$4\$"; }

start_registry
push_images busybox
for n in 1 2; do add_node $n; done
swarm_of worker
IMAGE=$REGISTRY/busybox:1

note 'aliases, and a service in several networks'
m 1 network create --attachable --subnet 10.31.0.0/28 front >/dev/null
m 1 network create --attachable --internal ops >/dev/null
m 1 network create closed >/dev/null
m 1 "${CREATE[@]}" --mode global --name web --network name=front,alias=site --network closed \
  "${CHECK[@]}" "$IMAGE" sh -c "$SERVE" >/dev/null
m 1 "${CREATE[@]}" --mode global --name box --network ops "$IMAGE" sleep 1d >/dev/null
cat >"$BASE/stack.yml" <<END
networks:
  front: {external: true, name: front}
  ops: {external: true, name: ops}
services:
  db:
    image: $IMAGE
    command: ["sh", "-c", "mkdir -p /www; echo db >/www/who; httpd -f -p 80 -h /www"]
    networks:
      front: {aliases: [data]}
      ops: {aliases: [store, archive]}
    deploy: {placement: {constraints: [node.hostname == node2]}}
END
m 1 stack deploy --detach=false -c "$BASE/stack.yml" shop >/dev/null
for n in 1 2; do
  for name in site web; do await 5 "$name on node $n" answers $n web $name; done
  await 5 "the stack's alias on node $n" answers $n web data
  is "$(who $n box store)$(who $n box archive)" dbdb "aliases in the other network, on node $n"
  nobody $n box data || die 'an alias of another network is known'
  nobody $n box web || die 'a network is reached that it is not in'
done

note 'a running container enters a network'
b2=$(m 2 ps --format '{{.ID}} {{.Names}}' | sed -n 's/ box\..*//p')
m 1 network connect --ip 10.31.0.14 front "$(task 1 box)"
fails 'address 10.31.0.14 is in use' m 1 network connect --ip 10.31.0.14 front "$b2"
fails 'address 10.31.0.1 is reserved' m 1 network connect --ip 10.31.0.1 front "$b2"
m 1 network connect --alias probe --alias second front "$b2"
for n in 1 2; do
  await 5 "the interface on node $n" in_front $n box
  await 5 "the service's name from node $n" answers $n box web
  for to in 1 2; do
    await 5 "node $to from node $n" inside $n box ping -c 1 -W 1 "$(in_front $to web)"
  done
  is "$(who $n box store)" db 'its own networks go on'
done
is "$(in_front 1 box)" 10.31.0.14 'the address that was asked for'
probe=$(in_front 2 box)
for name in probe second "$(task 2 box)"; do
  for n in 1 2; do await 5 "$name on node $n" means $n web "$name" "$probe"; done
done
await 5 'ping of it' inside 1 web ping -c 1 -W 1 probe
# The network leads out, its own does not.
await 5 'a way out' inside 2 box ping -c 1 -W 1 "$NET.254"
shown=$(m 1 network inspect front)
has "$shown" '"Connected"' 'network inspect'
has "$shown" "$(task 2 box)" 'who is connected'

note 'what cannot be is refused in words'
fails 'not manually attachable' m 1 network connect closed "$(task 1 box)"
fails 'already exists in network front' m 1 network connect front "$(task 1 box)"
fails 'is in no subnet of the network' m 1 network connect --ip 10.99.0.1 ops "$(task 1 web)"
fails 'is one of service web' m 1 network disconnect front "$(task 1 web)"
fails 'is not connected to network closed' m 1 network disconnect closed "$(task 1 box)"
fails 'no such task or container' m 1 network connect front nobody
m 1 network disconnect --force closed "$(task 1 box)"
fails 'in use by service' m 1 network rm front
fails 'overlaps 10.31.0.0/28' m 1 network update --subnet 10.31.0.0/24 front
fails 'not enabled for the network' m 1 network update --subnet fd31::/64 front
fails 'has no subnets' m 1 network update --subnet 10.32.0.0/24 host
m 1 network disconnect front "$(task 1 box)"
await 5 'node 1 has left it' not_in_front 1 box

note 'connections outlive musterd, and what was said meanwhile is carried out'
kill_musterd 2
m 1 network connect --alias late front "$(task 1 box)"
await 5 'on node 1' answers 1 box web
start_musterd 2
await 10 'node 2 is back' answers 2 box web
for n in 1 2; do await 5 "probe, after that, on node $n" means $n web probe "$probe"; done
name=$(task 2 box)
kill_musterd 2
m 1 network disconnect front "$name"
# The container is in it yet: its address is nobody else's.
m 1 network disconnect front "$(task 1 box)"
fails "address $probe is in use" m 1 network connect --ip "$probe" front "$(task 1 box)"
m 1 network connect --alias late front "$(task 1 box)"
start_musterd 2
await 10 'it has left when its musterd is back' not_in_front 2 box
nobody 2 box web || die 'it still reaches the network that it left'
is "$(who 2 box store)" db 'its own network goes on'
! inside 2 box ping -c 1 -W 1 "$NET.254" >/dev/null 2>&1 || die 'the way out is still there'
! means 1 web probe "$probe" || die 'its alias is still known'
m 1 network disconnect front "$(task 1 box)"
await 5 'the address can be had' m 1 network connect --ip "$probe" front "$(task 1 box)"

note 'the task that replaces another is in the networks of its service alone'
await 5 'node 1 is in it' in_front 1 box
old=$(task 1 box)
kill -9 "$(pids_on 1 box)" 2>/dev/null || true
replaced() { local now; now=$(task 1 box); [[ -n $now && $now != "$old" ]]; }
await 15 'another container' replaced
await 5 'without the network' not_in_front 1 box

note 'a network that is full grows while it is in use'
m 1 service create --detach --name fill --network name=front --endpoint-mode dnsrr --replicas 12 \
  "$IMAGE" sleep 1d >/dev/null
full() { m 1 service ps --no-trunc fill | grep -q 'subnet 10.31.0.0/28 has no free address'; }
await 15 'somebody waits for an address' full
m 1 network update --subnet 10.31.9.0/24 --ip-range 10.31.9.128/25 --gateway 10.31.9.1 \
  --label-add size=large front >/dev/null
await 20 'all of them run' runs 1 fill 12
for n in 1 2; do
  there=$(m $n ps --format '{{.Names}}' | grep '^fill\.' | while read -r c; do
    m $n exec "$c" ip -4 -o address | sed -n 's/.*inet \(10\.31\.9\.[0-9]*\).*/\1/p'
  done | sed -n 1p)
  [[ -n $there ]] || continue
  ((${there##*.} >= 128)) || die "$there is not of the range"
  found=$there
  for from in 1 2; do
    await 5 "the new subnet from node $from" inside $from web ping -c 1 -W 1 "$there"
    await 5 "its name on node $from" inside $from web nslookup "$there" 127.0.0.11
  done
done
[[ -n ${found:-} ]] || die 'nobody has an address of the new subnet'
is "$(m 1 network inspect front --format '{{index .Labels "size"}}')" large 'the label'

note 'so does the network of the routing mesh'
m 1 network update --subnet 10.32.0.0/24 ingress >/dev/null
leads() { ip netns exec "$BRIDGE-$1" ip route show 10.32.0.0/24 | grep -q ' dev mi'; }
for n in 1 2; do await 5 "node $n leads there" leads $n; done

note 'services enter and leave networks'
m 1 service update --detach=false --monitor 0s --network-add name=ops,alias=both web >/dev/null
for n in 1 2; do await 5 "the new alias on node $n" answers $n box both; done
m 1 service update --detach=false --monitor 0s --network-rm ops web >/dev/null
for n in 1 2; do await 5 "nobody is there on node $n" nobody $n box both; done

note 'nothing is left'
m 1 stack rm shop >/dev/null
m 1 service rm web box fill >/dev/null
gone() { [[ -z $(m "$1" ps -q) ]]; }
for n in 1 2; do await 20 "containers of node $n end" gone $n; done
for net in front ops closed; do await 20 "network $net goes" m 1 network rm $net; done
namespaces() { find "$RUN/$1" -name "net-*" -path '*netns*'; }
quiet() { [[ $(namespaces "$1" | wc -l) -le 1 ]]; }
for n in 1 2; do await 15 "namespaces of node $n go" quiet $n; done
finish
