#!/usr/bin/env bash
# Disks fill, clocks step and managers come late while clients read and write: see faults_test.sh.
source "$(dirname "$0")/history_lib.sh"

note 'three managers and a worker, a service, ten clients'
lab_of 3 2
on manager1 swarm update --snapshot-interval 500 >/dev/null
# One of the workers is none yet: it comes late.
late=worker2
muster lab ssh "$late" muster swarm leave >/dev/null
NODES=(manager1 manager2 manager3 worker1)
gone() { on manager1 node rm "$late"; }
await 20 "$late is gone" gone

# Disks of their own, so that a full one is not full for all; and clocks of their own.
disk_mib=400
export STEPPED_CLOCK_FILE
for node in "${MANAGERS[@]}"; do
  muster lab stop "$node" >/dev/null
  data=$(home "$node")/data
  muster lab ssh "$node" sh -c "set -e
    mkdir '$NODE/disk-$node'
    mount -t tmpfs -o size=${disk_mib}m,mode=755 muster-test '$NODE/disk-$node'
    cp -a '$data/.' '$NODE/disk-$node'
    mount --move '$NODE/disk-$node' '$data'"
  STEPPED_CLOCK_FILE=$NODE/clock-$node
  echo 0 >"$STEPPED_CLOCK_FILE"
  LD_PRELOAD=$BIN/stepped_clock.so muster lab start "$node" >/dev/null
done
await 40 'all nodes are well' all_well
serve_everywhere
start_clients disks
writes_within 15 'the beginning'

note "the leader's disk is full"
find_leader
full=$LEADER
# Whoever else leads now is told the reason as long as the full one does. Full is a disk that refused
# a write: what is free afterwards is what musterd had set aside, and files that it needs no more.
refused=$(muster lab ssh "$full" sh -c \
  "LC_ALL=C cat /dev/zero 2>&1 >'$(home "$full")/data/filler'" || true)
[[ $refused == *'No space left on device'* ]] || die "the disk of $full was not filled: $refused"
writes_within 15 "a full disk of $full"
says_full() { grep -q 'disk of the log is full' "$(home "$full")/log"; }
await 10 'the log says that the disk is full' says_full
another_leads() { ! leader_is "$full" && [[ $(states | grep -c ' Leader$') == 1 ]]; }
await 20 'another one leads' another_leads
is "$(containers)" "$BEFORE" 'the containers beside a full disk'
linearizable 'a full disk'
muster lab ssh "$full" rm "$(home "$full")/data/filler"
has_room() { grep -q 'there is room on the disk again' "$(home "$full")/log"; }
await 20 'there is room again' has_room
after 'a full disk that has room again'

note 'the wall clock of a manager steps'
clock_of() { date -d "$(on "$1" config inspect --format '{{.CreatedAt}}' "$2")" +%s; }
step() { echo "$2" >"$NODE/clock-$1"; }
# keeps_leading leader|follower OFFSET: no step of a clock deposes the leader. One that had no processor
# time may be deposed all the same: not each time.
keeps_leading() {
  local attempt stepped name off
  for attempt in 1 2 3; do
    find_leader
    follower=$(printf '%s\n' "${MANAGERS[@]}" | grep -vx "$LEADER" | head -1)
    stepped=$LEADER
    [[ $1 == leader ]] || stepped=$follower
    step "$stepped" "$2"
    name=$1$2.$attempt
    on "$LEADER" config create "$name" - <<<x >/dev/null
    off=$(($(clock_of "$LEADER" "$name") - $(date +%s) - $2))
    writes_within 15 "a clock of the $1, $stepped, that is $2 s off"
    after "a clock of the $1 that is $2 s off"
    if leader_is "$LEADER"; then
      [[ $1 == follower ]] || ((off >= -60 && off <= 60)) ||
        die "the clock of $LEADER is $off s beside what it should say"
      return 0
    fi
    step "$stepped" 0
  done
  die "$LEADER leads no more, because of the clock of a $1"
}
for offset in 3600 -3600 0; do keeps_leading leader $offset; done
for offset in 3600 -3600 0; do keeps_leading follower $offset; done

note 'a manager comes late, and gets a snapshot'
# Ten snapshots fit into what was written by then; 2,000 entries are kept behind the last one.
newest() { tail -n 500 "$HISTORY" | awk '$1 == "e" && $6 > max {max = $6} END {print max + 0}'; }
enough() { (($(newest) > 3200)); }
await 120 'more entries than are kept' enough
muster lab ssh "$late" muster swarm join --token "$(on manager1 swarm join-token -q manager)" \
  "$follower:2377" >/dev/null || die "$late cannot join"
got_snapshot() { grep -q 'loading the snapshot at entry [0-9]' "$(home "$late")/log"; }
await 30 'the late one says that it got a snapshot' got_snapshot
NODES+=("$late")
MANAGERS+=("$late")
await 60 'a task on the late one' everywhere "${#NODES[@]}"
BEFORE+=$'\n'$(containers | grep "^$late ")
after 'a late joiner'
finish_clients

note 'and clients of all four'
mv "$HISTORY" "$HISTORY.1"
start_clients four
find_leader
muster lab kill "$LEADER" >/dev/null
writes_within 15 "kill -9 of $LEADER"
muster lab start "$LEADER" >/dev/null
after 'kill -9 of one of four'
finish_history
