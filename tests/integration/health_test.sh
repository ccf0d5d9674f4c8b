#!/usr/bin/env bash
# Health checks in real containers: what waits for them, what ends by them, where they are shown,
# commands that hang, flood or are missing, and musterd killed in between.
source tests/integration/lib.sh "$@"
start_registry
push_images busybox
start_node
image=$REGISTRY/busybox:1
# Healthy as long as its root file system has no /tmp/sick.
forever=(sh -c 'trap "exit 0" TERM; mkdir -p /tmp; sleep 86400 & wait')
check='echo "looked at $(hostname)"; test ! -e /tmp/sick'

# SERVICE [STATE]: the newest task's id
task_of() { muster service ps -q --no-trunc "$1" | head -1; }
field() { muster task inspect --format "{{$2}}" "$1"; }
state() { field "$(task_of "$1")" .Status.State; }
in_state() { [[ $(state "$1") == "$2" ]]; }
streak() { field "$1" .Status.Health.FailingStreak; }
has_streak() { (($(streak "$1") >= $2)); }
in_container() { muster exec "$(muster ps -q --filter "name=$1." | head -1)" sh -c "$2"; }
status_of() { muster ps --filter "name=$1." --format '{{.Status}}'; }
status_is() { [[ $(status_of "$1") == *"$2" ]]; }
ended() { [[ $(field "$1" .Status.State) == failed ]]; }

note 'a task runs when its check has passed, and not before'
muster service create --detach --name slow --network host --health-cmd 'test -e /tmp/ready' \
  --health-interval 200ms --health-retries 1000 "$image" "${forever[@]}" >/dev/null
await 20 'it waits' bash -c "[[ \$(muster ps --filter name=slow. --format '{{.Status}}') == *'(health: starting)' ]]"
waits=$(task_of slow)
await 10 'checks fail' has_streak "$waits" 2
is "$(field "$waits" .Status.State)" starting 'state of a task that is not healthy yet'
has "$(muster service ps --no-trunc slow)" 'health check failed with exit code 1' 'why it does not run yet'
is "$(muster ps -q --filter health=starting | wc -l)" 1 'containers that are starting'
is "$(muster ps -q --filter health=healthy | wc -l)" 0 'containers that are healthy'
in_container slow 'touch /tmp/ready'
await 10 'it runs' in_state slow running
await 10 'it is shown as healthy' status_is slow '(healthy)'
is "$(streak "$waits")" 0 'failing streak'
is "$(muster ps -q --filter health=healthy | wc -l)" 1 'containers that are healthy'
muster service rm slow >/dev/null

note 'an unhealthy task ends with the reason and is replaced'
muster service create --name web --network host --restart-delay 500ms --health-cmd "$check" \
  --health-interval 200ms --health-retries 2 "$image" "${forever[@]}" >/dev/null
first=$(task_of web)
in_container web 'touch /tmp/sick'
await 20 'it ends' ended "$first"
has "$(field "$first" .Status.Err)" 'unhealthy container: health check failed with exit code 1: looked at' 'the reason'
has "$(muster service ps --no-trunc web)" 'health check failed with exit code 1: looked at' 'the reason in service ps'
is "$(field "$first" .Status.Health.Status)" unhealthy 'health of the ended task'
is "$(streak "$first")" 2 'failing streak of the ended task'
has "$(muster task inspect "$first")" '"ExitCode": 1' 'the log of probes'
has "$(field "$first" 'json .Status.Health.Log')" 'looked at' 'the output of probes'
await 20 'another runs' in_state web running
[[ $(task_of web) != "$first" ]] || die 'the task was not replaced'

note 'passing probes write nothing'
await 10 'it is healthy' status_is web '(healthy)'
second=$(task_of web)
written=$(field "$second" .Version.Index)
log=$(muster ps --filter name=web. --format '{{.Status}}')
has "$log" healthy 'status'
# A time in which some ten probes pass: their number shows on the node alone.
await 5 'time passes' bash -c "[[ \$(muster ps --filter name=web. --format '{{.Status}}') != 'Up Less than a second'* &&
  \$(muster ps --filter name=web. --format '{{.Status}}') != 'Up 1 second'* ]]"
is "$(field "$second" .Version.Index)" "$written" 'version of a healthy task'

note 'musterd restarts: what runs stays ready, and its health is known'
kill_daemon
start_daemon
is "$(task_of web)" "$second" 'the task'
in_state web running || die "web is $(state web)"
await 10 'it is healthy' status_is web '(healthy)'
in_container web 'touch /tmp/sick'
await 20 'its check goes on' ended "$second"
muster service rm web >/dev/null

note 'a command that hangs is killed with all it has started'
muster service create --detach --name hang --network host --restart-delay 1h \
  --health-cmd 'echo before; setsid sleep 4711 & sleep 4712' --health-interval 100ms \
  --health-timeout 500ms --health-retries 2 "$image" "${forever[@]}" >/dev/null
await 20 'there is a task' bash -c '[[ -n $(muster service ps -q hang) ]]'
hang=$(task_of hang)
await 20 'it ends' ended "$hang"
has "$(field "$hang" .Status.Err)" 'health check exceeded timeout (500ms): before' 'the reason'
muster service rm hang >/dev/null
! pgrep -fa 'sleep 471[12]' || die 'processes of a health check are left'

note 'one that hangs keeps no other from its turn'
muster service create --detach --name stuck --network host --replicas 6 \
  --health-cmd 'sleep 300' --health-interval 100ms --health-timeout 300s "$image" "${forever[@]}" >/dev/null
await 30 'all wait' bash -c '[[ $(muster ps -q --filter name=stuck. | wc -l) == 6 ]]'
muster service create --name free --network host --health-cmd true --health-interval 100ms \
  "$image" "${forever[@]}" >/dev/null
is "$(state free)" running 'state of the other'

note 'musterd ends at once although checks hang'
began=$SECONDS
kill "$DAEMON"
wait "$DAEMON" || die "musterd ended with $?"
((SECONDS - began < 20 * slow)) || die "musterd took $((SECONDS - began)) s to end"
start_daemon
is "$(state free)" running 'state of the other'
muster service rm stuck free >/dev/null

note 'a command that floods'
muster service create --detach --name flood --network host --restart-delay 1h \
  --health-cmd 'yes flood' --health-interval 100ms --health-timeout 500ms --health-retries 1 \
  "$image" "${forever[@]}" >/dev/null
await 20 'there is a task' bash -c '[[ -n $(muster service ps -q flood) ]]'
flood=$(task_of flood)
await 20 'it ends' ended "$flood"
muster task inspect "$flood" >"$NODE/flood.json"
(($(stat -c %s "$NODE/flood.json") < 20000)) || die 'all of the flood was kept'
has "$(field "$flood" .Status.Err)" 'health check exceeded timeout (500ms): ' 'the reason'
has "$(field "$flood" .Status.Err)" 'flood flood' 'what it said last'
(($(field "$flood" .Status.Err | wc -c) < 400)) || die 'the reason is too long'

note 'a command that is not there'
muster service create --detach --name missing --network host --restart-delay 1h \
  --health-cmd '' --health-interval 100ms --health-retries 1 "$image" "${forever[@]}" >/dev/null
await 20 'without a command there is no check' in_state missing running
cat >"$NODE/missing.yml" <<YAML
services:
  web:
    image: $image
    network_mode: host
    command: ["sh", "-c", "sleep 86400"]
    stop_grace_period: 0s
    healthcheck: {test: [CMD, nosuch, -x], interval: 100ms, retries: 1}
    deploy: {restart_policy: {condition: none}}
YAML
muster stack deploy --detach -c "$NODE/missing.yml" s >/dev/null
await 20 'there is a task' bash -c '[[ -n $(muster service ps -q s_web) ]]'
missing=$(task_of s_web)
await 20 'it ends' ended "$missing"
is "$(field "$missing" .Status.Err)" \
  'unhealthy container: health check could not be run: command not found: "nosuch"' 'the reason'

note 'a container that ends by itself was not unhealthy'
muster service create --detach --name short --network host --restart-condition none \
  --health-cmd 'sleep 60' --health-interval 100ms --health-retries 1 "$image" \
  sh -c 'sleep 1; exit 5' >/dev/null
await 20 'there is a task' bash -c '[[ -n $(muster service ps -q short) ]]'
short=$(task_of short)
await 20 'it ends' ended "$short"
is "$(field "$short" .Status.Err)" 'task: non-zero exit (5)' 'the reason'
finish
