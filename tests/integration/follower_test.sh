#!/usr/bin/env bash
# Everything a user does works on a manager that does not lead, and with a client elsewhere.
source tests/integration/cluster_lib.sh "$@"
start_registry
push_images busybox
for n in 1 2 3; do add_node "$n"; done
swarm_of manager manager
image=$REGISTRY/busybox:1
lead=$(leader 1)
f=$([[ $lead == 2 ]] && echo 3 || echo 2)
"$BIN/muster" --socket "unix://$RUN/$f/muster.sock" events >"$BASE/events" 2>/dev/null &
events=$!
# The stream begins when it is there; nothing tells but what it brings.
events_arrive() { m "$f" node update --label-add "seen=$RANDOM" node1 && [[ -s $BASE/events ]]; }
await 10 'events arrive' events_arrive

note 'services, with waiting, payloads and logs, on a follower'
printf 'hidden' | m "$f" secret create pass - >/dev/null
printf 'shown' | m "$f" config create conf - >/dev/null
has "$(m "$f" service create --name web --replicas 3 --network host --secret pass --config conf \
  --monitor 0s "$image" sh -c 'echo started; cat /run/secrets/pass /conf; trap "exit 0" TERM; sleep 86400 & wait')" \
  converged 'create waits until it runs'
is "$(m "$f" service ls --format '{{.Name}} {{.Replicas}}')" 'web 3/3' 'its list at once'
has "$(m "$f" service scale --monitor 0s web=4)" converged 'scale waits, too'
is "$(m "$f" service ps -q web --filter desired-state=running | wc -l)" 4 'its tasks'
await 10 'the lines of all nodes' bash -c \
  "[[ \$($BIN/muster --socket unix://$RUN/$f/muster.sock service logs web 2>/dev/null | grep -c started) == 4 ]]"
has "$(m "$f" service explain web)" node1 'explain'
has "$(m "$f" config inspect conf)" conf 'a config'
m "$f" service update --monitor 0s --env-add A=b web >/dev/null
m "$f" node update --availability drain node1 >/dev/null
drained() { [[ -z $(pids_on 1 web) ]]; }
await 30 "nothing on the drained node" drained
m "$f" node update --availability active node1 >/dev/null
cat >"$BASE/compose.yml" <<COMPOSE
services:
  one:
    image: $image
    command: sleep 86400
    networks: [hostnet]
networks:
  hostnet: {external: true, name: host}
COMPOSE
m "$f" stack deploy --detach -c "$BASE/compose.yml" shop >/dev/null
await 30 'the stack runs' runs "$f" shop_one 1
m "$f" stack rm shop >/dev/null

note 'a command that waits while the leader dies'
m "$f" service create --detach --name late --network host --constraint node.labels.go==yes "$image" sleep 86400 >/dev/null
m "$f" service scale --monitor 0s late=1 >"$BASE/out" 2>&1 &
waiting=$!
await 10 'it waits' grep -q 'overall progress' "$BASE/out"
kill_musterd "$lead"
await 20 'the label is set' m "$f" node update --label-add go=yes "node$f"
wait "$waiting" || die "it ended with $?: $(<"$BASE/out")"
start_musterd "$lead"

note 'events of all that, on the follower'
kill "$events"
wait "$events" 2>/dev/null || true
for what in 'service create' 'secret create' 'node update' 'task'; do
  has "$(<"$BASE/events")" "$what" 'events'
done

note 'from elsewhere, through the port of a follower'
certificates=$(data "$f")/certificates/current
remote() {
  "$BIN/muster" --host "tcp://$(address "$f")" --tlscacert "$certificates/root.crt" \
    --tlscert "$certificates/node.crt" --tlskey "$certificates/node.key" "$@"
}
has "$(remote service scale --monitor 0s web=2)" converged 'scale from outside'
is "$(remote service ls --filter name=web --format '{{.Replicas}}')" 2/2 'and the list'
remote service rm web late >/dev/null
is "$(m 1 service ls -q)" '' 'nothing is left'
finish
