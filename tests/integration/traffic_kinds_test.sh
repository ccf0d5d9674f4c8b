#!/usr/bin/env bash
# Datagrams, IPv6 and names without a virtual address (dnsrr, tasks.NAME), where traffic_test.sh has TCP by
# IPv4: streams of short requests from containers and from outside through every node, with no error while
# the services that are asked are updated one task at a time, scaled down and up, and a node is drained and
# comes back. A datagram is sent once, and a name asked for anew for each request.
source "$(dirname "$0")/cluster_lib.sh"
HERE=$(realpath "$(dirname "$0")")

# On 7 a word in a datagram is answered with itself and who answers, after a while, as by a resolver that asks
# another one: whenever a task is let go, questions are under way. On 80 a page says who answers. The image
# has no server of datagrams: the host's perl, which every Debian has, is mounted with its libraries.
SERVE='mkdir /www; hostname >/www/index.html
trap "exit 0" TERM
/perl/ld-linux* --library-path /perl /perl/perl -e "$DATAGRAMS" "$(hostname)" &
httpd -f -p 80 -h /www &
wait'
# Of both families (10), of datagrams (2), on port 7 of every address. What was there at the last beat is
# answered at the next; select says how long that is away.
DATAGRAMS='socket(S, 10, 2, 0) && bind(S, pack("SnNa16N", 10, 7, 0, "", 0)) or die "no socket: $!";
vec($all, fileno(S), 1) = 1;
while (1) {
  ($some, $left) = select($ready = $all, undef, undef, $left);
  push(@came, [$from, $word]) if $some > 0 && defined($from = recv(S, $word, 99, 0));
  next if $left > 0;
  send(S, $$_[1] =~ s/\n//r . " of $ARGV[0]", 0, $$_[0]) for @due;
  @due = splice(@came);
  $left = 0.05;
}'
CHECK=(--health-cmd 'grep -q ":0007 " /proc/net/udp6 && wget -q -O /dev/null http://127.0.0.1/'
  --health-interval $((5 * slow))s --health-start-period $((20 * slow))s --health-start-interval $((100 * slow))ms)

container() { m "$1" ps --no-trunc --format '{{.ID}} {{.Names}}' | sed -n "s/ $2\..*//p" | head -1; }
HELPERS=()
# outside N TARGET...; inside N TARGET...: the streams that begin in the client on node N
outside() {
  python3 "$HERE/traffic_tools.py" streams "$BASE/stop" "$BASE/asked.port$1" "port$1" "${@:2}" &
  HELPERS+=($!)
}
inside() {
  nsenter --net="$RUN/$1/$(instance "$1")/netns/$(container "$1" client)" \
    python3 "$HERE/traffic_tools.py" streams "$BASE/stop" "$BASE/asked.name$1" "name$1" "${@:2}" &
  HELPERS+=($!)
}
# Whatever is done is done under requests: each stream has at least so many more afterwards, or one has failed.
REQUESTS=${MUSTER_REQUESTS:-20}
declare -A BEFORE
asked() { grep -c '^asked' "$1" || true; }
failed() { grep -hv '^asked' "$@" || true; }
more_than() {
  local file
  [[ -z $(failed "$BASE"/asked.*) ]] || return 0
  for file in "$BASE"/asked.*; do (($(asked "$file") >= BEFORE[$file] + REQUESTS)) || return 1; done
}
under_requests() {
  local file
  for file in "$BASE"/asked.*; do BEFORE[$file]=$(asked "$file"); done
  await 30 'requests meanwhile' more_than
  is "$(failed "$BASE"/asked.* | head -5)" '' "requests that failed: $1"
}
# update ARGS: both services at the same time
update() {
  local service updates=()
  for service in web rr; do
    m 1 service update --detach=false --monitor 0s "$@" $service >/dev/null &
    updates+=($!)
  done
  for service in "${updates[@]}"; do wait "$service" || die "an update ended with $?"; done
}
scale() {
  m 1 service scale --detach "web=$1" "rr=$1" >/dev/null
  await 40 "$1 tasks" are "$1"
}
tasks_on() { m "$1" ps --format '{{.Names}}' | grep -cE '^(web|rr)\.' || true; }
# are N: each service has N tasks, and no container of another is left
are() {
  local n all=0
  runs 1 web "$1" && runs 1 rr "$1" || return 1
  for n in "${NODES[@]}"; do all=$((all + $(tasks_on $n))); done
  ((all == 2 * $1))
}

start_registry
push_images busybox
mkdir "$BASE/perl"
cp -L /usr/bin/perl $(ldd /usr/bin/perl | grep -o '/[^ ]*') "$BASE/perl"
for n in 1 2 3; do add_node $n; done
swarm_of worker worker
# Another prefix than a test that runs at the same time.
prefix=fdb7:$(printf %x:%x $((BASHPID >> 16)) $((BASHPID & 65535))):
ip address add "$prefix:c11e/64" dev "$BRIDGE" nodad
for n in 1 2 3; do ip -n "$BRIDGE-$n" address add "$prefix:$n/64" dev eth0 nodad; done
# A node that the processors have no time for is no reason for a request to fail here, nor to be called down.
m 1 swarm update --drain-ack-timeout 10s --dispatcher-heartbeat $((slow))s >/dev/null
beat_slowly 1
m 1 network create --driver overlay --ipv6 green >/dev/null
create() { m 1 service create --detach=false --monitor 0s --network green "$@" >/dev/null; }
# Node 2 is drained, so who asks from there asks from outside.
create --name client --mode global --constraint node.hostname!=node2 "$REGISTRY/busybox:1" \
  sh -c 'trap "exit 0" TERM; sleep 86400 & wait'
serving=(--replicas 4 --update-parallelism 1 --update-monitor 0s "${CHECK[@]}"
  --mount "type=bind,source=$BASE/perl,target=/perl,readonly" --env "DATAGRAMS=$DATAGRAMS"
  "$REGISTRY/busybox:1" sh -c "$SERVE")
create --name web -p 8080:80 -p 8007:7/udp "${serving[@]}"
create --name rr --endpoint-mode dnsrr "${serving[@]}"

note 'the requests begin'
for n in 1 3; do
  inside $n web=udp/web:7 web=flow/web:7 web=udp6/tasks.web:7 web=tcp6/tasks.web:80 \
    rr=tcp/rr:80 rr=tcp6/rr:80 rr=udp/rr:7 rr=udp6/rr:7
done
for n in 1 2 3; do
  outside $n "web=udp/$(address $n):8007" "web=flow/$(address $n):8007" "web=udp6/[$prefix:$n]:8007" \
    "web=flow6/[$prefix:$n]:8007" "web=tcp6/[$prefix:$n]:8080"
done
all_ask() { (($(ls "$BASE"/asked.* | wc -l) == 31)); }
await 10 'all of them ask' all_ask
under_requests 'nothing is done'

note 'a rolling update'
update --env-add V=2
under_requests 'a rolling update'

note 'fewer tasks, and more'
scale 2
under_requests 'two tasks fewer'
scale 4
under_requests 'two tasks more'

note 'a node is drained'
(($(tasks_on 2) > 0)) || die 'no task is on node 2'
m 1 node update --availability drain node2 >/dev/null
is_free() { (($(tasks_on 2) == 0)) && are 4; }
await 40 'the tasks are elsewhere' is_free
under_requests 'a drain'

note 'it comes back, and gets tasks by an update that starts first'
m 1 node update --availability active node2 >/dev/null
update --env-add V=3 --update-order start-first
await 20 'no task of before' are 4
(($(tasks_on 2) > 0)) || die 'node 2 got no task'
under_requests 'it is back'

note 'who asks in vain would have said so'
echo "$EPOCHREALTIME 1e10 web" >"$BASE/excuses"
echo "$EPOCHREALTIME 1e10 rr" >>"$BASE/excuses"
scale 0
none_answered() { local file; for file in "$BASE"/asked.*; do [[ -n $(failed "$file") ]] || return 1; done; }
await 30 'each of them fails' none_answered
touch "$BASE/stop"
wait "${HELPERS[@]}"
said=$(python3 "$HERE/traffic_tools.py" judge "$BASE/excuses" "$BASE"/asked.*)
echo "   $(tail -1 <<<"$said")"
is "$(head -n -1 <<<"$said")" '' 'requests that failed'
# There were four tasks, then four more, and so on: whoever asked was led to those that came.
few() { local file; for file in "$BASE"/asked.*; do awk '/^ended/ && $4 < 3 {print FILENAME, $4}' "$file"; done; }
is "$(few)" '' 'who was answered by fewer than three tasks'
finish
