#!/usr/bin/env bash
# A task that stops waits until every node that may lead connections to it has said that it leads them
# elsewhere: not longer than it was told to, not for nodes without a session, and it says whom it
# waited for in vain. A new leader goes on with it.
source "$(dirname "$0")/cluster_lib.sh"

start_registry
push_images busybox
for n in 1 2 3; do add_node $n; done
swarm_of manager manager
# Longer than a machine without processor time keeps its nodes from answering; and a node that is stopped
# keeps its session until then, and until the update on a slow machine has come to its tasks.
ack=6
m 1 swarm update --task-history-limit 20 --drain-ack-timeout ${ack}s --dispatcher-heartbeat $((5 * slow))s >/dev/null
image=$REGISTRY/busybox:1
forever='trap "exit 0" TERM; sleep 86400 & wait'
now_ms() { date +%s%3N; }
# The reasons of the tasks of app that were told to stop.
errors() { m 1 service ps --no-trunc --filter desired-state=shutdown --format '{{.Error}}' app; }
update() { m 1 service update --detach=false --monitor 0s --env-add "V=$1" app >/dev/null; }

m 1 network create --driver overlay net >/dev/null
m 1 service create --detach=false --monitor 0s --mode global --name client --network net \
  "$image" sh -c "$forever" >/dev/null
m 1 service create --detach=false --monitor 0s --update-monitor 0s --name app --network net \
  --constraint node.hostname==node1 "$image" sh -c "$forever" >/dev/null

note 'nodes that answer are waited for, and not for long'
began=$(now_ms)
update 1
took=$(($(now_ms) - began))
((took < ack * 1000 * slow)) || die "an update took $took ms"
is "$(errors)" '' 'errors of tasks that stopped'

note 'one that does not is named after the time that is set'
worker=2
[[ $(leader 1) != 2 ]] || worker=3
kill -STOP "${PID[$worker]}"
began=$(now_ms)
update 2
took=$(($(now_ms) - began))
kill -CONT "${PID[$worker]}"
has "$(errors)" "did not learn within ${ack}s from node node$worker that new connections go elsewhere" \
  'the error of the task'
((took >= ack * 1000)) || die "node$worker was waited for $took ms"
has "$(m 1 events --since 1m --until 0s --filter type=task)" \
  "did not learn within ${ack}s from node node$worker" 'events'
unacknowledged() {
  m 1 events --since 5m --until 0s --filter event=unacknowledged \
    --format '{{.Type}} {{.Actor.Attributes.name}} {{.Actor.Attributes.missing}}'
}
is "$(unacknowledged)" "task app.1 node$worker" 'the event of its own'

note 'one without a session is not waited for'
await 20 'the node is there again' node_is 1 $worker Status Ready
kill_musterd $worker
update 3
unlearned() { errors | grep -c 'did not learn' || true; }
is "$(unlearned)" 1 'errors of tasks that stopped'
is "$(unacknowledged)" "task app.1 node$worker" 'events of their own'
start_musterd $worker
await 20 'the node is there again' node_is 1 $worker Status Ready

note 'nor is a leader that stops in an orderly way'
other_leads() { local now; now=$(leader 1) && [[ -n $now && $now != 1 ]]; }
# stop_leader V: whether nobody is waited for in vain by the update after it
stop_leader() {
  local first known
  if ! other_leads; then
    stop_musterd 1
    start_musterd 1
    await 20 'another leader' other_leads
  fi
  first=$(leader 1)
  await 20 'node1 is there' node_is 1 1 Status Ready
  known=$(unlearned)
  stop_musterd "$first"
  await 20 'a leader' has_leader 1
  update "$1" || die 'the service cannot be updated'
  known=$(($(unlearned) - known))
  start_musterd "$first"
  await 20 'the node is there again' node_is 1 "$first" Status Ready
  ((known == 0))
}
# Where processor time is short there may be no other leader by the time it says goodbye: not each time.
stop_leader 4.1 || stop_leader 4.2 || stop_leader 4.3 || ((slow > 1)) || die 'a leader that stopped is waited for'
checks=$((checks + 1))

note 'a new leader goes on with what another has begun'
m 1 swarm update --drain-ack-timeout 10s >/dev/null
stopped() { m 1 service ps --filter desired-state=shutdown -q app | wc -l; }
told() { (($(stopped) == $1 + 1)); }
replaced() { runs 1 app 1 && [[ -n $(pids_on 1 app) && $(pids_on 1 app) != "$1" ]]; }
# kill_leader V: whether the update went on before the task's own node, after 15 s without a word, gave
# up waiting
kill_leader() {
  local worker=2 old before began first
  [[ $(leader 1) != 2 ]] || worker=3
  before=$(stopped)
  kill -STOP "${PID[$worker]}"
  old=$(pids_on 1 app)
  m 1 service update --detach --env-add "V=$1" app >/dev/null || die 'the service cannot be updated'
  await 5 'the task is told to stop' told "$before"
  began=$(now_ms)
  is "$(pids_on 1 app)" "$old" 'the container while it waits'
  first=$(leader 1)
  kill_musterd "$first"
  kill -CONT "${PID[$worker]}"
  start_musterd "$first"
  await 20 'a leader' has_leader 1
  await 20 'the update goes on' replaced "$old"
  (($(now_ms) - began < 14000))
}
kill_leader 5.1 || kill_leader 5.2 || ((slow > 1)) || die 'nobody but the node itself let the task go'
finish
