#!/usr/bin/env bash
# After the worst: a new cluster from one manager that is left, or from a backup.
source tests/integration/cluster_lib.sh "$@"
start_registry
push_images busybox
for n in 1 2 3 4; do add_node "$n"; done
swarm_of manager manager
printf 'the secret' | m 1 secret create token - >/dev/null
m 1 service create --detach --name web --replicas 2 --network host --constraint node.hostname==node1 \
  --secret token "$REGISTRY/busybox:1" sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
await 60 'two of two' runs 1 web 2
before=$(pids_on 1 web)
echo 'tell nobody' >"$BASE/pass"

note 'a backup, from a follower'
m 2 swarm backup --passphrase-file "$BASE/pass" "$BASE/swarm.backup" >/dev/null
is "$(stat -c %a "$BASE/swarm.backup")" 600 'its mode'
grep -q -e 'the secret' -e 'PRIVATE KEY' -e node.hostname "$BASE/swarm.backup" && die 'the backup can be read'
fails 'passphrase' m 2 swarm backup "$BASE/other.backup" </dev/null

note 'two of three managers are lost for good'
kill_musterd 2
kill_musterd 3
leaderless() { [[ $(m 1 info --format 'leader={{.Swarm.LeaderNodeID}}') == leader= ]]; }
await 10 'it knows that nobody leads' leaderless
fails 'does not have a leader' m 1 service ls
m 1 swarm init --force-new-cluster >/dev/null
is "$(m 1 info --format '{{.Swarm.Managers}}')" 1 'one manager'
is "$(pids_on 1 web)" "$before" 'the containers'
await 20 'it is ready' node_is 1 1 Status Ready
await 20 'two of two' runs 1 web 2
is "$(m 1 node ls --format '{{.Hostname}} {{.ManagerStatus}}' | sort | tr '\n' ' ')" 'node1 Leader node2  node3  ' \
  'the others are workers'
m 1 service update --detach --label-add after=force web >/dev/null
kill_musterd 1
start_musterd 1
await 10 'a leader after a restart' has_leader 1
is "$(m 1 service inspect -f '{{.Spec.Labels.after}}' web)" force 'what was written after it'

note 'the whole swarm is lost'
fails 'already part of a swarm' m 1 swarm restore --passphrase-file "$BASE/pass" "$BASE/swarm.backup"
m 1 swarm leave --force >/dev/null
echo wrong >"$BASE/wrong"
fails 'passphrase' m 4 swarm restore --passphrase-file "$BASE/wrong" "$BASE/swarm.backup"
head -c -100 "$BASE/swarm.backup" >"$BASE/cut.backup"
fails 'not whole' m 4 swarm restore --passphrase-file "$BASE/pass" "$BASE/cut.backup"
is "$(m 4 info --format '{{.Swarm.LocalNodeState}}')" inactive 'after what cannot be restored'
has "$(m 4 swarm restore --advertise-addr "$(address 4)" --passphrase-file "$BASE/pass" "$BASE/swarm.backup")" \
  'is now its only manager' 'restored'
await 15 'it is ready' node_is 4 4 Status Ready
m 4 service update --detach --constraint-rm node.hostname==node1 --constraint-add node.hostname==node4 web >/dev/null
moved() { runs 4 web 2 && [[ $(pids_on 4 web | wc -l) == 2 ]]; }
await 60 'two of two on the new node' moved
is "$(m 4 exec "$(m 4 ps -q | head -1)" cat /run/secrets/token)" 'the secret' 'the secret came back'
kill_musterd 4
start_musterd 4
await 10 'a leader after a restart' has_leader 4
join 1 4 manager >/dev/null
await 20 'a new manager' node_is 4 1 ManagerStatus Reachable
finish
