#!/usr/bin/env bash
# Updates that go wrong: rolled back by themselves or by hand, paused and resumed, and with musterd
# killed in the middle.
source tests/integration/lib.sh "$@"
start_registry
push_images busybox
start_node
image=$REGISTRY/busybox:1
forever=(sh -c 'trap "exit 0" TERM; sleep 86400 & wait')
good="sh -c 'trap \"exit 0\" TERM; sleep 86400 & wait'"
bad="sh -c 'exit 3'"

state() { muster service inspect --format '{{.UpdateStatus.State}}' "$1"; }
message() { muster service inspect --format '{{.UpdateStatus.Message}}' "$1"; }
is_in() { [[ $(state "$1") == "$2" ]]; }
# SERVICE TEXT: how many of its containers have TEXT in their environment
with() {
  local pid count=0
  for pid in $(pids_of "$1"); do
    ! tr '\0' '\n' <"/proc/$pid/environ" | grep -qx "$2" || count=$((count + 1))
  done
  echo "$count"
}

note 'an update that fails is rolled back by itself'
muster service create --name web --network host --replicas 3 --restart-delay 500ms \
  --update-failure-action rollback --update-monitor 1s --rollback-monitor 1s \
  "$image" "${forever[@]}" >/dev/null
before=$(pids_of web)
fails 'update rolled back due to failure or early termination of task web.' \
  muster service update --args "$bad" web
is "$(state web)" rollback_completed 'state of web'
has "$(message web)" 'non-zero exit (3)' 'why it was rolled back'
# A slot may have been begun in the moment in which the first one ran.
[[ -n $(comm -12 <(echo "$before") <(pids_of web)) ]] || die 'the update went through all slots'
runs web 3 || die 'web does not run again'
fails 'does not have a previous spec' muster service rollback web

note 'an update whose tasks find no node ends at its deadline, with the reason'
fails 'no suitable node' \
  muster service update --update-progress-deadline 2s --constraint-add node.labels.no==such web
await 20 'rolled back' is_in web rollback_completed
has "$(message web)" 'no progress within 2s: task web.' 'why it was rolled back'
await 10 'web runs again' runs web 3

note 'a paused update stays so until it is changed'
muster service create --name api --network host --replicas 2 --restart-delay 500ms \
  --update-monitor 1s --rollback-monitor 1s "$image" "${forever[@]}" >/dev/null
fails 'service update paused: update paused due to failure or early termination of task api.' \
  muster service update --args "$bad" api
has "$(muster service update --detach --label-add a=b api 2>&1)" 'stays paused' 'a label is added'
is "$(state api)" paused 'state of api'
muster service update --args "$good" --env-add V=1 api >/dev/null
is "$(state api)" completed 'state of api'
is "$(with api V=1)" 2 'containers of the update that resumed'

note 'rollback by hand goes back and forth'
muster service update --env-add V=2 api >/dev/null
muster service rollback api >/dev/null
is "$(state api)" rollback_completed 'state of api'
is "$(with api V=1)" 2 'containers after a rollback'
muster service update --rollback api >/dev/null
is "$(with api V=2)" 2 'containers after another'

note 'musterd is killed in the middle of an update'
muster service update --detach --update-delay 1s --env-add V=3 api >/dev/null
await 10 'the first slot' bash -c "[[ \$(muster service ps api --format '{{.CurrentState}}' \
  --filter desired-state=running | grep -c Running) -ge 1 ]]"
kill_daemon
start_daemon
await 30 'the update goes on' is_in api completed
is "$(with api V=3)" 2 'containers of the update'

note 'musterd is killed again and again while an update fails'
muster service update --detach --args "$bad" web >/dev/null
for _ in 1 2 3; do
  kill_daemon
  start_daemon
done
await 30 'rolled back' is_in web rollback_completed
await 10 'web runs' runs web 3
has "$(message web)" 'non-zero exit (3)' 'why it was rolled back'

muster service rm web api >/dev/null
finish
