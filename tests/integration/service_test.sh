#!/usr/bin/env bash
# A service's life on the host network: create, look, scale, update, fail, remove.
source tests/integration/lib.sh "$@"
start_registry
push_images busybox
start_node
image=$REGISTRY/busybox:1
forever=(sh -c 'trap "exit 0" TERM; sleep 86400 & wait')

note 'create waits until the replicas run'
muster service create --name web --network host --replicas 2 "$image" "${forever[@]}" >/dev/null
runs web 2 || die 'create returned before the service ran'
is "$(pids_of web | wc -l)" 2 'containers of web'
has "$(muster service ps web)" 'Running' 'service ps'
is "$(muster service inspect --format '{{.Spec.Name}}' web)" web 'service inspect'

note 'whoever ends musterd with all of its cgroup ends no container and no monitor'
# The one in a network has names, which netd answers.
muster network create app >/dev/null
muster service create --name named --network app "$image" "${forever[@]}" >/dev/null
monitors=$(pgrep -f "conmon.*$NODE")
is "$(wc -w <<<"$monitors")" 3 'monitors of web and named'
netd=$(pgrep -f "musterd netd --run-dir $RUN/")
is "$(wc -w <<<"$netd")" 1 'netd'
for pid in $(pids_of web) $(pids_of named) $monitors $netd; do
  is "$(comm -12 <(grep -v ':/$' "/proc/$DAEMON/cgroup" | sort) <(sort "/proc/$pid/cgroup"))" '' \
    "cgroups of musterd that process $pid is in"
done
muster service rm named >/dev/null
await 10 'the one in a network has ended' bash -c "[[ \$(muster ps -q | wc -l) == 2 ]]"

note 'a name is taken once'
fails 'name conflicts with an existing object' \
  muster service create --name web --network host "$image" "${forever[@]}"

note 'scale up keeps what runs'
before=$(pids_of web)
muster service scale web=5 >/dev/null
is "$(pids_of web | wc -l)" 5 'containers after scaling up'
is "$(comm -12 <(echo "$before") <(pids_of web) | wc -l)" 2 'containers kept'
muster service scale web=1 >/dev/null
await 15 'scaled down' bash -c "[[ \$(muster ps -q | wc -l) == 1 ]]"

note 'an update replaces the containers, labels do not'
before=$(pids_of web)
muster service update --label-add team=a web >/dev/null
is "$(pids_of web)" "$before" 'containers after a label'
muster service update --env-add COLOUR=blue web >/dev/null
[[ $(pids_of web) != "$before" ]] || die 'the update kept the old container'
pid=$(pids_of web)
has "$(tr '\0' '\n' <"/proc/$pid/environ")" COLOUR=blue 'environment of the new container'

note 'a killed container is replaced, its exit code is told'
muster service update --monitor 0s --restart-delay 100ms web >/dev/null
await 15 'updated' runs web 1
kill -9 "$(pids_of web)"
await 15 'replaced' bash -c "muster service ps --no-trunc web | grep -q 'non-zero exit (137)'"
await 15 'runs again' runs web 1

note 'a container that ignores TERM is killed after its grace period'
muster service create --name stubborn --network host --stop-grace-period 1s "$image" \
  sh -c 'trap "" TERM; while :; do sleep 1; done' >/dev/null
pid=$(pids_of stubborn)
muster service rm stubborn >/dev/null
await 10 'the stubborn container is gone' bash -c "! kill -0 $pid"

note 'what cannot run says why'
muster service create --detach --name nocommand --network host --restart-condition none \
  "$image" nosuchcommand >/dev/null
await 15 'command not found' bash -c "muster service ps --no-trunc nocommand | grep -q nosuchcommand"
muster service create --detach --name noimage --network host --restart-condition none \
  "$REGISTRY/nosuchimage:1" >/dev/null
await 20 'no such image' bash -c "muster service ps --no-trunc noimage | grep -qiE 'manifest unknown|not found'"
muster service create --detach --name nonode --network host --constraint node.labels.x==y \
  "$image" >/dev/null
await 15 'no suitable node' bash -c "muster service ps --no-trunc nonode |
  grep -q 'no suitable node (scheduling constraints not satisfied on 1 node)'"
muster service create --detach --name nomemory --network host --reserve-memory 100T \
  "$image" >/dev/null
await 15 'too little memory' bash -c "muster service ps --no-trunc nomemory | grep -q 'insufficient resources on 1 node'"

note 'a label makes the waiting task run'
muster node update --label-add x=y "$(muster node ls -q)" >/dev/null
await 15 'nonode runs' bash -c "muster service ps nonode | grep -qE 'Running|Complete|Starting|Shutdown'"

note 'limits are the kernel’s'
muster service create --name limited --network host --limit-memory 64M --limit-pids 20 \
  "$image" sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
pid=$(pids_of limited)
path=$(awk -F: '$2 ~ /memory/ || $1 == 0 {print $3; exit}' "/proc/$pid/cgroup")
limit=$(cat "/sys/fs/cgroup/memory$path/memory.limit_in_bytes" 2>/dev/null ||
  cat "/sys/fs/cgroup$path/memory.max")
is "$limit" $((64 * 1024 * 1024)) 'memory limit'

note 'too much memory is an OOM kill with a name'
muster service create --detach --name hungry --network host --limit-memory 16M \
  --restart-condition none "$image" sh -c 'x=x; while :; do x=$x$x; done' >/dev/null
await 30 'OOM kill' bash -c "muster service ps --no-trunc hungry | grep -qi 'oom'"

note 'removal leaves no container'
muster service rm web nocommand noimage nonode nomemory limited hungry >/dev/null
await 20 'all gone' bash -c '[[ -z $(muster ps -q) ]]'
finish
