#!/usr/bin/env bash
# The managers' keys on disk are wrapped: a restarted manager waits for the unlock key, and its
# containers wait for nobody.
source tests/integration/cluster_lib.sh "$@"
start_registry
push_images busybox
for n in 1 2 3; do add_node "$n"; done

# Files in which a key lies on the disk as it is.
plain_keys() {
  grep -rlE 'BEGIN (EC )?PRIVATE KEY' "$(data "$1")/certificates" || true
  grep -l '^lock no' "$(data "$1")/raft/log.key" || true
}
state() { m "$1" info --format '{{.Swarm.LocalNodeState}}'; }
is_state() { [[ $(state "$1") == "$2" ]]; }
rewrapped() { grep -c 'the keys on disk are' "$BASE/$1/musterd.log" || true; }
more_than() { (($(rewrapped "$1") > $2)); }
unlock() { m "$1" swarm unlock <<<"$2"; }

note 'locked from the beginning'
key=$(init 1 --autolock | grep -o 'SWMKEY-1-[^ ]*')
is "$(m 1 swarm unlock-key -q)" "$key" 'the key'
is "$(plain_keys 1)" '' 'keys on disk as they are'
fails 'swarm is not locked' unlock 1 "$key"
join 2 1 manager >/dev/null
join 3 1 manager >/dev/null
for n in 1 2 3; do await 15 "node $n is ready" node_is 1 "$n" Status Ready; done
for n in 2 3; do is "$(plain_keys "$n")" '' "keys on the disk of node $n as they are"; done
m 1 service create --detach --name web --mode global --network host "$REGISTRY/busybox:1" \
  sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
await 60 'three of three' runs 1 web 3
before=$(for n in 1 2 3; do pids_on "$n" web; done)

note 'a restarted manager is locked'
kill_musterd 3
start_musterd 3
is "$(state 3)" locked 'after a restart'
has "$(m 3 info)" 'Swarm: locked' 'info'
fails 'needs to be unlocked' m 3 node ls
fails 'needs to be unlocked' m 3 service ls
is "$(pids_on 3 web | wc -l)" 1 'its container goes on'
fails 'invalid key' unlock 3 SWMKEY-1-nonsense
fails 'invalid key' unlock 3 "${key%???}abc"
is "$(state 3)" locked 'after wrong keys'
unlock 3 "$key"
await 10 'it is unlocked' is_state 3 active
await 20 'and takes part' node_is 1 3 ManagerStatus Reachable
await 20 'and is ready' node_is 1 3 Status Ready

note 'another key: the old one opens nothing any more'
told=$(rewrapped 3)
new=$(m 2 swarm unlock-key --rotate -q)
[[ $new != "$key" ]] || die 'the key did not change'
await 10 'node 3 has wrapped its keys anew' more_than 3 "$told"
kill_musterd 3
start_musterd 3
is "$(state 3)" locked 'after a restart'
fails 'invalid key' unlock 3 "$key"
unlock 3 "$new"
await 20 'it takes part' node_is 1 3 ManagerStatus Reachable
has "$(m 1 swarm join-token -q manager)" SWMTKN- 'the swarm works'

note 'all of them locked: none of them serves, any of them can be unlocked'
for n in 1 2 3; do kill_musterd "$n"; done
for n in 1 2 3; do start_musterd "$n"; done
for n in 1 2 3; do is "$(state "$n")" locked "node $n"; done
is "$(for n in 1 2 3; do pids_on "$n" web; done)" "$before" 'the containers'
for n in 1 2; do unlock "$n" "$new"; done
await 20 'two of three lead' has_leader 1
unlock 3 "$new"
await 20 'all take part' node_is 1 3 ManagerStatus Reachable

note 'no lock any more'
told=$(rewrapped 2)
m 1 swarm update --autolock=false >/dev/null
fails 'no unlock key is set' m 1 swarm unlock-key
await 10 'node 2 has unwrapped its keys' more_than 2 "$told"
kill_musterd 2
start_musterd 2
is "$(state 2)" active 'after a restart without a lock'
is "$(for n in 1 2 3; do pids_on "$n" web; done)" "$before" 'the containers after all that'
finish
