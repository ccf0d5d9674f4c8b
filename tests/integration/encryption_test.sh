#!/usr/bin/env bash
# Encrypted networks. Where the kernel has no IPsec ESP no task gets into one, and it says why. Where
# it has: two nodes talk, nothing of it is on the wire in plain text, keys change meanwhile without a
# loss, a killed musterd stops nothing, in UDP neither, a node that cannot encrypt gets nothing of it, a
# published port is as secret where the ingress network is encrypted, and nothing is left in the kernel.
source "$(dirname "$0")/cluster_lib.sh"

SERVE='httpd -f -p 80 -h /'
task() { m "$1" ps --format '{{.Names}}' | grep "^$2\." | head -1; }
inside() { local n=$1 s=$2; shift 2; m "$n" exec "$(task "$n" "$s")" "$@"; }
overlay_address() { inside "$1" "$2" ip -4 -o address | sed -n 's/.* eth[0-9]* *inet \([0-9.]*\).*/\1/p' | head -1; }

start_registry
push_images busybox
for n in 1 2; do add_node $n; done
swarm_of worker
IMAGE=$REGISTRY/busybox:1
m 1 network create --opt encrypted --attachable vault >/dev/null
can=$(m 1 info | sed -n 's/^ Encryption of networks: //p')

if [[ $can != 'IPsec ESP' ]]; then
  note "this kernel cannot encrypt ($can): tasks are refused with that reason"
  [[ $can == none:*ESP* ]] || die "muster info does not say why: $can"
  m 1 service create --detach --name web --network vault "$IMAGE" sh -c "$SERVE" >/dev/null
  refused() { m 1 service ps web --no-trunc --format '{{.Error}}' | grep -q "$1"; }
  await 10 'the reason in service ps' refused 'encrypted networks not possible on 2 nodes'
  await 10 'the details' refused 'cannot encrypt: .*ESP'
  has "$(m 1 service explain web)" 'cannot encrypt' 'service explain'
  has "$(m 1 node inspect node2)" 'NoEncryption' 'node inspect'
  note 'other networks are as they were'
  m 1 network create open >/dev/null
  m 1 service create --detach=false --monitor 0s --name other --network open "$IMAGE" sh -c "$SERVE" >/dev/null
  finish
  exit 0
fi

note 'a long page by the name of a service: whole, and not a word of it on the wire'
WORD=what-nobody-is-to-read
# In a network that is not encrypted, too: there it is to be seen.
m 1 network create open >/dev/null
for net in vault open; do
  m 1 service create --detach=false --monitor 0s --name "page-$net" --network $net --constraint node.hostname==node2 \
    "$IMAGE" sh -c "yes $WORD | head -n 40000 >/page; httpd -f -p 80 -h /" >/dev/null
  m 1 service create --detach=false --monitor 0s --name "reader-$net" --network $net --constraint node.hostname==node1 \
    "$IMAGE" sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
  ip netns exec "$BRIDGE-2" python3 "$(dirname "$0")/wire_tools.py" watch eth0 "$WORD" "$BASE/wire.$net" &
  watcher=$!
  await 10 'the wire is watched' grep -q watching "$BASE/wire.$net"
  lines() { inside 1 "reader-$net" timeout $((5 * slow)) wget -q -O - "http://page-$net/page" | grep -cx "$WORD"; }
  whole() { [[ $(lines) == 40000 ]]; }
  await 20 "the page in $net" whole
  kill $watcher
  wait $watcher
  read -r frames words <<<"$(tail -1 "$BASE/wire.$net")"
  echo "   $net: $frames frames, $words with a word of the page"
done
is "$(tail -1 "$BASE/wire.vault" | cut -d' ' -f2)" 0 'frames of the encrypted network with a word of the page'
(($(tail -1 "$BASE/wire.open" | cut -d' ' -f2) > 0)) || die 'who watches the wire would not have seen it'
m 1 service rm page-vault reader-vault page-open reader-open >/dev/null
gone() { m 1 network rm open >/dev/null 2>&1; }
await 20 'the open network goes' gone

note 'two nodes talk, and their frames are seen by nobody'
for n in 1 2; do
  in_host $n nft -f - <<'RULES'
table netdev wire {
  chain out { type filter hook egress device "eth0" priority 0;
    ip protocol esp counter comment "esp"
    udp dport 4789 counter comment "plain"
  }
}
RULES
done
# seen N SORT: packets of it that the node has sent so far
seen() { in_host "$1" nft list table netdev wire | sed -n "s/.*packets \([0-9]*\).*\"$2\"/\1/p"; }
m 1 swarm update --network-key-rotation 30s >/dev/null
m 1 service create --detach=false --monitor 0s --mode global --name web --network vault "$IMAGE" \
  sh -c "$SERVE" >/dev/null
there=$(overlay_address 2 web)
await 10 'node 2 from node 1' inside 1 web ping -c 1 -W 1 "$there"
await 10 'node 1 from node 2' inside 2 web ping -c 1 -W 1 "$(overlay_address 1 web)"
for n in 1 2; do
  is "$(seen $n plain)" 0 "plain packets of node $n"
  (($(seen $n esp) > 0)) || die "node $n has sent nothing encrypted"
done
has "$(m 1 info)" 'Key Rotation: 30s' 'muster info'

note 'keys change without a loss, also while musterd is killed'
newest() { m 1 info | sed -n 's/^   Newest Key: \([0-9]*\).*/\1/p'; }
first=$(newest)
(inside 1 web ping -c 80 -W 2 "$there" >"$BASE/pings" 2>&1 || true) &
pings=$!
used() { m 1 info | grep -q "Newest Key: $1, made [^,]*$"; }
await 60 'the next key is sent with' used $((first + 1))
kill_musterd 2
start_musterd 2
await 90 'and the one after it' used $((first + 2))
wait $pings
has "$(cat "$BASE/pings")" ' 0% packet loss' 'pings while keys change'
for n in 1 2; do is "$(seen $n plain)" 0 "plain packets of node $n while keys changed"; done

note 'a node that cannot joins them: it gets nothing of the network, and the others go on'
LD_PRELOAD=$BIN/no_esp.so add_node 3
join 3 1 worker >/dev/null
await 20 'node 3 is ready' node_is 1 3 Status Ready
has "$(m 3 info)" 'Encryption of networks: none: the kernel has no IPsec (module xfrm_user)' 'info of node 3'
has "$(m 1 node inspect node3)" 'NoEncryption' 'inspect of node 3'
m 1 service create --detach --name late --network vault --replicas 3 "$IMAGE" sh -c "$SERVE" >/dev/null
await 30 'three tasks of three' runs 1 late 3
hasnt "$(m 1 service ps late --format '{{.Node}}')" node3 'nodes of its tasks'
m 1 service create --detach --name lost --network vault --constraint node.hostname==node3 "$IMAGE" \
  sh -c "$SERVE" >/dev/null
nowhere() { m 1 service ps lost --no-trunc --format '{{.Error}}' | grep -q 'encrypted networks not possible on 1 node'; }
await 10 'the reason in service ps' nowhere
has "$(m 1 service explain lost)" 'cannot encrypt: the kernel has no IPsec' 'service explain'
m 1 network create --attachable open >/dev/null
m 1 service create --detach=false --monitor 0s --name near --network open --constraint node.hostname==node3 \
  "$IMAGE" sh -c "$SERVE" >/dev/null
fails 'network vault is encrypted, which node node3 of task near.1 cannot do: the kernel has no IPsec' \
  m 1 network connect vault "$(m 1 service ps -q --no-trunc near)"
await 10 'node 2 from node 1, all the same' inside 1 web ping -c 1 -W 1 "$there"
is "$(find "$RUN/3" -path "*netns/net-$(m 1 network inspect vault --format '{{.ID}}')"; in_host 3 ip xfrm state)" '' \
  'what node 3 has of it'
m 1 service rm late lost near >/dev/null
gone() { m 1 network rm open >/dev/null 2>&1; }
await 20 'the open network goes' gone
m 3 swarm leave >/dev/null
await 20 'node 3 is down' node_is 1 3 Status Down
m 1 node rm node3 >/dev/null
for n in 1 2; do is "$(seen $n plain)" 0 "plain packets of node $n, beside one that cannot encrypt"; done

note 'what is taken away by hand comes back, and nothing leaves meanwhile'
in_host 1 ip xfrm state flush
in_host 1 ip xfrm policy flush
await 25 'it is mended' inside 1 web ping -c 1 -W 1 "$there"
is "$(seen 1 plain)" 0 'plain packets of node 1 without states'

note 'in UDP: netd holds the port, and a musterd that is away loses nothing'
for n in 1 2; do
  in_host $n nft add rule netdev wire out udp dport 4500 counter comment '"udp"'
done
# holder N PORT; held N PORT PID
holder() { in_host "$1" ss -Hlunp sport = ":$2"; }
held() { holder "$1" "$2" | grep -q "pid=$3,"; }
given_up() { [[ -z $(holder "$1" "$2") ]]; }
m 1 swarm update --encryption-udp >/dev/null
in_udp() { has_udp=$(seen 1 udp); inside 1 web ping -c 1 -W 1 "$there" && (($(seen 1 udp) > has_udp)); }
await 30 'it travels in UDP' in_udp
for n in 1 2; do
  netd=$(pgrep -f -- "netd .*--run-dir $RUN/$n" | head -1)
  await 10 "netd of node $n holds the port" held $n 4500 "$netd"
done
esp=$(seen 1 esp)
kill_musterd 2
inside 1 web ping -c 5 -W 2 "$there" >"$BASE/pings" 2>&1 || true
has "$(cat "$BASE/pings")" ' 0% packet loss' 'pings while musterd of node 2 is away'
start_musterd 2
await 20 'node 2 is ready' node_is 1 2 Status Ready
inside 1 web ping -c 5 -W 2 "$there" >"$BASE/pings" 2>&1 || true
has "$(cat "$BASE/pings")" ' 0% packet loss' 'pings when it is there again'
is "$(seen 1 esp)" "$esp" 'packets of protocol 50 meanwhile'
for n in 1 2; do is "$(seen $n plain)" 0 "plain packets of node $n in UDP"; done

note '... and by another port, where that one is another program'"'"'s'
for n in 1 2; do
  in_host $n nft add rule netdev wire out udp dport 14500 counter comment '"other"'
done
m 1 swarm update --encryption-udp-port 14500 >/dev/null
by_other() { has_udp=$(seen 1 other); inside 1 web ping -c 1 -W 1 "$there" && (($(seen 1 other) > has_udp)); }
await 30 'it travels by the other port' by_other
for n in 1 2; do
  await 20 "node $n gives the former one up" given_up $n 4500
  is "$(seen $n plain)" 0 "plain packets of node $n, by another port"
done

note 'a published port, where the ingress network is encrypted, too'
m 1 network rm ingress >/dev/null
m 1 network create --ingress --opt encrypted edge >/dev/null
m 1 service create --detach=false --monitor 0s --name page --network vault -p 8080:80 \
  --constraint node.hostname==node2 "$IMAGE" sh -c "$WHO" >/dev/null
for n in 1 2; do
  asks_by() { [[ $(page "$(address $n):8080") == *" $NET.254" ]]; }
  await 20 "the page by node $n, which sees its client" asks_by
  is "$(seen $n plain)" 0 "plain packets of node $n for its published port"
done
m 1 service rm page >/dev/null

# The doctor's own frames are plain: from here on nobody counts these.
note 'the doctor says what drops the way of encrypted networks, in UDP and not'
passes='good encryption  : what encrypted networks travel by passes between all nodes that have one'
well() { doctor 1; [[ $OUT == *"$passes"* && -z $(grep ^bad <<<"$OUT") ]]; }
# dropped RULE WAY: on node 2, what node 1 sends.
dropped() {
  await 30 'the doctor finds nothing' well
  in_host 2 nft -f - <<<"table inet broken { chain input { type filter hook input priority 0; ip saddr $(address 1) $1 drop; }; }"
  doctor 1 --timeout $((3 * slow))s
  in_host 2 nft delete table inet broken
  is "$STATUS" 1 'the exit code'
  has "$OUT" "bad encryption  node2: nothing by $2 that node1 sends to node2 arrives, by which encrypted networks travel, while the other direction works" 'the doctor'
}
dropped 'udp dport 14500' 'UDP port 14500'
m 1 swarm update --encryption-udp=false >/dev/null
for n in 1 2; do await 20 "node $n gives the port up" given_up $n 14500; done
dropped 'ip protocol esp' 'IP protocol 50 (ESP)'

note 'nothing is left behind'
m 1 service rm web >/dev/null
no_edge() { m 1 network rm edge >/dev/null 2>&1; }
await 20 'the ingress network goes' no_edge
clean() { [[ -z $(in_host "$1" ip xfrm state; in_host "$1" ip xfrm policy; in_host "$1" nft list tables | grep esp_) ]]; }
for n in 1 2; do await 30 "states and rules of node $n are gone" clean $n; done
finish
