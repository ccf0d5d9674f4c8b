#!/usr/bin/env bash
# Which task gets the next connection: by weights of node labels, by the client's address, as the
# service says, for its name as for its published port, from one moment to the next and without new
# tasks; what a node cannot do is said. On whichever balancer the kernel has.
source "$(dirname "$0")/cluster_lib.sh"

SERVE='mkdir -p /www/cgi-bin
printf "#!/bin/sh\necho; hostname\n" >/www/cgi-bin/who
chmod +x /www/cgi-bin/who; httpd -f -p 80 -h /www'
CHECK=(--health-cmd 'wget -q -O /dev/null http://127.0.0.1/cgi-bin/who' --health-interval "${slow}s"
  --health-start-period $((10 * slow))s --health-start-interval $((100 * slow))ms)
task() { m "$1" ps --format '{{.Names}}' | grep "^$2\." | head -1; }
inside() { local n=$1 s=$2; shift 2; m "$n" exec "$(task "$n" "$s")" "$@"; }
# N COUNT: who answers so many requests of the client on node 1 to the service's name
by_name() {
  inside 1 client sh -c "for i in \$(seq $1); do timeout $((3 * slow)) wget -q -O - http://web/cgi-bin/who; done" | grep .
}
by_port() { for _ in $(seq "$1"); do curl -fsS -m $((3 * slow)) "http://$(address 3):8080/cgi-bin/who"; done | grep .; }
# NAME LOW HIGH: of the answers on standard input, those of that container
between() {
  local times
  times=$(grep -c "^$1\$")
  ((times >= $2 && times <= $3)) || die "$1 answered $times times, not $2 to $3"
  checks=$((checks + 1))
}
said_to_be() { [[ $(m 1 service inspect --format '{{json .}}' web) == *"$1"* ]]; }

start_registry
push_images busybox
for n in 1 2 3; do add_node $n; done
swarm_of worker worker
IMAGE=$REGISTRY/busybox:1
m 1 network create --driver overlay blue >/dev/null

note 'what makes no sense is refused'
create() { m 1 service create --network blue "$@" "$IMAGE" true; }
fails 'round-robin, least-connection or source-hash' create --endpoint-balancing odd
fails "can't be used with dnsrr mode" create --endpoint-mode dnsrr --endpoint-balancing source-hash
fails 'the affinity is 1s at least' create --endpoint-affinity 10ms
fails "a node label's key alone: size" create --endpoint-weight-label node.labels.size

note 'tasks get connections in proportion to the label of their node'
m 1 node update --label-add size=3 node2 >/dev/null
m 1 service create --detach=false --monitor 0s --mode global --name web --network blue -p 8080:80 \
  --endpoint-weight-label size "${CHECK[@]}" "$IMAGE" sh -c "$SERVE" >/dev/null
m 1 service create --detach=false --monitor 0s --name client --network blue \
  --constraint node.hostname==node1 "$IMAGE" sleep 1000000 >/dev/null
for n in 1 2 3; do host[n]=$(inside $n web hostname); done
tasks=$(for n in 1 2 3; do task $n web; done)
await 5 'the name leads to the service' by_name 1
await 5 'so does the port' by_port 1
by_name 60 >"$BASE/name"
by_port 60 >"$BASE/port"
for way in name port; do
  between "${host[2]}" 34 39 <"$BASE/$way"
  between "${host[1]}" 10 14 <"$BASE/$way"
  between "${host[3]}" 10 14 <"$BASE/$way"
done
m 1 service inspect --pretty web | grep -q 'Weight Label:.*size' || die 'the weight label is not shown'
settled 1

note 'another label counts at once'
m 1 node update --label-add size=1 node2 >/dev/null
even() { by_name 30 >"$BASE/even" && [[ $(grep -c "^${host[2]}\$" "$BASE/even") -le 12 ]]; }
await 20 'the tasks are alike' even

note 'by the client, it is the same task each time'
m 1 service update --detach --endpoint-balancing source-hash web >/dev/null
one_task() { [[ $("$1" 6 | sort -u | wc -l) == 1 ]]; }
await 5 'the name leads to one task' one_task by_name
await 5 'so does the port' one_task by_port
is "$(by_name 12 | sort -u | wc -l)" 1 'tasks that answer by name'
is "$(by_port 12 | sort -u | wc -l)" 1 'tasks that answer by port'
m 1 service update --detach --endpoint-balancing round-robin --endpoint-affinity 10m web >/dev/null
await 5 'the choice is stored' said_to_be 600000000000
await 5 'with affinity, too' one_task by_name
is "$(by_name 12 | sort -u | wc -l)" 1 'tasks that answer with affinity'
settled 1

note 'what a node cannot do is said'
m 1 service update --detach --endpoint-balancing least-connection --endpoint-affinity 0 web \
  >"$BASE/out" 2>&1
balancer=$(m 1 info --format '{{.Balancer}}')
case $balancer in
  nftables)
    grep -q 'least-connection is not available on 3 nodes' "$BASE/out" || die "no word of it: $(cat "$BASE/out")"
    m 1 node inspect node2 | grep -q 'service web asks for least-connection' || die 'the node does not say it'
    ;;
  ipvs) ! grep -q 'not available' "$BASE/out" || die 'IPVS counts connections' ;;
  *) die "the balancer is $balancer" ;;
esac
all_three() { [[ $(by_name 12 | sort -u | wc -l) == 3 ]]; }
await 5 'all tasks answer' all_three
is "$(for n in 1 2 3; do task $n web; done)" "$tasks" 'the tasks, which nothing of this has replaced'

finish
