#!/usr/bin/env bash
# Hosts become nodes of one swarm, as workers and as managers, and leave it; what is wrong is said.
source tests/integration/cluster_lib.sh "$@"
for n in 1 2 3 4; do add_node "$n"; done

note 'one manager'
has "$(init 1)" 'is now a manager' 'init'
fails 'This node is already part of a swarm' m 1 swarm init
await 10 'node 1 is ready' node_is 1 1 Status Ready

note 'what does not let a host in, and leaves it outside'
good=$(token 1 worker)
fails 'invalid join token' m 4 swarm join --token SWMTKN-1-short "$(address 1):2377"
fails 'invalid join token' m 4 swarm join --token "${good%?}" "$(address 1):2377"
last=${good: -1}
other=$([[ $last == 0 ]] && echo 1 || echo 0)
fails 'token' m 4 swarm join --token "${good%?}$other" "$(address 1):2377"
fails "$(address 3):2377" m 4 swarm join --token "$good" "$(address 3):2377"
fails 'already part of a swarm' m 1 swarm join --token "$good" "$(address 1):2377"
init 3 >/dev/null
fails 'does not match' m 4 swarm join --token "$(token 3 worker)" "$(address 1):2377"
m 3 swarm leave --force >/dev/null
has "$(m 4 info --format '{{.Swarm.LocalNodeState}}')" inactive 'after all that'
m 1 swarm join-token --rotate -q worker >/dev/null
fails 'token' m 4 swarm join --token "$good" "$(address 1):2377"

fails 'address' m 4 swarm join --token "$(token 1 manager)" --advertise-addr "$NET.99" "$(address 1):2377"
has "$(m 4 info --format '{{.Swarm.LocalNodeState}}')" inactive 'after an address that nobody reaches'
is "$(m 1 info --format '{{.Swarm.Managers}}')" 1 'and the group is what it was'
hasnt "$(m 1 node ls)" node4 'a node that did not come in'

note 'a worker, two more managers'
has "$(join 4 1 worker)" 'This node joined a swarm as a worker.' 'a worker joins'
has "$(join 2 1 manager)" 'This node joined a swarm as a manager.' 'a manager joins'
has "$(join 3 2 manager)" 'This node joined a swarm as a manager.' 'a manager joins by another one'
fails 'already part of a swarm' join 4 1 worker
for n in 1 2 3 4; do await 10 "node $n is ready" node_is 1 "$n" Status Ready; done
for n in 1 2 3; do
  is "$(m "$n" info --format '{{.Swarm.Managers}} {{.Swarm.Nodes}} {{.Swarm.ControlAvailable}}')" \
    '3 4 true' "info on manager $n"
done
is "$(m 4 info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}')" 'active false' \
  'info on the worker'
is "$(m 2 node ls --format '{{.ManagerStatus}}' | sort | tr '\n' ' ')" ' Leader Reachable Reachable ' \
  'who manages, seen from a follower'
fails 'This node is not a swarm manager' m 4 node ls

note 'a follower takes changes, and shows them at once'
m 2 node update --label-add zone=a node4 >/dev/null
is "$(m 2 node inspect -f '{{.Spec.Labels.zone}}' node4)" a 'read your writes on a follower'
is "$(m 3 node inspect -f '{{.Spec.Labels.zone}}' node4)" a 'on the other one'

note 'a client elsewhere, with a certificate of the swarm'
certificates=$(data 2)/certificates/current
remote() {
  "$BIN/muster" --host "tcp://$(address 1)" --tlscacert "$certificates/root.crt" \
    --tlscert "${1:-$certificates}/node.crt" --tlskey "${1:-$certificates}/node.key" "${@:2}"
}
is "$(remote '' node ls -q | wc -l)" 4 'node ls from outside'
fails 'not open' remote "$(data 4)/certificates/current" node ls

note 'restarts: everybody is what it was'
for n in 4 2 1; do
  kill_musterd "$n"
  start_musterd "$n"
done
for n in 1 2 3 4; do await 20 "node $n is ready" node_is 3 "$n" Status Ready; done
await 10 'a leader' has_leader 2

note 'a worker leaves, is down, and is removed'
m 4 swarm leave >/dev/null
is "$(m 4 info --format '{{.Swarm.LocalNodeState}}')" inactive 'the worker left'
await 10 'it is down' node_is 1 4 Status Down
m 1 node rm node4 >/dev/null
hasnt "$(m 2 node ls)" node4 'a node that was removed'

note 'a manager leaves only by force, and then in good order'
fails 'participating as a manager' m 3 swarm leave
managers_are() { [[ $(m 1 info --format '{{.Swarm.Managers}}') == "$1" ]]; }
for round in 1 2 3; do
  m 3 swarm leave --force >/dev/null
  await 15 'it is down at once, not only when it has been silent' node_is 1 3 Status Down
  await 10 'two managers are left' managers_are 2
  await 10 'and there is a leader' has_leader 1
  await 10 'its entry can go' m 1 node rm node3
  ((round == 3)) || join 3 1 manager >/dev/null
done
finish
