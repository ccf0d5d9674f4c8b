#!/usr/bin/env bash
# Jobs: runs to completion at a limited concurrency, failures, further iterations, global jobs, stacks,
# and musterd killed in the middle.
source tests/integration/lib.sh "$@"
start_registry
push_images busybox
start_node
image=$REGISTRY/busybox:1
work=$NODE/work
mkdir "$work"
mount=type=bind,source=$work,target=/work

replicas() { muster service ls --filter "name=$1" --format '{{.Replicas}}'; }
shows() { [[ $(replicas "$1") == "$2" ]]; }
status() { muster service inspect --format "{{.JobStatus.$2}}" "$1"; }
ends_as() { [[ $(status "$1" State) == "$2" ]]; }

note 'a replicated job runs to its end, never more than two at a time'
# A run notes how many there are while it lasts: directories, since making one is atomic.
out=$(muster service create --name batch --network host --mode replicated-job --replicas 6 \
  --max-concurrent 2 --mount "$mount" --env 'SLOT={{.Task.Slot}}' "$image" \
  sh -c 'mkdir /work/now.$SLOT; ls -d /work/now.* | wc -l >>/work/batch.counts; sleep 1;
         rmdir /work/now.$SLOT; echo $SLOT >>/work/batch')
has "$out" 'job progress: 6 out of 6 complete' 'the progress'
has "$out" 'job complete' 'the end'
is "$(sort -n "$work/batch" | tr '\n' ' ')" '0 1 2 3 4 5 ' 'slots that ran'
is "$(sort -n "$work/batch.counts" | tail -1)" 2 'the most at a time'
is "$(replicas batch)" '0/2 (6/6 completed)' 'service ls'
is "$(status batch State)" completed 'state of the job'
is "$(muster service ps batch --format '{{.Name}} {{.DesiredState}} {{.CurrentState}}' |
  grep -c 'batch.[0-5] Complete Complete')" 6 'finished tasks in service ps'

note 'every update runs it again'
muster service update --label-add a=b --quiet batch >/dev/null
is "$(wc -l <"$work/batch")" 12 'runs after a label'
muster service update --force --quiet batch >/dev/null
is "$(wc -l <"$work/batch")" 18 'runs after a force'
is "$(status batch JobIteration.Index)" 3 'the iteration'
muster service scale batch=2 >/dev/null
is "$(wc -l <"$work/batch")" 20 'runs after scaling to 2 completions'
is "$(replicas batch)" '0/2 (2/2 completed)' 'service ls after scaling'

note 'what is refused'
fails 'jobs are not rolled back' muster service rollback batch
deploy_web() {  # MODE: a stack with one service
  muster stack deploy --detach -c - x <<COMPOSE
version: "3.9"
services:
  web: {image: $image, command: [sleep, "60"], networks: [host], deploy: {mode: $1}}
networks: {host: {external: true}}
COMPOSE
}
deploy_web replicated >/dev/null
fails 'service mode change is not allowed' deploy_web replicated-job
muster stack rm x >/dev/null

note 'a job that fails at first is tried until it succeeds'
muster service create --name flaky --network host --mode replicated-job --restart-delay 200ms \
  --restart-max-attempts 3 --mount "$mount" "$image" \
  sh -c 'echo x >>/work/flaky; [ $(wc -l </work/flaky) -ge 3 ]' >/dev/null
is "$(wc -l <"$work/flaky")" 3 'attempts'
is "$(replicas flaky)" '0/1 (1/1 completed)' 'service ls'
is "$(muster service ps flaky -q | wc -l)" 3 'attempts in service ps'

note 'attempts that are used up end the waiting, and are told everywhere'
fails 'a task of the job cannot complete: task hopeless.0' \
  muster service create --name hopeless --network host --mode replicated-job --replicas 2 \
  --max-concurrent 1 --restart-delay 100ms --restart-max-attempts 1 --env 'SLOT={{.Task.Slot}}' \
  "$image" sh -c '[ $SLOT = 1 ] || exit 7'
await 10 'the other slot completes' shows hopeless '0/1 (1/2 completed) (1 failed)'
is "$(status hopeless State)" failed 'state of the job'
has "$(status hopeless Message)" 'non-zero exit (7); not tried again: 1 of 1 restarts' 'the message'
has "$(muster service ps --no-trunc hopeless)" 'not tried again: 1 of 1 restarts are used up' 'ps'
has "$(muster service inspect --pretty hopeless)" 'cannot complete' 'inspect --pretty'
muster service update --quiet --args "true" hopeless >/dev/null
is "$(status hopeless State)" completed 'the next iteration'

note 'a global job runs once on the node'
muster service create --name once --network host --mode global-job --mount "$mount" "$image" \
  sh -c 'echo x >>/work/once' >/dev/null
is "$(wc -l <"$work/once")" 1 'runs of the global job'
is "$(replicas once)" '0/0 (1/1 completed)' 'service ls'
node=$(muster node ls -q)
muster node update --availability drain "$node" >/dev/null
muster node update --availability active "$node" >/dev/null
is "$(replicas once)" '0/0 (1/1 completed)' 'done is done'
fails 'no suitable node' muster service create --name nowhere --network host --mode global-job \
  --constraint node.labels.no==such "$image" true

note 'musterd is killed again and again in the middle of a job'
muster service create --detach --name long --network host --mode replicated-job --replicas 12 \
  --max-concurrent 3 --mount "$mount" --env 'SLOT={{.Task.Slot}}' "$image" \
  sh -c 'sleep 0.7; echo $SLOT >>/work/long' >/dev/null
for round in 1 2 3 4; do
  await 20 "$((round * 2)) runs" bash -c "[[ \$(wc -l <'$work/long') -ge $((round * 2)) ]]"
  kill_daemon
  start_daemon
done
await 40 'the job ends' ends_as long completed
is "$(replicas long)" '0/3 (12/12 completed)' 'service ls'
is "$(sort -n "$work/long" | uniq | wc -l)" 12 'slots that ran'
is "$(wc -l <"$work/long")" 12 'runs: none was lost, none was repeated'

note 'killed while the next iteration begins'
muster service update --detach --force long >/dev/null
kill_daemon
start_daemon
await 40 'the second iteration ends' bash -c "[[ \$(muster service inspect long --format \
  '{{.JobStatus.JobIteration.Index}} {{.JobStatus.State}}') == '2 completed' ]]"
is "$(tail -n +13 "$work/long" | sort -n | uniq | wc -l)" 12 'slots of the second iteration'

note 'a stack with a job'
cat >"$NODE/compose.yml" <<COMPOSE
version: "3.9"
services:
  load:
    image: $image
    command: ["sh", "-c", "echo x >>/work/stack"]
    volumes: ["$work:/work"]
    networks: [host]
    deploy: {mode: replicated-job, replicas: 2}
networks: {host: {external: true}}
COMPOSE
muster stack deploy -c "$NODE/compose.yml" jobs >/dev/null
is "$(wc -l <"$work/stack")" 2 'runs of the stack'
muster stack deploy -c "$NODE/compose.yml" jobs >/dev/null
is "$(wc -l <"$work/stack")" 4 'runs after another deploy'
muster stack rm jobs >/dev/null

muster service rm batch flaky hopeless once nowhere long >/dev/null
await 20 'all gone' bash -c '[[ -z $(muster ps -q) ]]'
finish
