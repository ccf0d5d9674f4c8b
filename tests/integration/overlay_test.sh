#!/usr/bin/env bash
# Networks across nodes: three hosts, two networks and a network without a way out. In each of them every
# task reaches every other by address, and by name, a service's name leads to all of its tasks; what is in
# another network is not reached, a published port answers on every node and the container sees who
# asked. All of it goes on without managers, comes back after drift, and leaves nothing behind. The
# tasks' traffic has a way of its own between the hosts, and another port than the usual.
source "$(dirname "$0")/cluster_lib.sh"

# task N SERVICE: the name of the service's container on node N
task() { m "$1" ps --format '{{.Names}}' | grep "^$2\." | head -1; }
# inside N SERVICE COMMAND...: in the service's container on node N
inside() { local n=$1 s=$2; shift 2; m "$n" exec "$(task "$n" "$s")" "$@"; }
# N SERVICE URL
fetch() { inside "$1" "$2" timeout $((3 * slow)) wget -q -O - "$3"; }

start_registry
push_images busybox
# A second link of each host, which the managers do not use. What is on the wire of both is counted.
DATA=10.$((150 + $$ % 50)).$(($$ / 50 % 250))
METRICS=127.0.0.1:9100
for n in 1 2 3; do
  add_node $n --metrics-addr $METRICS
  ip link add "$BRIDGE-$n-d" type veth peer name eth1 netns "$BRIDGE-$n"
  ip link set "$BRIDGE-$n-d" master "$BRIDGE" up
  ip -n "$BRIDGE-$n" address add "$DATA.$n/24" dev eth1
  ip -n "$BRIDGE-$n" link set eth1 up
  for link in eth0 eth1; do  # each answers for its own address alone
    in_host $n sysctl -qw net.ipv4.conf.$link.arp_ignore=1
  done
  in_host $n nft -f - <<'RULES'
table inet wire {
  chain out { type filter hook postrouting priority 300;
    oifname "eth1" udp dport 5789 counter comment "data"
    oifname "eth0" udp dport 5789 counter comment "elsewhere"
    udp dport 4789 counter comment "usual"
  }
  chain in { type filter hook prerouting priority -300;
    iifname "eth1" udp dport 5789 counter comment "heard"
  }
}
RULES
done
# sent N SORT: packets of it so far
sent() { in_host "$1" nft list table inet wire | sed -n "s/.*packets \([0-9]*\).*\"$2\"/\1/p"; }
their_own_way() {
  local n
  for n in 1 2 3; do
    (($(sent $n data) > 0 && $(sent $n heard) > 0)) || die "node $n: nothing on the second link, port 5789"
    is "$(sent $n elsewhere) $(sent $n usual)" '0 0' "frames of node $n on the first link, and at port 4789"
  done
}
init 1 --data-path-addr $DATA.1 --data-path-port 5789 >/dev/null
join 2 1 worker --data-path-addr $DATA.2 >/dev/null
join 3 1 worker --data-path-addr eth1 >/dev/null
for n in 1 2 3; do await 15 "node $n is ready" node_is 1 $n Status Ready; done
IMAGE=$REGISTRY/busybox:1

note 'two networks over three nodes, a task of each on every node'
m 1 network create --driver overlay --ipv6 blue >/dev/null
m 1 network create --driver overlay --ipv6 green >/dev/null
m 1 network create --driver overlay --internal shut >/dev/null
m 1 service create --detach=false --monitor 0s --mode global --name web --network blue \
  --hostname 'web-on-{{.Node.Hostname}}' -p 8080:80 "${WHO_CHECK[@]}" "$IMAGE" sh -c "$WHO" >/dev/null
m 1 service create --detach=false --monitor 0s --mode global --name other --network green \
  "${WHO_CHECK[@]}" "$IMAGE" sh -c "$WHO" >/dev/null
m 1 service create --detach=false --monitor 0s --mode global --name cell --network shut \
  "${WHO_CHECK[@]}" "$IMAGE" sh -c "$WHO" >/dev/null

# What each task is called, and its addresses in the service's network, as it says itself.
declare -A NAME AT AT6
for service in web other cell; do
  for n in 1 2 3; do
    said=$(inside $n $service sh -c 'hostname; ip -o address show dev eth0')
    NAME[$service$n]=$(head -1 <<<"$said")
    AT[$service$n]=$(sed -n 's/.* inet \([0-9.]*\).*/\1/p' <<<"$said")
    AT6[$service$n]=$(sed -n 's/.* inet6 \(fd[0-9a-f:]*\).*/\1/p' <<<"$said")
    [[ -n ${AT[$service$n]} ]] || die "no address of $service on node $n in: $said"
    [[ $service == cell || -n ${AT6[$service$n]} ]] || die "no address of IPv6 of $service on node $n in: $said"
  done
done
# vip SERVICE; page_at ADDRESS: its URL
vip() { m 1 service inspect --format '{{(index .Endpoint.VirtualIPs 0).Addr}}' "$1" | sed 's|/.*||'; }
page_at() { [[ $1 == *:* ]] && echo "http://[$1]/cgi-bin/who" || echo "http://$1/cgi-bin/who"; }
# What a container runs with addresses, and with URLs.
PING='for to; do ping -c 1 -W 1 "$to" || exit 1; done'
FETCH='for to; do echo "$to $(timeout '$((3 * slow))' wget -q -O - "$to")"; done'

note 'every task reaches every other by its address, and is seen by its own'
for service in web other cell; do
  for from in 1 2 3; do
    there=() pages=() expected=()
    for to in 1 2 3; do
      for address in ${AT[$service$to]} ${AT6[$service$to]}; do
        mine=${AT[$service$from]}
        [[ $address != *:* ]] || mine=${AT6[$service$from]##*:}  # of IPv6 the page says the last group
        there+=("$address")
        pages+=("$(page_at "$address")")
        expected+=("$(page_at "$address") ${NAME[$service$to]} $mine")
      done
    done
    await 5 "from $service on node $from to all of ${there[*]}" inside $from $service sh -c "$PING" sh "${there[@]}"
    is "$(inside $from $service sh -c "$FETCH" sh "${pages[@]}")" "$(printf '%s\n' "${expected[@]}")" \
      "the pages of all tasks of $service, asked from node $from"
  done
done

note 'by the names of its container, on whatever node'
for from in 1 2 3; do
  for to in 1 2 3; do
    short=$(m $to ps --format '{{.ID}} {{.Names}}' | sed -n 's/ web\..*//p')
    for name in "web-on-node$to" "$short" "$short.blue"; do
      is "$(fetch $from web "http://$name/cgi-bin/who" | cut -d' ' -f1)" "web-on-node$to" "$name from node $from"
    done
  done
done

note 'by the second link, and the port that was chosen'
their_own_way
is "$(m 1 node inspect --format '{{.Description.DataPath.Address}}' node3)" $DATA.3 'node inspect'

note 'a name and its virtual address lead to all tasks of the service, and the own address is seen'
for service in web other cell; do
  address=$(vip $service)
  [[ $address == *.*.*.* ]] || die "the virtual address of $service is '$address'"
  ways=() expected=()
  for way in "$(page_at $service)" "$(page_at "$address")"; do
    for _ in 1 2 3 4 5 6; do ways+=("$way"); done
    for to in 1 2 3; do expected+=("$way ${NAME[$service$to]}"); done
  done
  for from in 1 2 3; do
    said=$(inside $from $service sh -c "$FETCH" sh "${ways[@]}")
    is "$(cut -d' ' -f1,2 <<<"$said" | sort -u)" "$(printf '%s\n' "${expected[@]}" | sort)" \
      "the tasks of $service that answered node $from"
    is "$(cut -d' ' -f3 <<<"$said" | sort -u)" "${AT[$service$from]}" 'the address that they saw'
    await 5 'ping of the virtual address' inside $from $service ping -c 1 -W 1 $service
    # A virtual address is of IPv4; those of the tasks are of both.
    [[ -n ${AT6[${service}1]} ]] || continue
    said=$(inside $from $service nslookup -type=aaaa tasks.$service 127.0.0.11 | sed -n 's/^Address.*[: ]\(fd[0-9a-f]*:[0-9a-f:]*\).*/\1/p' | sort)
    is "$said" "$(for to in 1 2 3; do echo "${AT6[$service$to]}"; done | sort)" "the addresses of IPv6 of tasks.$service on node $from"
  done
done

note 'other networks are not reached, nor is anything from a network without a way out'
# Every container asks at the same time for what it must not reach, and for a page that it does reach.
REACHED='for to; do (timeout '$((3 * slow))' wget -q -O /dev/null "$to" 2>/dev/null && echo "$to") & done; wait'
asking=()
for service in web other cell; do
  foreign=()
  for other in web other cell; do
    [[ $other != "$service" ]] || continue
    foreign+=("$(page_at $other)" "$(page_at "$(vip $other)")")
    for address in ${AT[${other}2]} ${AT6[${other}2]}; do foreign+=("$(page_at "$address")"); done
  done
  for from in 1 2 3; do
    inside $from $service sh -c "$REACHED" sh "${foreign[@]}" "$(page_at "${AT[$service$from]}")" \
      >"$BASE/reached.$service$from" &
    asking+=($!)
  done
done
for pid in "${asking[@]}"; do wait $pid || die "asking for what is in other networks ended with $?"; done
for service in web other cell; do
  for from in 1 2 3; do
    is "$(<"$BASE/reached.$service$from")" "$(page_at "${AT[$service$from]}")" "what $service on node $from reaches"
  done
done
for from in 1 2 3; do
  ! inside $from cell ping -c 1 -W 1 "$NET.254" >/dev/null 2>&1 || die 'a network without a way out has one'
  await 5 'the way out of others' inside $from web ping -c 1 -W 1 "$NET.254"
  checks=$((checks + 1))
done

note 'a published port answers on every node, and the container sees the client'
m 1 service create --detach=false --monitor 0s --name single --network blue -p 8081:80 \
  --constraint node.hostname==node2 "${WHO_CHECK[@]}" "$IMAGE" sh -c "$WHO" >/dev/null
client=$NET.254
for n in 1 2 3; do
  await 5 "port 8081 on node $n" page "$(address $n):8081"
  is "$(page "$(address $n):8081")" \
    "$(inside 2 single hostname) $client" "the page through node $n"
  await 5 "port 8081 on node $n by its own address" \
    on_node $n "$(address $n):8081"
  await 5 "port 8081 on node $n by 127.0.0.1" on_node $n 127.0.0.1:8081
done
said=$(for _ in $(seq 12); do page "$(address 3):8080"; done | cut -d' ' -f1 | sort -u | wc -l)
is "$said" 3 'tasks that answer on one node'
their_own_way

note 'the network is repaired where somebody has broken it'
blue=$(m 1 network inspect blue --format '{{.ID}}')
pin=$(echo "$RUN"/1/*/netns/"net-$blue")
[[ -e $pin ]] || die "no namespace of network blue on node 1 in $RUN/1"
counted() { in_host 1 curl -fsS -m $((5 * slow)) "http://$METRICS/metrics" | sed -n 's/^muster_network_repairs_total \([0-9]*\)$/\1/p'; }
before=$(counted)
[[ -n $before ]] || die 'no count of repairs among the metrics'
nsenter --net="$pin" ip link delete vx0
there=${AT[web3]}
await 25 'the tunnel is back' inside 1 web ping -c 1 -W 1 "$there"
repairs() { m 1 events --since 5m --until 0s --filter event=repair --format '{{.Actor.Attributes.name}}: {{.Actor.Attributes.repaired}}'; }
told() { [[ $(repairs) == *"node1: "*"the tunnel was missing"* ]]; }
await 75 'an event tells of it, of which there is one a minute' told
has "$(m 1 node inspect --pretty node1)" 'Network repairs:' 'node inspect'
(($(counted) > before)) || die "$before repairs among the metrics before the repair, $(counted) after it"

note 'without managers everything goes on, also after the death of the agents'
for n in 1 2 3; do kill_musterd $n; done
is "$(page "$(address 3):8081" | cut -d' ' -f2)" "$client" 'the page, without any musterd'
start_musterd 3
await 10 'containers of node 3' m 3 ps
is "$(page "$(address 3):8081" | cut -d' ' -f2)" "$client" \
  'the page, through an agent without managers'
await 5 'a name, without managers' fetch 3 web http://web/cgi-bin/who
for n in 1 2; do start_musterd $n; done
for n in 1 2 3; do await 20 "node $n is ready" node_is 1 $n Status Ready; done

note 'no request fails while the service is updated, scaled and drained'
# A node that the processors have no time for is no reason for a request to fail.
m 1 swarm update --drain-ack-timeout 10s >/dev/null
m 1 service create --detach=false --monitor 0s --name app --network blue -p 8082:80 --replicas 4 \
  --update-parallelism 1 "${WHO_CHECK[@]}" "$IMAGE" sh -c "$WHO" >/dev/null
await 5 'port 8082' page "$(address 1):8082"
: >"$BASE/asked"
(while [[ ! -e $BASE/stop ]]; do
  for n in 1 2 3; do
    curl -fsS -m $((5 * slow)) "http://$(address $n):8082/cgi-bin/who" >/dev/null 2>>"$BASE/failed" && echo >>"$BASE/asked"
  done
done) &
asking=$!
m 1 service update --detach=false --monitor 0s --env-add v=2 app >/dev/null
m 1 service scale app=2 >/dev/null
m 1 service scale app=4 >/dev/null
m 1 node update --availability drain node3 >/dev/null
await 20 'four replicas on two nodes' runs 1 app 4
m 1 node update --availability active node3 >/dev/null
touch "$BASE/stop"
wait "$asking"
(($(wc -l <"$BASE/asked") > 20)) || die "only $(wc -l <"$BASE/asked") requests"
is "$(cat "$BASE/failed" 2>/dev/null)" '' 'requests that failed'

note 'removed, nothing is left on any node'
m 1 service rm web other cell single app >/dev/null
gone() { [[ -z $(m "$1" ps -q) ]]; }
for n in 1 2 3; do await 20 "containers of node $n end" gone $n; done
for net in blue green shut; do await 20 "network $net goes" m 1 network rm $net; done
namespaces() { find "$RUN/$1" -name "net-*" -path '*netns*'; }
quiet() { [[ $(namespaces "$1" | wc -l) -le 1 ]]; }  # the ingress network's stays
for n in 1 2 3; do await 15 "namespaces of node $n go" quiet $n; done
their_own_way
for n in 1 2 3; do in_host $n nft delete table inet wire; done
for n in 3 2 1; do
  m $n swarm leave --force >/dev/null
  is "$(namespaces $n)" '' "namespaces of node $n"
  is "$(in_host $n ip -o link | grep -o 'alias muster.*' || true)" '' "links of node $n"
  is "$(in_host $n nft list tables)" '' "tables of node $n"
done
finish
