#!/usr/bin/env bash
# Workers become managers and managers workers, and no container notices.
source tests/integration/cluster_lib.sh "$@"
start_registry
push_images busybox
for n in 1 2 3; do add_node "$n"; done
swarm_of worker worker
m 1 service create --detach --name web --mode global --network host "$REGISTRY/busybox:1" \
  sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
await 60 'three of three' runs 1 web 3
pids() { for n in 1 2 3; do pids_on "$n" web; done; }
before=$(pids)

note 'the last manager stays one'
fails 'attempting to demote the last manager of the swarm' m 1 node demote node1
has "$(m 1 node demote node2)" 'already a worker' 'a worker demoted'

note 'two workers become managers'
has "$(m 1 node promote node2 node3)" 'promoted to a manager in the swarm' 'promoted'
for n in 2 3; do
  await 20 "node $n manages" node_is 1 "$n" ManagerStatus Reachable
  await 10 "node $n answers as a manager" m "$n" node ls
done
m 2 node update --label-add from=two node3 >/dev/null
is "$(m 3 node inspect -f '{{.Spec.Labels.from}}' node3)" two 'a change by the new managers'

note 'they hold the state: the first one may go'
kill_musterd 1
await 10 'a leader among the new ones' has_leader 2
m 3 node update --label-add without=one node2 >/dev/null
start_musterd 1
await 20 'node 1 is back' node_is 2 1 Status Ready

note 'a manager becomes a worker: its log goes, its containers stay'
lost=$(leader 1)
one=$([[ $lost == 2 ]] && echo 3 || echo 2)
m "$one" node demote "node$lost" >/dev/null
says_so() { { m "$lost" node ls 2>&1 || true; } | tee -a "$BASE/said" | grep -q 'not a swarm manager'; }
await 20 'it says so' says_so
hasnt "$(cat "$BASE/said")" 'cannot take part' 'what it says meanwhile'
await 20 'it is no manager any more' node_is "$one" "$lost" ManagerStatus ''
await 20 'it is ready as a worker' node_is "$one" "$lost" Status Ready
await 10 'its log is gone' test ! -e "$(data "$lost")/raft"
is "$(pids)" "$before" 'the containers after all that'

note 'and a manager again, killed while it becomes one'
for round in 1 2 3; do
  m "$one" node promote "node$lost" >/dev/null
  sleep "0.$((round * 3))"  # no event to wait for: any moment is to be right
  kill_musterd "$lost"
  start_musterd "$lost"
  await 30 "node $lost manages" node_is "$one" "$lost" ManagerStatus Reachable
  m "$one" node demote "node$lost" >/dev/null
  sleep "0.$((round * 3))"
  kill_musterd "$lost"
  start_musterd "$lost"
  await 30 'it is no manager any more' node_is "$one" "$lost" ManagerStatus ''
done
await 20 'it is ready as a worker' node_is "$one" "$lost" Status Ready
is "$(pids)" "$before" 'the containers after all that'

note 'a manager whose log is lost comes back as a new member'
m "$one" node promote "node$lost" >/dev/null
await 20 "node $lost manages" node_is "$one" "$lost" ManagerStatus Reachable
other=$([[ $one == 2 ]] && echo 3 || echo 2)
[[ $other != "$lost" ]] || other=1
kill_musterd "$other"
rm -rf "$(data "$other")/raft"
start_musterd "$other"
grep -q 'the log of this manager is gone' "$BASE/$other/musterd.log" || die 'its own log does not say so'
manages_again() { [[ $(node_field "$one" "$other" ManagerStatus) =~ Reachable|Leader ]]; }
await 40 'it manages again' manages_again
is "$(m "$one" info --format '{{.Swarm.Managers}}')" 3 'and there are as many as before'
m "$one" node demote "node$lost" >/dev/null
await 20 'it is no manager any more' node_is "$one" "$lost" ManagerStatus ''
is "$(pids)" "$before" 'the containers after all that'

note 'one whose log is damaged sets it aside'
m "$one" node promote "node$lost" >/dev/null
await 20 "node $lost manages" node_is "$one" "$lost" ManagerStatus Reachable
kill_musterd "$lost"
for file in "$(data "$lost")"/raft/log/*.log; do truncate -s 100 "$file"; done
start_musterd "$lost"
await 40 'it manages again' node_is "$one" "$lost" ManagerStatus Reachable
is "$(ls -d "$(data "$lost")"/raft.damaged-* | wc -l)" 1 'the damaged log'
is "$(pids)" "$before" 'the containers after all that'
m "$one" node demote "node$lost" >/dev/null
await 20 'it is no manager any more' node_is "$one" "$lost" ManagerStatus ''

note 'one that was taken out and is wanted again, both while it was away, comes back as a new member'
m "$one" node promote "node$lost" >/dev/null
await 20 "node $lost manages" node_is "$one" "$lost" ManagerStatus Reachable
kill_musterd "$lost"
await 10 'a leader without it' has_leader "$one"
m "$one" node demote "node$lost" >/dev/null
await 20 'it is no manager any more' node_is "$one" "$lost" ManagerStatus ''
m "$one" node promote "node$lost" >/dev/null
start_musterd "$lost"
await 30 'it manages again' node_is "$one" "$lost" ManagerStatus Reachable
await 10 'and answers as a manager' m "$lost" node ls
is "$(m "$one" info --format '{{.Swarm.Managers}}')" 3 'managers'
is "$(pids)" "$before" 'the containers after all that'
m "$one" node demote "node$lost" >/dev/null
await 20 'it is no manager any more' node_is "$one" "$lost" ManagerStatus ''

note 'the same, where somebody leads whom it has never heard of'
add_node 4
join 4 "$one" worker >/dev/null
await 15 'node 4 is ready' node_is "$one" 4 Status Ready
m "$one" node promote "node$lost" >/dev/null
await 20 "node $lost manages" node_is "$one" "$lost" ManagerStatus Reachable
kill_musterd "$lost"
await 10 'a leader without it' has_leader "$one"
m "$one" node demote "node$lost" >/dev/null
await 20 'it is no manager any more' node_is "$one" "$lost" ManagerStatus ''
m "$one" node promote node4 >/dev/null
await 20 'node 4 manages' node_is "$one" 4 ManagerStatus Reachable
make_it_lead() {
  local round leads_now
  for round in {1..20}; do
    leads_now=$(leader 4)
    [[ $leads_now != 4 ]] || break
    # Killed, not stopped: an orderly stop hands over to the same one each time, maybe never to node 4.
    kill_musterd "$leads_now"
    await 10 'another leader' has_leader 4
    start_musterd "$leads_now"
    await 20 "node $leads_now is back" node_is 4 "$leads_now" Status Ready
  done
}
make_it_lead
m 4 node promote "node$lost" >/dev/null
start_musterd "$lost"
await 40 'it manages again' node_is 4 "$lost" ManagerStatus Reachable
make_it_lead # where it lost that meanwhile
is "$(leader 4)" 4 'the leader'
is "$(pids)" "$before" 'the containers after all that'
for n in 4 "$lost"; do
  m "$one" node demote "node$n" >/dev/null
  await 20 "node $n is no manager any more" node_is "$one" "$n" ManagerStatus ''
done

note 'removing nodes'
fails 'is not down' m "$one" node rm "node$lost"
m "$one" node rm --force "node$lost" >/dev/null
await 20 'its containers end' bash -c "[[ -z \$($BIN/muster --socket unix://$RUN/$lost/muster.sock ps -q) ]]"
await 10 'it says what happened' bash -c "$BIN/muster --socket unix://$RUN/$lost/muster.sock info | grep -q 'removed from the swarm'"
kill_musterd "$lost"
start_musterd "$lost"
has "$(m "$lost" info)" 'removed from the swarm' 'after a restart, too'
m "$lost" swarm leave --force >/dev/null
join "$lost" "$one" worker >/dev/null
await 15 'it is a new node' node_is "$one" "$lost" Status Ready
has_container() { [[ -n $(pids_on "$lost" web) ]]; }
await 60 'with its container' has_container
kill_musterd "$lost"
m "$one" node rm --force "node$lost" >/dev/null
start_musterd "$lost"
await 20 'removed while it was away, it says so, too' bash -c "$BIN/muster --socket unix://$RUN/$lost/muster.sock info | grep -q 'removed from the swarm'"
await 20 'and its containers end' bash -c "[[ -z \$($BIN/muster --socket unix://$RUN/$lost/muster.sock ps -q) ]]"
finish
