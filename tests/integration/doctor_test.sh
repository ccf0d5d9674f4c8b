#!/usr/bin/env bash
# `muster network doctor` on three hosts: it finds nothing where nothing is wrong, and says in words
# what is, where a firewall drops VXLAN in one direction, one network, or what a host forwards, a link
# carries less than the others, an entry is gone, netd is stopped, a process sits on a published port,
# a task hangs, a node does not answer. What is mended meanwhile counts.
source "$(dirname "$0")/cluster_lib.sh"


start_registry
push_images busybox
for n in 1 2 3; do add_node $n; done
swarm_of worker worker
IMAGE=$REGISTRY/busybox:1
m 1 network create --driver overlay blue >/dev/null
m 1 service create --detach=false --monitor 0s --mode global --name web --network blue -p 8080:80 \
  "$IMAGE" sh -c 'mkdir -p /www; httpd -f -p 80 -h /www' >/dev/null
m 1 service create --detach=false --monitor 0s --name list --network blue --endpoint-mode dnsrr \
  --replicas 2 "$IMAGE" sleep 1d >/dev/null
# Services that publish nothing, in a network without a way out.
m 1 network create --driver overlay --internal vault >/dev/null
m 1 service create --detach=false --monitor 0s --mode global --name hidden --network vault "$IMAGE" sleep 1d >/dev/null
m 1 service create --detach=false --monitor 0s --name lone --network vault --constraint node.hostname==node3 \
  "$IMAGE" sleep 1d >/dev/null

note 'nothing is wrong'
# A node without processor time has not done all of it by the end.
well() { doctor 1; [[ -z $(not_good) ]]; }
limit=$((10 * slow < 120 ? 10 * slow : 120))s
await 30 'the doctor finds nothing' well
is "$STATUS" 0 'the exit code'
has "$OUT" 'good vxlan  : UDP port 4789 of each of 3 nodes is reached by every other node' 'all of it'
has "$OUT" 'good mtu' 'all of it'
for n in 1 2 3; do
  for check in neighbours dns vip mesh; do
    grep -q "^good $check .*node$n: " <<<"$OUT" || die "nothing of $check on node $n in: $OUT"
    checks=$((checks + 1))
  done
done
has "$OUT" 'good vip vault node1: 0 connections from hidden.' 'services without a port'
has "$OUT" ' accepted, 2 answered at a port where nobody is known to listen' 'services without a port'
has "$OUT" 'good neighbours vault node1: containers on 2 other nodes answer' 'networks from end to end'
has "$OUT" 'good mesh ingress node1: containers on 2 other nodes answer' 'the mesh from end to end'
has "$OUT" 'good host  node2: this host forwards what ' 'ways out'
table=$(m 1 network doctor blue)
has "$table" '3 nodes, 1 network: 0 bad, 0 warnings; good: vxlan, mtu, neighbours, dns, vip' 'the summary'
is "$(m 1 network doctor -q)" '' 'what is printed quietly'
fails 'network nowhere not found' m 1 network doctor nowhere
fails 'an examination takes from 1s to 2m0s' m 1 network doctor --timeout 1h

note 'a firewall drops what comes in by UDP 4789 on one host from another'
in_host 3 nft add table inet broken
in_host 3 nft add chain inet broken input '{ type filter hook input priority 0; }'
in_host 3 nft add rule inet broken input ip saddr "$(address 2)" udp dport 4789 drop
doctor 1 --timeout $limit blue
is "$STATUS" 1 'the exit code'
has "$OUT" 'bad vxlan  node3: nothing that node2 sends to UDP port 4789 of node3 arrives, while the other direction works, and TCP is answered: a security group or firewall drops it: allow UDP 4789 between the nodes' 'the doctor'
hasnt "$OUT" 'bad vip' 'what follows from a way that is not there'
hasnt "$OUT" 'bad neighbours' 'what follows from a way that is not there'

note 'a host drops all of it'
in_host 3 nft add rule inet broken input udp dport 4789 drop
doctor 1 --timeout $limit
has "$OUT" 'bad vxlan  node3: nothing on UDP port 4789 that the other 2 nodes send arrives at node3, while what it sends arrives, and TCP is answered' 'the doctor'
in_host 3 nft delete table inet broken

note 'a link carries less than the interfaces say'
ip link set "$BRIDGE-3" mtu 1300
doctor 1 --timeout $limit
has "$OUT" 'bad mtu  node3: no frame of full size passes between node3 and the other 2 nodes, in either direction' 'the doctor'
has "$OUT" 'those with 1250 arrive' 'the doctor'
ip link set "$BRIDGE-3" mtu 1500

note 'one network is broken between two hosts, where nobody listens and nothing is published'
inside_of() { nsenter -t "$(pids_on "$1" "$2" | head -1)" -n "${@:3}"; }
vault=$(find "$RUN/3" -path "*netns/net-$(m 1 network inspect vault --format '{{.ID}}')" | head -1)
second=$(inside_of 2 hidden ip -4 -o address show dev eth0 | sed 's/.* inet \([0-9.]*\).*/\1/')
nsenter --net="$vault" nft -f - <<<"table bridge broken { chain forward { type filter hook forward priority 0; ip saddr $second drop; }; }"
doctor 1 vault
is "$STATUS" 1 'the exit code'
has "$OUT" 'bad neighbours vault node2: no container on node3 answers hidden.' 'the doctor'
# Calls to "hidden" may be led to its task on node 3, too.
grep -Eq '^bad vip vault node2: no answer to (hidden \([0-9.]+\); )?lone \(' <<<"$OUT" || die "lone is not called in vain in: $OUT"
checks=$((checks + 1))
hasnt "$OUT" 'node1: no' 'what node 1 finds'
hasnt "$OUT" 'bad vxlan' 'the way between the hosts'
nsenter --net="$vault" nft delete table bridge broken

note 'a firewall of a host drops what it forwards'
in_host 2 nft -f - <<<'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'
doctor 1 --timeout $limit
is "$STATUS" 1 'the exit code'
has "$OUT" 'bad host  node2: chain FORWARD of table ip filter drops what this host forwards' 'the doctor'
hasnt "$OUT" 'host  node1: chain' 'the other hosts'
in_host 2 nft add rule ip filter FORWARD ct state established,related accept
in_host 2 nft add rule ip filter FORWARD iifname '{ "mg*", "mp*", "mi*" }' accept
in_host 2 nft add rule ip filter FORWARD oifname '{ "mg*", "mp*", "mi*" }' accept
await 30 'nothing is wrong with the rules that the doctor asks for' well
in_host 2 nft delete table ip filter

note 'an entry is gone'
blue=$(m 1 network inspect blue --format '{{.ID}}')
pin=$(find "$RUN/2" -path "*netns/net-$blue" | head -1)
# The next look of musterd may come first.
seen() {
  mac=$(nsenter --net="$pin" bridge fdb show dev vx0 | awk '/dst/ {print $1; exit}')
  nsenter --net="$pin" bridge fdb del "$mac" dev vx0 self
  doctor 1 blue
  grep -q "^warning neighbours blue node2: the kernel was not as it should be, and was mended now: .*$mac" <<<"$OUT"
}
await 15 'the doctor sees that an entry is gone' seen
grep -q "doctor.*repaired: network blue: .*$mac" "$BASE/2/musterd.log" || die "node 2 has not logged what the doctor had mended: $mac"
checks=$((checks + 1))
told() { [[ $(m 1 events --since 10m --until 0s --filter event=repair --format '{{.Actor.Attributes.name}}: {{.Actor.Attributes.repaired}}') == *"node2: "*"$1"* ]]; }
await 75 'an event tells of it, of which there is one a minute' told "$mac"

note 'what netd mends in a container counts with the rest'
inside_of 3 lone nft delete table inet muster_dns
mended() { grep -q 'repaired: container .* was not led to its resolver as it should' "$BASE/3/musterd.log"; }
await 25 'musterd hears of it' mended

note 'a process has a published port, a task hangs, netd is stopped, a node does not answer'
timeout $((240 * slow)) ip netns exec "$BRIDGE-1" socat TCP-LISTEN:8081,fork,reuseaddr PIPE &
holder=$!
await 5 'the process that has port 8081' in_host 1 bash -c 'exec 8<>/dev/tcp/127.0.0.1/8081'
m 1 service create --detach=false --monitor 0s --name stuck --network blue -p 8081:80 \
  --constraint node.hostname==node1 "$IMAGE" httpd -f -p 80 -h / >/dev/null
clash() { m 1 service ps stuck 2>&1 | grep -q 'port 8081/tcp is taken on node1'; }
await 15 'the service tells of the port' clash
stuck=$(pids_on 1 stuck)
kill -STOP "$stuck"
# The kernel accepts for it until its queue is full, also of who has gone again.
nsenter -t "$stuck" -n python3 -c '
import socket
for _ in range(5000):
    client = socket.socket()
    client.settimeout(0.3)
    if client.connect_ex(("127.0.0.1", 80)) != 0:
        break
'
netd=$(pgrep -f -- "netd .*--run-dir $RUN/2" | head -1)
[[ -n $netd ]] || die 'no netd of node 2'
kill -STOP "$netd"
kill -STOP "${PID[3]}"
doctor 1 --timeout $limit
kill -CONT "$netd" "${PID[3]}" "$stuck"
has "$OUT" 'bad dns blue node2: the resolver of the containers does not answer' 'the doctor'
has "$OUT" 'bad node  node3: it did not answer' 'the doctor'
has "$OUT" 'bad vip blue node1: no answer to port 80 of stuck (' 'the doctor'
has "$OUT" 'bad mesh ingress node2: no answer to published port 8081 of stuck at ' 'the doctor'
has "$OUT" 'bad mesh ingress node1: published port 8081/tcp is in use by a process of this node, which answers here instead of the service' 'the doctor'
m 1 service rm stuck >/dev/null
kill $holder
wait $holder 2>/dev/null || true
hasnt "$OUT" 'bad vxlan' 'of a node that does not answer no more is said'
await 10 'node 3 is there again' node_is 1 3 Status Ready

note 'killed in the middle nothing stays, and all is well again'
begun() { grep -c 'examination .* begins' "$BASE/2/musterd.log" || true; }
before=$(begun)
m 1 network doctor >/dev/null &
asking=$!
more() { (($(begun) > before)); }
await 5 'an examination of node 2' more
kill_musterd 2
wait "$asking" || true
start_musterd 2
await 20 'node 2 is ready' node_is 1 2 Status Ready
await 30 'nothing is wrong' well
finish
