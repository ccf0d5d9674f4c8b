#!/usr/bin/env bash
# Processes and links fail while clients read and write: the cluster takes writes again soon, no
# container notices, and everything the clients were told is what one register could have said.
source "$(dirname "$0")/history_lib.sh"

note 'three managers and a worker, a service, ten clients'
lab_of 3 1
serve_everywhere
start_clients faults
writes_within 15 'the beginning'

note 'the leader is killed'
for round in 1 2 3; do
  find_leader
  muster lab kill "$LEADER" >/dev/null
  writes_within 15 "kill -9 of $LEADER"
  muster lab start "$LEADER" >/dev/null
  after "kill -9, round $round"
done

note 'the leader stands still'
for round in 1 2; do
  find_leader
  muster lab pause "$LEADER" >/dev/null
  writes_within 15 "SIGSTOP of $LEADER"
  muster lab resume "$LEADER" >/dev/null
  after "SIGSTOP and SIGCONT, round $round"
done

note 'the leader is cut off'
find_leader
muster lab partition "$LEADER"
writes_within 15 "a cut around $LEADER"
muster lab heal
after 'a cut'

note 'the leader hears nobody, and is heard'
find_leader
muster lab partition --one-way "$OTHERS" "$LEADER"
writes_within 15 "a cut towards $LEADER"
muster lab heal
after 'a cut towards the leader'

note 'the leader hears everybody, and is not heard'
find_leader
muster lab partition --one-way "$LEADER"
writes_within 15 "a cut from $LEADER"
muster lab heal
after 'a cut from the leader'

note 'all at once'
for node in "${NODES[@]}"; do muster lab kill "$node" >/dev/null; done
muster lab start >/dev/null
writes_within 10 'kill -9 of all'
after 'kill -9 of all'
stops=()
for node in "${NODES[@]}"; do
  muster lab stop "$node" >/dev/null &
  stops+=($!)
done
for stop in "${stops[@]}"; do wait "$stop" || die "a node was not stopped: $?"; done
muster lab start >/dev/null
writes_within 10 'a stop of all'
after 'a stop of all'

finish_history
