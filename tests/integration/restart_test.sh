#!/usr/bin/env bash
# musterd may be killed at any moment: containers keep running and are adopted, nothing that was
# acknowledged is lost, what ended meanwhile is told with its true exit code.
source tests/integration/lib.sh "$@"
start_registry
push_images busybox
start_node
image=$REGISTRY/busybox:1

note 'ten containers survive kill -9'
muster service create --name keep --network host --replicas 10 "$image" \
  sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
before=$(pids_of keep)
is "$(wc -w <<<"$before")" 10 'containers'
kill_daemon
for pid in $before; do kill -0 "$pid" || die "container $pid died with musterd"; done
start_daemon
await 15 'the service is whole' runs keep 10
is "$(pids_of keep)" "$before" 'containers after the restart'

note 'what was acknowledged is there'
for round in 1 2 3; do
  muster service create --detach --name "kept$round" --network host --replicas 0 "$image" >/dev/null
  kill_daemon
  start_daemon
  muster service inspect "kept$round" >/dev/null || die "service kept$round was lost"
done
await 15 'the service is whole' runs keep 10
is "$(pids_of keep)" "$before" 'containers after three more kills'

note 'a container that ended meanwhile has its exit code'
muster service create --name short --network host --restart-condition none "$image" \
  sh -c 'trap "exit 42" USR1; sleep 86400 & wait' >/dev/null
pid=$(pids_of short)
kill_daemon
kill -USR1 "$pid"
await 10 'it ended' bash -c "! kill -0 $pid"
start_daemon
await 15 'exit code 42' bash -c "muster service ps --no-trunc short | grep -q 'non-zero exit (42)'"

note 'an orderly stop keeps containers, too'
kill "$DAEMON"
wait "$DAEMON" || die "musterd ended with $?"
for pid in $before; do kill -0 "$pid" || die "container $pid died with the orderly stop"; done
start_daemon
await 15 'the service is whole' runs keep 10
is "$(pids_of keep)" "$before" 'containers after the orderly restart'

note 'an orderly stop in the middle of work ends with 0'
for round in 1 2 3 4 5 6 7 8 9 10 11 12; do
  timeout 5 muster events >/dev/null 2>&1 &
  timeout 5 muster stats >/dev/null 2>&1 &
  muster service scale --detach keep=$((10 + round % 3)) >/dev/null
  kill "$DAEMON"
  wait "$DAEMON" || die "musterd ended with $? in round $round"
  start_daemon
done
muster service scale --detach keep=10 >/dev/null
await 30 'ten again' runs keep 10

note 'killed in the middle of a scale, it comes back right'
muster service scale --detach keep=30 >/dev/null
kill_daemon
start_daemon
await 40 'thirty of thirty' runs keep 30
as_many() { [[ $(pids_of keep | wc -l) == 30 && $(pgrep -fc "conmon.*$NODE") == 30 ]]; }
await 20 'thirty containers and monitors' as_many
finish
