#!/usr/bin/env bash
# A long download by one connection, and a stream of short requests, by a service's name from containers
# and by its published port through every node from outside, with no error while the service that is
# asked is updated, a node is drained, the leader is killed and another one stopped, all managers are
# away, musterd of every worker is killed and started again, and netd is replaced.
source "$(dirname "$0")/cluster_lib.sh"
HERE=$(realpath "$(dirname "$0")")

# Sends 80 KiB, pauses for as long as a process takes to run, and so on until it is told to end.
LONG='#!/bin/sh
printf "Content-Type: text/plain\r\n\r\n"
pad=$(printf "%1010s" | tr " " "-")
i=0
until [ -e /stop ]; do
  for k in 1 2 3 4 5 6 7 8; do
    for l in 1 2 3 4 5 6 7 8 9 10; do echo "$i $pad"; i=$((i + 1)); done
  done
  sleep 0.1
done
echo "last $i"'
LONG=${LONG/sleep 0.1/sleep $((slow / 10)).$((slow % 10))}
SERVE="mkdir -p /www/cgi-bin; echo \"\$LONG\" >/www/cgi-bin/long; chmod +x /www/cgi-bin/long
echo here >/www/index.html; trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait"
CHECK=(--health-cmd 'wget -q -O /dev/null http://127.0.0.1/' --health-interval $((5 * slow))s
  --health-start-period $((20 * slow))s --health-start-interval $((100 * slow))ms)
container() { m "$1" ps --no-trunc --format '{{.ID}} {{.Names}}' | sed -n "s/ $2\..*//p" | head -1; }
declare -A CLIENT=()
know_client() { CLIENT[$1]=$(container "$1" client) && [[ -n ${CLIENT[$1]} ]]; }
in_client() { local n=$1; shift; nsenter --net="$RUN/$n/$(instance "$n")/netns/${CLIENT[$n]}" "$@"; }
STOP=$BASE/stop
HELPERS=()
tools() { python3 "$HERE/traffic_tools.py" "$@"; }
# fetch NAME HOST:PORT: from outside; fetch_inside NAME N HOST:PORT: from the client on node N
fetch() { tools fetch "$2" "$BASE/fetched.$1" & HELPERS+=($!); begins "$1"; }
fetch_inside() { in_client "$2" python3 "$HERE/traffic_tools.py" fetch "$3" "$BASE/fetched.$1" & HELPERS+=($!); begins "$1"; }
begins() { await 10 "the download $1" grep -q begun "$BASE/fetched.$1"; }
whole() { grep -q '^whole' "$BASE/fetched.$1"; }
# Whatever is done is done under requests: of each who asks at least forty, or MUSTER_REQUESTS=N.
REQUESTS=${MUSTER_REQUESTS:-40}
asked() { grep -c '^asked' "$1" || true; }
more_than() { local file; for file in "$BASE"/asked.*; do (($(asked "$file") >= BEFORE[${file##*.}] + REQUESTS)) || return 1; done; }
declare -A BEFORE
under_requests() {
  local file
  for file in "$BASE"/asked.*; do BEFORE[${file##*.}]=$(asked "$file"); done
  await 30 'requests meanwhile' more_than
  is "$(grep -hv '^asked' "$BASE"/asked.* | head -5 || true)" '' "requests that failed: $1"
  is "$(grep -h broken "$BASE"/fetched.* || true)" '' "downloads that broke: $1"
}

start_registry
push_images busybox hello
for n in 1 2 3 4 5; do add_node $n; done
swarm_of manager manager worker worker
# A node that the processors have no time for is no reason for a request to fail here, nor to be called down.
m 1 swarm update --drain-ack-timeout 10s --dispatcher-heartbeat $((slow))s >/dev/null
beat_slowly 1
create() { m 1 service create --detach=false --monitor 0s --network blue "$@" >/dev/null; }
m 1 network create --driver overlay blue >/dev/null
create --name client --mode global --constraint node.role==manager "$REGISTRY/busybox:1" \
  sh -c 'trap "exit 0" TERM; sleep 86400 & wait'
create --name web --replicas 4 -p 8080:80 --update-parallelism 1 --update-monitor 0s "${CHECK[@]}" "$REGISTRY/hello:1"
create --name long --constraint node.hostname==node4 -p 8090:80 "${CHECK[@]}" --env "LONG=$LONG" \
  "$REGISTRY/busybox:1" sh -c "$SERVE"
# On node 5, and later wherever there is room.
for n in 1 2 3 4; do m 1 node update --availability pause node$n >/dev/null; done
create --name patient -p 8091:80 --drain-timeout 5m "${CHECK[@]}" --env "LONG=$LONG" "$REGISTRY/busybox:1" \
  sh -c "$SERVE"
for n in 1 2 3 4; do m 1 node update --availability active node$n >/dev/null; done

for n in 1 2 3; do await 10 "the client of node $n" know_client $n; done

note 'the downloads begin, and the requests'
fetch port "$(address 1):8090"
fetch drained "$(address 5):8090"
fetch_inside name 2 long:80
fetch patient_port "$(address 3):8091"
fetch_inside patient_name 3 patient:80
for n in 1 2 3; do
  in_client $n python3 "$HERE/traffic_tools.py" ask "$STOP" "$BASE/asked.name$n" "name$n" web=web:80 &
  HELPERS+=($!)
done
for n in 1 2 3 4 5; do
  tools ask "$STOP" "$BASE/asked.port$n" "port$n" "web=$(address $n):8080" &
  HELPERS+=($!)
done
all_ask() { (($(ls "$BASE"/asked.* | wc -l) == 8)); }
await 10 'all of them ask' all_ask
under_requests 'nothing is done'

note 'a rolling update of the service that is asked'
m 1 service update --detach=false --monitor 0s --env-add V=2 web >/dev/null
under_requests 'a rolling update'
m 1 service update --detach=false --monitor 0s --update-order start-first --env-add V=3 web >/dev/null
under_requests 'a rolling update that starts first'

note 'a node is drained, whose task has a download'
m 1 node update --availability drain node5 >/dev/null
patient=$(container 5 patient)
web_moved() { runs 1 web 4 && [[ -z $(container 5 web) ]]; }
await 40 'the tasks are elsewhere' web_moved
under_requests 'a drain'
[[ -n $patient && $(container 5 patient) == "$patient" ]] || die 'the task with a download did not wait for it'
m 5 exec "$patient" touch /stop
for each in patient_port patient_name; do await 20 "the end of the download $each" whole $each; done
patient_gone() { [[ -z $(container 5 patient) ]]; }
await 20 'the task ends with its download' patient_gone
m 1 node update --availability active node5 >/dev/null

note 'the leader is killed, and the next one is stopped in good order'
for how in kill_musterd stop_musterd; do
  first=$(leader 1)
  other=$((first % 3 + 1))
  $how "$first"
  await 20 'another leader' has_leader "$other"
  under_requests "$how of the leader"
  start_musterd "$first"
  await 30 'the node is there again' node_is "$other" "$first" Status Ready
done

note 'all managers are away'
for n in 1 2 3; do stop_musterd $n; done
under_requests 'no managers'
under_requests 'no managers, still'
for n in 1 2 3; do start_musterd $n; done
await 30 'a leader' has_leader 1
for n in 1 2 3 4 5; do await 30 "node $n is ready" node_is 1 $n Status Ready; done

note 'musterd of every worker is killed, and stopped'
for n in 4 5; do
  kill_musterd $n
  under_requests "musterd $n is killed"
  start_musterd $n
  await 30 "node $n is ready" node_is 1 $n Status Ready
  stop_musterd $n
  start_musterd $n
  await 30 "node $n is ready" node_is 1 $n Status Ready
  under_requests "musterd $n is back"
done

note 'netd is replaced'
netd() { pgrep -f "musterd netd --run-dir $RUN/$1/"; }
mkdir "$BASE/newer"
cp "$BIN"/muster "$BIN"/musterd "$BIN"/muster-runtime-shim "$BASE/newer/"
for n in 2 4; do
  before=$(netd $n)
  stop_musterd $n
  BIN=$BASE/newer start_musterd $n
  another_netd() { [[ -n $(netd $n) && $(netd $n) != "$before" ]] && ! kill -0 "$before" 2>/dev/null; }
  await 20 "another netd on node $n" another_netd
  await 30 "node $n is ready" node_is 1 $n Status Ready
done
under_requests 'netd is another'

note 'the end of it'
m 1 service update --detach=false --monitor 0s --env-add V=4 web >/dev/null
under_requests 'an update after all that'
touch "$STOP"
m 4 exec "$(container 4 long)" touch /stop
for each in port drained name; do await 20 "the end of the download $each" whole $each; done
wait "${HELPERS[@]}"
: >"$BASE/excuses"
said=$(tools judge "$BASE/excuses" "$BASE"/asked.*)
echo "   $(tail -1 <<<"$said"); downloads of $(sed -n 's/^whole: //p' "$BASE"/fetched.* | tr '\n' ' ')"
is "$(head -n -1 <<<"$said")" '' 'requests that failed'
finish
