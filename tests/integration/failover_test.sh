#!/usr/bin/env bash
# Managers die, stop and come back: nothing acknowledged is lost, containers go on, and without a
# majority every command says so soon.
source tests/integration/cluster_lib.sh "$@"
start_registry
push_images busybox
for n in 1 2 3 4; do add_node "$n"; done
swarm_of manager manager worker
m 1 service create --detach --name web --mode global --network host "$REGISTRY/busybox:1" \
  sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
await 60 'four of four' runs 2 web 4
before=$(for n in 1 2 3 4; do pids_on "$n" web; done)

# write_soon VIA KEY: a change is accepted within three seconds
write_soon() { timeout 3 "$BIN/muster" --socket "unix://$RUN/$1/muster.sock" node update --label-add "$2=yes" node4 >/dev/null; }
others() { local n; for n in 1 2 3; do [[ $n == "$1" ]] || echo "$n"; done; }

note 'the leader is killed, five times'
late=0
for round in 1 2 3 4 5; do
  lost=$(leader "$(others 9 | head -1)")
  mapfile -t left < <(others "$lost")
  one=${left[0]} two=${left[1]}
  m "$lost" node update --label-add "before$round=yes" node4 >/dev/null
  kill_musterd "$lost"
  begun=$(date +%s%N)
  if ! write_soon "$one" "round$round"; then
    # A machine without processor time is late once.
    ((++late < 2)) || die "again no write within 3 s of the leader's end, round $round"
    await 20 'a late write' write_soon "$one" "round$round"
  fi
  note "   the next write after $((($(date +%s%N) - begun) / 1000000)) ms"
  has "$(m "$two" node inspect -f '{{json .Spec.Labels}}' node4)" "before$round" 'what the lost leader took'
  start_musterd "$lost"
  await 20 "node $lost is back" node_is "$one" "$lost" Status Ready
done
is "$(for n in 1 2 3 4; do pids_on "$n" web; done)" "$before" 'the containers after all that'

note 'an orderly stop hands over first'
lost=$(leader 1)
one=$(others "$lost" | head -1)
kill "${PID[$lost]}"
handed_over() { local now; now=$(leader "$one"); [[ -n $now && $now != "$lost" ]]; }
await 10 'another leader' handed_over
wait "${PID[$lost]}"
await 10 'a write after an orderly stop' write_soon "$one" stopped
start_musterd "$lost"

note 'all of them at once'
for n in 1 2 3 4; do kill_musterd "$n"; done
for n in 1 2 3 4; do start_musterd "$n"; done
await 20 'a leader' has_leader 1
for round in 1 2 3 4 5; do
  has "$(m 1 node inspect -f '{{json .Spec.Labels}}' node4)" "round$round" 'what was acknowledged'
done
for n in 1 2 3 4; do await 20 "node $n is ready" node_is 1 "$n" Status Ready; done
is "$(for n in 1 2 3 4; do pids_on "$n" web; done)" "$before" 'the containers after all restarted'

note 'without a majority'
kill_musterd 2
kill_musterd 3
leaderless() { [[ $(m 1 info --format 'leader={{.Swarm.LeaderNodeID}}') == leader= ]]; }
await 10 'the last manager knows that nobody leads' leaderless
for command in 'node ls' 'service ls' 'service scale --detach web=2' 'node update --label-add x=y node4' \
  'swarm join-token worker' info; do
  within 8 "$command" m 1 $command
done
fails 'does not have a leader' m 1 service ls
fails '1 of 3 managers can be reached, itself included; 2 are missing' m 1 node update --label-add x=y node4
is "$(pids_on 4 web | wc -l)" 1 'the worker goes on'
alone() { m 4 info | grep -q 'Error: No manager serves this node, its containers keep running; '; }
await 25 'the worker says what it misses' alone

note 'and with one again'
start_musterd 2
await 10 'a write with a majority' write_soon 1 again
start_musterd 3
for n in 1 2 3 4; do await 20 "node $n is ready" node_is 1 "$n" Status Ready; done
served() { ! alone; }
await 10 'and that it does no longer' served

note 'at the very moment it is lost'
# asked LEADER|FOLLOWER WHAT...: the two other managers stop answering, and this one is asked at once.
asked() {
  local who=$1 led one others=()
  shift
  led=$(leader 1)
  for n in 1 2 3; do ((n == led)) || others+=("$n"); done
  one=$led
  [[ $who == LEADER ]] || { one=${others[0]}; others[0]=$led; }
  kill -STOP "${PID[${others[0]}]}" "${PID[${others[1]}]}"
  within 8 "$*, asked of the $who" m "$one" "$@"
  kill -CONT "${PID[${others[0]}]}" "${PID[${others[1]}]}"
  await 20 'a leader again' has_leader 1
}
asked FOLLOWER node ls
asked FOLLOWER node inspect self
asked FOLLOWER config create late /etc/hostname
asked LEADER config create later /etc/hostname
finish
