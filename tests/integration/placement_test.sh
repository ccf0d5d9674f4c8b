#!/usr/bin/env bash
# Placement that lives: labels, drain, pause, a node that comes to offer less, generic resources,
# and what explain says of it all; with musterd killed in the middle of a drain.
source tests/integration/lib.sh "$@"
start_registry
push_images busybox
flags=(--label rack=r1 --node-generic-resource GPU=u1 --node-generic-resource GPU=u2
  --node-generic-resources SSD=3)
start_node "${flags[@]}"
image=$REGISTRY/busybox:1
forever=(sh -c 'trap "exit 0" TERM; sleep 86400 & wait')
export MUSTER_MONITOR=0s

# SERVICE: how many of its tasks wait for a node
pending() { muster service ps --filter desired-state=running --format '{{.CurrentState}}' "$1" | grep -c ^Pending || true; }
only() { [[ $(pids_of "$1") == "$2" ]]; }
pends() { [[ $(pending "$1") == "$2" ]]; }
# SERVICE TEXT: the errors of its tasks have TEXT
errs() { [[ $(muster service ps --no-trunc --format '{{.Error}}' "$1") == *"$2"* ]]; }
# SERVICE TEXT: explain says TEXT
explains() { [[ $(muster service explain "$1") == *"$2"* ]]; }
# SERVICE NAME: values of an environment variable of its containers
env_of() {
  local pid
  for pid in $(pids_of "$1"); do tr '\0' '\n' <"/proc/$pid/environ" | sed -n "s/^$2=//p"; done | sort
}

note 'the node says what it has'
pretty=$(muster node inspect --pretty self)
has "$pretty" $' GPU:\t\t\tu1, u2\n SSD:\t\t\t3' 'generic resources'
has "$pretty" $'Engine Labels:\n - rack=r1' 'engine labels'

note 'a label that goes moves the task to pending, with the reason, and back'
muster node update --label-add disk=ssd self >/dev/null
muster service create --name web --network host --replicas 2 --constraint node.labels.disk==ssd \
  --constraint engine.labels.rack==r1 "$image" "${forever[@]}" >/dev/null
explains web 'satisfies engine.labels.rack == r1, node.labels.disk == ssd' ||
  die "explain: $(muster service explain web)"
muster node update --label-add disk=hdd self >/dev/null
await 20 'both tasks wait' pends web 2
errs web 'node no longer satisfies constraint node.labels.disk == ssd: the label is hdd' ||
  die 'the reason of the old tasks'
await 10 'the reason of the new tasks' \
  errs web 'no suitable node (scheduling constraints not satisfied on 1 node)'
explains web 'constraint node.labels.disk == ssd: the label is hdd' || die 'the node in explain'
is "$(muster service explain --format '{{range .Nodes}}{{.Fits}} {{.Filter}}{{end}}' web)" \
  'false constraint' 'explain through a template'
muster node update --label-add disk=ssd self >/dev/null
await 20 'web runs again' runs web 2
fails "key no doesn't exist in node's labels" muster node update --label-rm no self

note 'a start-first service does not stay where it must not, either'
muster service create --name first --network host --constraint node.labels.disk==ssd \
  --update-order start-first "$image" "${forever[@]}" >/dev/null
muster node update --label-rm disk self >/dev/null
await 20 'the task of first waits' pends first 1
await 20 'the tasks of web wait' pends web 2
is "$(pids_of first)" '' 'containers of first'
muster service rm first >/dev/null

note 'a global service follows the label'
muster service create --name everywhere --network host --mode global --detach \
  --constraint node.labels.disk==ssd "$image" "${forever[@]}" >/dev/null
is "$(pids_of everywhere)" '' 'containers of everywhere'
muster node update --label-add disk=ssd self >/dev/null
await 20 'everywhere runs' runs everywhere 1
await 20 'web runs' runs web 2

note 'paused: what runs stays, nothing is added'
before=$(pids_of web)
muster node update --availability pause self >/dev/null
muster service scale --detach web=3 >/dev/null
await 10 'the third one waits' pends web 1
is "$(pids_of web)" "$before" 'containers of web'
explains web 'node is paused (as it is since' || die 'the paused node in explain'
muster node update --availability active self >/dev/null
await 20 'three run' runs web 3

note 'drained: everything leaves at once, and comes back without a restart delay'
muster service update --monitor 0s --restart-delay 60s web >/dev/null
muster node update --availability drain self >/dev/null
await 20 'all wait' pends web 3
await 20 'nothing runs' only web ''
errs web 'node was drained' || die 'why the tasks left'
explains web 'node is drained' || die 'the drained node in explain'
muster node update --availability active self >/dev/null
await 20 'three run, and did not wait' runs web 3
await 20 'everywhere runs' runs everywhere 1

note 'musterd is killed in the middle of a drain'
muster service create --name slow --network host --replicas 2 --stop-grace-period 3s "$image" \
  sh -c 'trap "" TERM; while :; do sleep 1; done' >/dev/null
old=$(pids_of slow)
muster node update --availability drain self >/dev/null
kill_daemon
start_daemon "${flags[@]}"
await 30 'the tasks of slow wait' pends slow 2
for pid in $old; do await 20 "container $pid has ended" test ! -d "/proc/$pid"; done
errs slow 'node was drained' || die 'why the tasks left'
muster node update --availability active self >/dev/null
await 20 'slow runs' runs slow 2
is "$(pids_of slow | wc -l)" 2 'containers of slow'
muster service rm slow everywhere web >/dev/null

note 'generic resources: reserved, given, and short'
fails 'invalid generic-resource request `GPU=0`' muster service create --generic-resource GPU=0 "$image"
muster service create --name train --network host --replicas 2 --restart-delay 100ms \
  --generic-resource GPU=1 --generic-resource SSD=1 "$image" "${forever[@]}" >/dev/null
is "$(env_of train DOCKER_RESOURCE_GPU | xargs)" 'u1 u2' 'names of the GPUs'
is "$(env_of train DOCKER_RESOURCE_SSD | xargs)" '1 1' 'amounts of SSDs'
explains train 'was given GPU u1' || die 'what the task was given'
muster service scale --detach train=3 >/dev/null
await 10 'the third waits' pends train 1
await 10 'what is short' errs train 'insufficient generic resource GPU on 1 node'
explains train 'GPU: 1 asked, 0 free' || die 'what is short in explain'
muster service scale --detach train=2 >/dev/null

note 'a node that comes to offer less keeps what fits'
kept=$(for pid in $(pids_of train); do
  if grep -qz '^DOCKER_RESOURCE_GPU=u1$' "/proc/$pid/environ"; then echo "$pid"; fi
done)
kill_daemon
start_daemon --label rack=r1 --node-generic-resource GPU=u1 --node-generic-resource SSD=3
await 30 'one waits' pends train 1
errs train 'node no longer offers GPU u2' || die 'why the task left'
await 20 'the other container has ended' only train "$kept"
muster service rm train >/dev/null

finish
