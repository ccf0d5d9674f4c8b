#!/usr/bin/env bash
# The root is replaced while a service runs; certificates follow; old tokens are worthless.
source tests/integration/cluster_lib.sh "$@"
start_registry
push_images busybox
for n in 1 2 3 4; do add_node "$n"; done
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
  -subj /CN=ours -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
  -keyout "$BASE/root.key" -out "$BASE/root.pem" 2>/dev/null

note 'a root of the own'
fails 'not a PEM private key' m 1 swarm init --advertise-addr "$(address 1)" --ca-cert "$BASE/root.pem" --ca-key "$BASE/root.pem"
init 1 --ca-cert "$BASE/root.pem" --ca-key "$BASE/root.key" >/dev/null
is "$(m 1 swarm ca)" "$(<"$BASE/root.pem")" 'the root'
join 2 1 manager >/dev/null
join 3 1 worker >/dev/null
for n in 1 2 3; do await 15 "node $n is ready" node_is 1 "$n" Status Ready; done
m 1 service create --detach --name web --mode global --network host "$REGISTRY/busybox:1" \
  sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
await 60 'three of three' runs 1 web 3
before=$(for n in 1 2 3; do pids_on "$n" web; done)
issuer() { openssl x509 -noout -issuer -in "$(data "$1")/certificates/current/node.crt"; }
old=$(token 1 worker)

note 'TLS 1.3 and nothing older'
spoken() { openssl s_client -connect "$(address 1):2377" -alpn h2 "$@" </dev/null >/dev/null 2>&1; }
spoken -tls1_3 || die 'TLS 1.3 is not spoken'
for old_tls in -tls1_2 -tls1_1; do
  # Debian's openssl would not speak the older one by itself.
  ! spoken "$old_tls" -cipher ALL:@SECLEVEL=0 || die "$old_tls is spoken"
done

note 'another one, by rotation'
out=$(timeout 60 "$BIN/muster" --socket "unix://$RUN/2/muster.sock" swarm ca --rotate)
has "$out" '3/3 nodes' 'the rotation'
for n in 1 2 3; do hasnt "$(issuer "$n")" ours "the certificate of node $n"; done
[[ $(m 1 swarm ca) != "$(<"$BASE/root.pem")" ]] || die 'the root is the old one'
is "$(m 1 node ls --format '{{.TLSStatus}}' | sort -u)" Ready 'all certificates'
for n in 1 2 3; do await 15 "node $n is ready" node_is 1 "$n" Status Ready; done
is "$(for n in 1 2 3; do pids_on "$n" web; done)" "$before" 'the containers'
fails 'does not match' m 4 swarm join --token "$old" "$(address 1):2377"
join 4 1 worker >/dev/null
await 15 'a new node with a new token' node_is 1 4 Status Ready
await 60 'the service is there, too' runs 1 web 4

note 'while a node is away'
kill_musterd 4
m 1 swarm ca --rotate -d >/dev/null
has "$(m 1 info)" 'Root Rotation In Progress: true' 'a rotation under way'
await 30 'only that one is missing' bash -c "[[ \$($BIN/muster --socket unix://$RUN/1/muster.sock node ls --format '{{.Hostname}} {{.TLSStatus}}' | grep -c 'Needs Rotation') == 1 ]]"
start_musterd 4
await 30 'the rotation ends' bash -c "$BIN/muster --socket unix://$RUN/1/muster.sock info | grep -q 'Root Rotation In Progress: false'"

note 'restarts go by the new root'
for n in 1 2 3 4; do kill_musterd "$n"; done
for n in 1 2 3 4; do start_musterd "$n"; done
await 20 'a leader' has_leader 1
for n in 1 2 3 4; do await 20 "node $n is ready" node_is 1 "$n" Status Ready; done
is "$(for n in 1 2 3; do pids_on "$n" web; done)" "$before" 'the containers after all that'

note 'shorter certificates, renewed by themselves'
m 1 swarm update --cert-expiry 1h >/dev/null
ends_soon() { ! openssl x509 -noout -checkend 3660 -in "$(data "$1")/certificates/current/node.crt"; }
for n in 1 2 3 4; do await 60 "node $n has a shorter certificate" ends_soon "$n"; done
finish
