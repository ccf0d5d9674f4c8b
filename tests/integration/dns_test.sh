#!/usr/bin/env bash
# Names of services and tasks in real containers, asked for by the containers' own libraries and by
# dig; and netd, which answers while musterd is away and is in a control group of its own.
source tests/integration/lib.sh "$@"
tools=tests/integration/dns_tools.py
start_registry
push_images busybox redis
start_node
# Where nodes beat as usual a slow machine is called down, and the containers that are asked are replaced.
((slow == 1)) || muster swarm update --dispatcher-heartbeat $((5 * slow))s >/dev/null
box=$REGISTRY/busybox:1
idle='trap "exit 0" TERM; sleep 86400 & wait'
end_helpers() {
  local status=$?
  set +e
  touch "$RUN/stop"
  kill ${UPSTREAM:-} ${NODE_SERVER:-} 2>/dev/null
  (exit "$status")
  cleanup
}
trap end_helpers EXIT

# SERVICE: container ids; a container's namespace; the address of a task in its first network
containers() { muster ps --no-trunc --format '{{.ID}} {{.Names}}' | awk -v s="$1." 'index($2, s) == 1 {print $1}'; }
in_ns() { nsenter --net="$RUN/$INSTANCE/netns/$1" "${@:2}"; }
addresses() {
  local task
  for task in $(muster service ps -q --filter desired-state=running "$1"); do
    muster task inspect "$task" --format '{{(index (index .NetworksAttachments 0).Addresses 0)}}' | sed 's|/.*||'
  done | sort
}
vip() { muster service inspect "$1" --format '{{(index .Endpoint.VirtualIPs 0).Addr}}' | sed 's|/.*||'; }
# NAME [TYPE]: what dig is told inside the probe's container
ask() { in_ns "$probe" dig +short +tries=1 +time=$((3 * slow)) @127.0.0.11 "$1" "${2:-A}" | sort; }
status_of() { in_ns "$probe" dig +tries=1 +time=$((6 * slow)) @127.0.0.11 "$@" | sed -n 's/.*status: \([A-Z]*\),.*/\1/p'; }
answers() { [[ $(ask "$1") == "$2" ]]; }
ttl() { in_ns "$probe" dig +noall +answer +time=$((3 * slow)) @127.0.0.11 "$1" | awk '{print $2}'; }
ttl_is() { [[ $(ttl "$1") == "$2" ]]; }
netd() { pgrep -f "musterd netd --run-dir $RUN/$INSTANCE "; }
count_is() { [[ $(ask "$1" | grep -c .) == "$2" ]]; }
# apart WHEN: wherever musterd is in a control group that is not the root, as a service is, netd has left
# it for its own, and so does not end with it. (It stays in a root, which does not end.)
apart() {
  local pid hierarchy path groups=0
  pid=$(netd)
  while IFS=: read -r _ hierarchy path; do
    [[ $path != / ]] || continue
    is "$(sed -n "s|^[0-9]*:$hierarchy:||p" "/proc/$pid/cgroup")" "/muster/$INSTANCE/netd" \
      "netd's control group (${hierarchy:-cgroup2}) $1"
    [[ $path != "/muster/$INSTANCE/netd" ]] || die "musterd is in netd's control group $1"
    groups=$((groups + 1))
  done <"/proc/$DAEMON/cgroup"
  ((groups > 0)) || echo "   musterd is in no control group here: netd's is not looked at"
}

muster network create app >/dev/null
muster network create other >/dev/null
muster service create --name probe --network app "$box" sh -c "$idle" >/dev/null
probe=$(containers probe)
muster service create --name web --replicas 3 --network name=app,alias=site \
  --hostname 'web-{{.Task.Slot}}' "$box" sh -c "$idle" >/dev/null
muster service create --name redis --network app "$REGISTRY/redis:1" >/dev/null
muster service create --name far --network other "$box" sh -c "$idle" >/dev/null

note 'services, aliases, tasks, host names, addresses'
await 5 'web has three addresses' count_is tasks.web 3
is "$(ask web)" "$(vip web)" 'the service'
is "$(ask WEB.)" "$(vip web)" 'in capitals, with a dot'
is "$(ask tasks.web)" "$(addresses web)" 'its tasks'
is "$(ask site)" "$(vip web)" 'its alias'
is "$(ask web.app)" "$(vip web)" 'with its network'
muster service create --name rr --replicas 2 --endpoint-mode dnsrr --network app "$box" sh -c "$idle" >/dev/null
is "$(ask rr)" "$(addresses rr)" 'a service without a virtual address'
task=$(muster service ps --no-trunc -q web | head -1)
name=$(muster service ps --no-trunc --format '{{.Name}} {{.ID}}' web | sed -n '1s/ /./p')
one=$(muster task inspect "$task" --format '{{(index (index .NetworksAttachments 0).Addresses 0)}}' | sed 's|/.*||')
is "$(ask "$name")" "$one" 'a task'
is "$(ask "${name%.*}")" "$one" 'a slot'
id=$(containers web | head -1)
has "$(addresses web)" "$(ask "${id:0:12}")" 'a container id'
is "$(for slot in 1 2 3; do ask web-$slot; done | sort)" "$(addresses web)" 'host names'
is "$(in_ns "$probe" dig +short +time=$((3 * slow)) @127.0.0.11 -x "$one")" "$name.app." 'the name of an address'
is "$(status_of web AAAA)" NOERROR 'a family that it has not'
is "$(ask web AAAA)" '' 'a family that it has not'
is "$(in_ns "$probe" dig +tcp +short +time=$((3 * slow)) @127.0.0.11 web | sort)" "$(vip web)" 'over TCP'
is "$(ttl redis)" 5 'the TTL'
is "$(in_ns "$(containers far)" dig +short +tries=1 +time=$((3 * slow)) @127.0.0.11 web | grep -c "^10\." || true)" 0 'networks do not see each other'

note "by the containers' own libraries"
muster exec probe.1 timeout $((5 * slow)) ping -c 1 web >/dev/null || die 'busybox does not find web'
muster exec probe.1 timeout $((5 * slow)) nslookup redis >/dev/null || die 'nslookup does not find redis'
is "$(muster exec redis.1 timeout $((5 * slow)) redis-cli -h redis ping)" PONG 'glibc finds redis'
is "$(muster exec probe.1 cat /etc/resolv.conf | grep -v '^search')" "nameserver 127.0.0.11
options ndots:0" 'resolv.conf'

note 'netd is in a control group of its own'
apart 'from the beginning'

note 'followed through scaling, health and stops'
muster service scale --detach web=5 >/dev/null
await 20 'five addresses' count_is tasks.web 5
muster service scale --detach web=1 >/dev/null
await 20 'one address' count_is tasks.web 1
muster service create --detach --name sick --replicas 2 --network app --health-cmd 'test -f /ok' \
  --health-interval $((300 * slow))ms --health-retries 2 --health-start-period $((60 * slow))s --restart-condition none "$box" sh -c "$idle" >/dev/null
await 15 'two are up' bash -c '[[ $(muster ps --format "{{.Names}}" | grep -c "^sick\.") == 2 ]]'
is "$(status_of sick)" NOERROR 'known'
is "$(ask tasks.sick)" '' 'not healthy yet'
for slot in 1 2; do muster exec sick.$slot touch /ok; done
await 15 'healthy, hence named' count_is tasks.sick 2
muster exec sick.1 rm /ok
await 15 'the unhealthy one has no name any more' count_is tasks.sick 1
muster volume create told >/dev/null
muster service create --name parting --network app --mount type=volume,source=told,target=/told "$box" \
  sh -c 'trap "nslookup parting >/told/said 2>&1; exit 0" TERM; sleep 86400 & wait' >/dev/null
own=$(addresses parting)
muster service rm parting >/dev/null
await 15 'its last words' test -s "$NODE/data/volumes/told/_data/said"
hasnt "$(cat "$NODE/data/volumes/told/_data/said")" "$own" 'its name led to it when it was to stop'

note 'port 53 is the container'"'"'s'
muster service create --name own53 --network app --stop-grace-period 1s "$box" \
  sh -c 'mkdir /w; echo mine >/w/index.html; exec httpd -f -p 53 -h /w' >/dev/null
own53=$(containers own53)
listens() { in_ns "$own53" ss -Hltn 'sport = :53' | grep -q '[:*]:53 '; }
await 10 'it listens' listens
is "$(in_ns "$own53" dig +short +time=$((3 * slow)) @127.0.0.11 redis)" "$(vip redis)" 'its resolver over UDP'
is "$(in_ns "$own53" dig +tcp +short +time=$((3 * slow)) @127.0.0.11 redis)" "$(vip redis)" 'its resolver over TCP'
is "$(muster exec probe.1 timeout $((3 * slow)) wget -qO- "http://own53:53/")" mine 'what listens on port 53'

note 'other names are asked for elsewhere'
gateway=$(in_ns "$probe" ip route show default | awk '{print $3}')
python3 "$tools" serve "$gateway" "$RUN/upstream.log" 2>"$RUN/upstream.err" &
UPSTREAM=$!
await 5 'the server' bash -c "ss -Hlun 'src $gateway' | grep -q ':53 '"
muster service create --name asker --network app --dns 192.0.2.1 --dns "$gateway" \
  --dns-search one.example --dns-option timeout:9 "$box" sh -c "$idle" >/dev/null
former=$probe
probe=$(containers asker)
is "$(muster exec asker.1 cat /etc/resolv.conf)" "search one.example
nameserver 127.0.0.11
options ndots:0 timeout:9" 'resolv.conf'
is "$(ask one.example)" 198.51.100.7 'an answer from elsewhere, though the first server is silent'
is "$(ask ONE.example)" 198.51.100.7 'from the cache'
is "$(grep -c 'udp one.example 1$' "$RUN/upstream.log")" 1 'asked for once'
is "$(ask big.example | wc -l)" 200 'a long answer'
has "$(<"$RUN/upstream.log")" 'tcp big.example 1' 'a long answer comes over TCP'
is "$(status_of nowhere.example)" NXDOMAIN 'no such name'
is "$(status_of refused.example)" REFUSED 'what the server refuses'
is "$(status_of silent.example)" SERVFAIL 'when nobody answers'
ask redis >/dev/null
hasnt "$(<"$RUN/upstream.log")" redis 'names of ours stay here'
probe=$former

note 'answers go on while musterd is killed and started again'
rm -f "$RUN/stop"
in_ns "$probe" python3 "$tools" stream redis "$RUN/stop" >"$RUN/streamed" &
STREAM=$!
for round in 1 2; do
  kill_daemon
  is "$(ask tasks.redis)" "$(ask redis.1)" 'while musterd is away'
  # The netd that stays is told of another TTL, too.
  start_daemon --dns-ttl "${round}7s"
  await 15 'the service is whole' runs redis 1
  await 10 'the TTL that the flag says' ttl_is redis "${round}7"
  is "$(ttl tasks.redis)" "${round}7" 'the TTL of a task'"'"'s address'
done
muster service scale web=2 >/dev/null
await 10 'news after the restart' count_is tasks.web 2
note 'an upgrade replaces netd under the same look-ups'
before=$(netd)
kill_daemon
mkdir -p "$NODE/newer"
cp "$BIN/musterd" "$BIN/muster-runtime-shim" "$NODE/newer/"
BIN=$NODE/newer start_daemon --dns-ttl 0s
await 15 'another netd' bash -c "[[ \$(pgrep -f 'musterd netd --run-dir $RUN/$INSTANCE ') != $before ]] && ! kill -0 $before 2>/dev/null"
await 15 'the service is whole' runs redis 1
is "$(netd | wc -l)" 1 'one netd'
apart 'after an upgrade'
await 10 'an answer that is not to be kept' ttl_is redis 0
muster service scale web=3 >/dev/null
await 10 'news after the upgrade' count_is tasks.web 3
touch "$RUN/stop"
wait "$STREAM"
read -r asked failed rate <"$RUN/streamed"
echo "   $asked look-ups, $rate a second"
is "$failed" 0 'look-ups that failed'
# A slow machine asks late: there only the answers count.
((rate >= (slow > 1 ? 1 : 1000))) || die "only $rate look-ups a second"

note 'a killed netd is back at once, and knows everything'
before=$(netd)
kill -9 "$before"
begun=${EPOCHREALTIME/./}
await 5 'names are back' answers redis "$(vip redis)"
echo "   after $(((${EPOCHREALTIME/./} - begun) / 1000)) ms"
is "$(netd | wc -l)" 1 'one netd'
[[ $(netd) != "$before" ]] || die 'the same netd'
apart 'after it was killed'
await 5 'all names are back' count_is tasks.web 3
muster service create --name late --network app "$box" sh -c "$idle" >/dev/null
await 5 'a new name' count_is tasks.late 1

note 'killed together'
kill -9 "$(netd)"
kill_daemon
start_daemon
await 10 'names are back' answers redis "$(vip redis)"
await 10 'the TTL of a musterd without the flag' ttl_is redis 5

note "the node's own resolver on loopback is asked, but not for who must not speak to the world"
muster network create --internal shut >/dev/null
muster service create --name inner --network shut "$box" sh -c "$idle" >/dev/null
loopback=127.53.$(($$ / 250 % 250)).$(($$ % 250 + 1))
python3 "$tools" serve "$loopback" "$RUN/node.log" 2>"$RUN/node.err" &
NODE_SERVER=$!
await 5 'the server' bash -c "ss -Hlun 'src $loopback' | grep -q ':53 '"
kill_daemon
kill -9 "$(netd)"
# A netd that sees another resolv.conf than the rest of the host.
echo "nameserver $loopback" >"$RUN/resolv.conf"
unshare --mount --propagation slave bash -c 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"' \
  mount "$RUN/resolv.conf" "$BIN/musterd" netd --run-dir "$RUN/$INSTANCE" --instance-id "$INSTANCE" \
  --log-level debug --background 2>>"$NODE/musterd.log"
foreign=$(netd)
start_daemon
await 10 'names are back' answers redis "$(vip redis)"
is "$(netd)" "$foreign" 'the netd that was there'
is "$(ask one.example)" 198.51.100.7 'an answer of the node'"'"'s resolver'
probe=$(containers inner)
is "$(ask inner)" "$(vip inner)" 'names in an internal network'
is "$(status_of secret.example)" SERVFAIL 'other names in an internal network'
probe=$former
hasnt "$(<"$RUN/node.log")" secret 'what left an internal network by way of the resolver'
muster service rm inner >/dev/null

note 'nothing is left of a container that is gone'
muster service rm late web >/dev/null
await 20 'its namespaces' bash -c "[[ \$(ls $RUN/$INSTANCE/netns | grep -vc '^net-') == \$(muster ps -q | wc -l) ]]"
muster service rm redis rr sick own53 asker probe far >/dev/null
await 20 'all gone' bash -c '[[ -z $(muster ps -q) ]]'
kill "$UPSTREAM" "$NODE_SERVER"
UPSTREAM='' NODE_SERVER=''
finish
