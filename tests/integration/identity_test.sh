#!/usr/bin/env bash
# Two hosts with one identity, since a data directory was copied: the copy is refused, soon and in
# words, and the original goes on as if there were none.
source tests/integration/cluster_lib.sh "$@"
start_registry
push_images busybox
for n in 1 2 3 4 5 6; do add_node "$n"; done
swarm_of manager manager worker
m 1 service create --detach --name web --mode global --network host "$REGISTRY/busybox:1" \
  sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
await 60 'four of four' runs 1 web 4
pids() { for n in 1 2 3 4; do pids_on "$n" web; done; }
before=$(pids)

# copy_state FROM TO: what makes FROM the node it is; the hosts share control groups here, so that
# what names the installation in them stays TO's.
copy_state() {
  local own
  own=$(grep -o '"instance_id":"[^"]*"' "$(data "$2")/node.json")
  cp -a "$(data "$1")/certificates" "$(data "$2")/"
  [[ ! -e $(data "$1")/raft ]] || cp -a "$(data "$1")/raft" "$(data "$2")/"
  sed "s/\"instance_id\":\"[^\"]*\"/$own/" "$(data "$1")/node.json" >"$(data "$2")/node.json"
}
says() { m "$1" info 2>&1 | grep -q "$2"; }
message() { m 1 node inspect -f '{{.Status.Message}}' "$(m "$1" info --format '{{.Swarm.NodeID}}')"; }
message_has() { message "$1" | grep -qF "$2"; }

note 'a manager'
follower=$([[ $(leader 1) == 3 ]] && echo 2 || echo 3)
kill_musterd 5
kill_musterd "$follower"
copy_state "$follower" 5
start_musterd "$follower"
await 20 'the original is back' node_is 1 "$follower" Status Ready
await 20 'and a manager' node_is 1 "$follower" ManagerStatus Reachable
start_musterd 5
await 15 'the copy says so in info' says 5 'Another host takes part in the swarm as this node'
has "$(m 5 info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}')" 'error false' 'its state'
fails 'Another host takes part in the swarm as this node' m 5 node ls
fails 'Another host takes part in the swarm as this node' m 5 swarm init --force-new-cluster
grep -q 'Another host takes part' "$BASE/5/musterd.log" || die 'the log of the copy does not say it'
await 15 "the node's status says it" message_has "$follower" "node5 at $(address 5) is refused"
grep -q "node5 at $(address 5) is refused" "$BASE"/[123]/musterd.log || die "no manager's log says it"
is "$(node_field 1 "$follower" Hostname)" "node$follower" 'the host that the node is'
is "$(m 1 info --format '{{.Swarm.Managers}}')" 3 'managers'
m "$follower" node update --label-add from=original node4 >/dev/null
has "$(m 1 node inspect -f '{{json .Spec.Labels}}' node4)" original 'a change by the original'
is "$(pids)" "$before" 'the containers after that'
hasnt "$(m "$follower" info 2>&1)" 'Another host' 'the original'

note 'the copy leaves, and the original does not notice'
m 5 swarm leave --force >/dev/null
is "$(m 5 info --format '{{.Swarm.LocalNodeState}}')" inactive 'the copy left'
is "$(m 1 info --format '{{.Swarm.Managers}}')" 3 'managers'
await 15 'the original is ready' node_is 1 "$follower" Status Ready
is "$(pids)" "$before" 'the containers after that'

note 'a copy that is there first gives way'
kill_musterd 5
kill_musterd "$follower"
copy_state "$follower" 5
start_musterd 5
await 60 'the swarm knows the copy' node_is 1 5 Status Ready
start_musterd "$follower"
await 20 'the original is the node' node_is 1 "$follower" Status Ready
await 20 'and the manager' node_is 1 "$follower" ManagerStatus Reachable
await 10 'the copy says so' says 5 'Another host takes part in the swarm as this node'
fails 'Another host takes part' m 5 node ls
m 5 swarm leave --force >/dev/null
is "$(m 1 info --format '{{.Swarm.Managers}}')" 3 'managers'

note 'both at once'
kill_musterd 5
kill_musterd "$follower"
copy_state "$follower" 5
start_musterd 5
start_musterd "$follower"
await 20 'the original is the node' node_is 1 "$follower" Status Ready
await 20 'and the manager' node_is 1 "$follower" ManagerStatus Reachable
await 20 'the copy says so' says 5 'Another host takes part in the swarm as this node'
fails 'Another host takes part' m 5 node ls
await 15 'the original is ready' node_is 1 "$follower" Status Ready
m 5 swarm leave --force >/dev/null
is "$(m 1 info --format '{{.Swarm.Managers}}')" 3 'managers'

note 'a worker'
await 60 'four of four' runs 1 web 4
before=$(pids)
kill_musterd 4
kill_musterd 6
copy_state 4 6
start_musterd 4
await 20 'the original is back' node_is 1 4 Status Ready
start_musterd 6
await 10 'the copy says so in info' says 6 'Another host takes part in the swarm as this node'
await 10 "the node's status says it" message_has 4 "node6 at $(address 6) is refused"
is "$(node_field 1 4 Hostname)" node4 'the host that the node is'
is "$(m 6 ps -q)" '' 'containers of the copy'
is "$(pids)" "$before" 'the containers after that'
m 6 swarm leave >/dev/null
await 15 'the original is ready' node_is 1 4 Status Ready
finish
