#!/usr/bin/env bash
# Certificates of others than nodes, and those that end while nobody is there to renew them; keys of
# a manager that is cut off while it joins a locked swarm.
source tests/integration/cluster_lib.sh "$@"
for n in 1 2 3 4; do add_node "$n"; done
swarm_of manager worker

note 'an operator who is elsewhere'
# The host of this script is none of the nodes.
remote() {
  local n=$1
  shift
  MUSTER_HOST=tcp://$(address "$n"):2377 MUSTER_CERT_PATH=$BASE/alice "$BIN/muster" "$@"
}
m 2 client-cert create --days 1 --out "$BASE/alice" alice >/dev/null
is "$(openssl x509 -noout -subject -nameopt RFC2253 -in "$BASE/alice/cert.pem" | grep -o 'OU=[^,]*')" OU=swarm-client 'the role'
is "$(stat -c %a "$BASE/alice/key.pem")" 600 'the mode of the key'
openssl x509 -noout -checkend 90000 -in "$BASE/alice/cert.pem" >/dev/null && die 'it lasts longer than a day'
is "$(remote 1 node ls -q | wc -l)" 3 'nodes, from elsewhere'
# By the leader, and by one that passes it on.
for n in 1 2; do
  remote "$n" config create "by$n" - <<<x >/dev/null
  has "$(m 1 config ls --format '{{.Name}}')" "by$n" "what was written from elsewhere through node $n"
done
is "$(remote 2 info --format '{{.Swarm.NodeID}}')" "$(m 2 info --format '{{.Swarm.NodeID}}')" 'who answers'
fails 'not open to client alice' remote 2 client-cert create --out "$BASE/bob" bob
fails 'not open to client alice' remote 1 swarm backup --passphrase-file /etc/hostname "$BASE/backup"
fails 'is for users on the host itself' remote 1 swarm leave --force
fails 'already' m 1 client-cert create --out "$BASE/alice" alice
fails 'from a minute to 365 days' m 1 client-cert create --days 366 --out "$BASE/carol" carol
fails 'invalid name' m 1 client-cert create --out "$BASE/eve" 'eve,OU=swarm-manager'
# A worker has no port there, and its certificate is no operator's.
(
  worker=$(data 3)/certificates/current
  fails 'not open to node' "$BIN/muster" --host "tcp://$(address 1):2377" --tlscacert "$worker/root.crt" \
    --tlscert "$worker/node.crt" --tlskey "$worker/node.key" node ls
)
timeout 60 "$BIN/muster" --socket "unix://$RUN/1/muster.sock" swarm ca --rotate >/dev/null
fails 'Cannot connect' remote 1 node ls

note 'cut off while it joins a locked swarm'
plain_keys() { grep -rlE 'BEGIN (EC )?PRIVATE KEY|^lock no' "$(data "$1")"/{certificates,raft} 2>/dev/null || true; }
# What the search is to find: both kinds of keys, while nothing is locked.
for kind in certificates raft; do has "$(plain_keys 1)" "/$kind/" 'a key on disk as it is'; done
m 1 swarm update --autolock=true >/dev/null
unlocked() { [[ -n $(plain_keys "$1") ]]; }
await 15 'a manager has wrapped its keys' eval '! unlocked 1'
state() { m 4 info --format '{{.Swarm.LocalNodeState}}'; }
# Nobody is at that address: the leader dials it for a while before it says no.
manager_token=$(token 1 manager)
m 4 swarm join --token "$manager_token" --advertise-addr "$NET.99" "$(address 1):2377" >/dev/null 2>&1 &
joining=$!
await 10 'it has a certificate' test -s "$(data 4)/certificates/current/node.key"
is "$(plain_keys 4)" '' 'keys on disk as they are, under way'
kill_musterd 4
wait "$joining" || true
is "$(plain_keys 4)" '' 'keys on disk as they are, after it was killed'
start_musterd 4
is "$(state)" locked 'what it is then'
m 4 swarm leave --force >/dev/null
join 4 1 manager >/dev/null
is "$(state)" active 'after another join'
is "$(plain_keys 4)" '' 'keys on disk as they are, as a manager'
await 15 'it takes part' node_is 1 4 ManagerStatus Reachable

note 'a promoted worker'
has "$(plain_keys 3)" /certificates/ 'the key of a worker'
m 1 node promote node3 >/dev/null
await 20 'it takes part' node_is 1 3 ManagerStatus Reachable
is "$(plain_keys 3)" '' 'keys on its disk as they are'
m 1 swarm update --autolock=false >/dev/null

note 'certificates that ended while every manager was away'
export STEPPED_CLOCK_FILE=$BASE/clock
echo 0 >"$STEPPED_CLOCK_FILE"
late_musterd() { LD_PRELOAD=$BIN/stepped_clock.so start_musterd "$1"; }
expiry() { openssl x509 -noout -enddate -in "$(data "$1")/certificates/current/node.crt"; }
# To one manager, and a worker, of a swarm of their own; then to three managers.
for n in 5 6; do LD_PRELOAD=$BIN/stepped_clock.so add_node "$n"; done
init 5 --cert-expiry 1h >/dev/null
join 6 5 worker >/dev/null
await 15 'the worker is ready' node_is 5 6 Status Ready
m 5 config create before - <<<x >/dev/null
for n in 5 6; do kill_musterd "$n"; done
echo 10800 >"$STEPPED_CLOCK_FILE"
for n in 5 6; do late_musterd "$n"; done
ended=$(expiry 6)
signs_again() { grep -q 'has signed itself another one' "$BASE/$1/musterd.log"; }
await 15 'the manager helps itself' signs_again 5
await 15 'and takes part' node_is 5 5 Status Ready
has "$(m 5 config ls --format '{{.Name}}')" before 'what was there before'
m 5 config create after - <<<x >/dev/null
# A worker has no root to sign with: it joins anew.
has "$(m 6 info)" 'expired' 'what the worker says'
is "$(expiry 6)" "$ended" 'the certificate of the worker'

note 'and of three managers'
for n in 7 8; do LD_PRELOAD=$BIN/stepped_clock.so add_node "$n"; join "$n" 5 manager >/dev/null; done
for n in 7 8; do await 15 "node $n takes part" node_is 5 "$n" ManagerStatus Reachable; done
copies() { compgen -G "$(data "$1")/raft/snapshot-*" >/dev/null; }
takes_part() { [[ $(node_field 5 "$1" ManagerStatus) =~ ^(Leader|Reachable)$ ]]; }
for n in 5 7 8; do await 15 "node $n has a copy of the state" copies "$n"; done
for n in 5 7 8; do kill_musterd "$n"; done
echo 21600 >"$STEPPED_CLOCK_FILE"
for n in 5 7 8; do late_musterd "$n"; done
for n in 7 8; do await 15 "node $n helps itself" signs_again "$n"; done
await 20 'they have a leader' has_leader 5
for n in 7 8; do await 20 "node $n takes part" takes_part "$n"; done
m 7 config create last - <<<x >/dev/null

note 'one that was removed, longer ago than that is remembered'
kill_musterd 8
await 20 'the others have a leader' has_leader 5
m 5 node demote node8 >/dev/null
await 20 'it is out of the group, and removed' m 5 node rm --force node8
for n in 5 7; do kill_musterd "$n"; done
echo 32400 >"$STEPPED_CLOCK_FILE"
for n in 5 7; do late_musterd "$n"; done
await 20 'they have a leader' has_leader 5
# With the next removal those are forgotten whose certificates have ended.
m 5 node rm --force node6 >/dev/null
ended=$(expiry 8)
late_musterd 8
signs_again_since() { [[ $(expiry 8) != "$ended" ]] && cp -rL "$(data 8)/certificates/current" "$BASE/removed"; }
await 15 'it helps itself' signs_again_since
says_removed() { m 8 info | grep -q 'removed from the swarm'; }
await 20 'it hears that it was removed' says_removed
hasnt "$(m 5 node ls)" node8 'nodes'
for n in 5 7; do
  fails 'knows no node' env LD_PRELOAD="$BIN/stepped_clock.so" "$BIN/muster" --host "tcp://$(address "$n"):2377" \
    --tlscacert "$BASE/removed/root.crt" --tlscert "$BASE/removed/node.crt" --tlskey "$BASE/removed/node.key" node ls
done
finish
