#!/usr/bin/env bash
# Bridge networks and published ports: answers, spread, replacement, clash, nothing left.
source tests/integration/lib.sh "$@"
start_registry
push_images busybox hello
start_node
port=$(free_port)
ask() { curl -fsS -m 3 "http://$1:$port/"; }
answers() { for _ in $(seq 12); do ask 127.0.0.1; done | sort -u | wc -l; }

note 'a published port answers from every replica'
muster service create --name web --replicas 3 -p "$port:80" "$REGISTRY/hello:1" >/dev/null
await 10 'the port answers' ask 127.0.0.1
is "$(answers)" 3 'replicas that answer'

note 'on every address of the node'
address=$(ip -4 -o addr show scope global | awk 'NR == 1 {sub("/.*", "", $4); print $4}')
[[ -z $address ]] || ask "$address" >/dev/null || die "no answer on $address"

note 'it follows the scale'
muster service scale web=5 >/dev/null
is "$(answers)" 5 'replicas that answer after scaling up'
muster service scale web=1 >/dev/null
await 15 'one answers' bash -c "[[ \$(for _ in \$(seq 8); do curl -fsS -m 3 http://127.0.0.1:$port/; done | sort -u | wc -l) == 1 ]]"

note 'it works while musterd is away'
kill_daemon
ask 127.0.0.1 >/dev/null || die 'no answer while musterd is down'
start_daemon
await 15 'the service is whole' runs web 1
ask 127.0.0.1 >/dev/null || die 'no answer after the restart'

note 'a port is published once'
fails "port '$port' is already in use by service" \
  muster service create --name second -p "$port:80" "$REGISTRY/hello:1"

note 'containers of a network reach one another, those of another do not'
muster network create front >/dev/null
muster network create back >/dev/null
muster service create --name a --network front "$REGISTRY/hello:1" >/dev/null
muster service create --name b --network back "$REGISTRY/hello:1" >/dev/null
address_of() { muster task inspect "$(muster service ps -q --filter desired-state=running "$1")" --format '{{(index (index .NetworksAttachments 0).Addresses 0)}}' | sed 's|/.*||'; }
a=$(address_of a)
b=$(address_of b)
muster service create --name probe --network front "$REGISTRY/busybox:1" \
  sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
muster exec probe.1 timeout 3 wget -qO- "http://$a/" >/dev/null || die 'no way within a network'
! muster exec probe.1 timeout 2 wget -qO- "http://$b/" >/dev/null 2>&1 ||
  die 'a way between two networks'

note 'a network in use is not removed'
fails 'in use by' muster network rm front
muster service rm a b probe web >/dev/null
await 20 'all gone' bash -c '[[ -z $(muster ps -q) ]]'
await 10 'the networks can go' muster network rm front back
! ask 127.0.0.1 >/dev/null 2>&1 || die 'the port answers after its service is gone'

note 'what cannot be is refused with the reason, and nothing is left of it'
muster network create --subnet 10.91.0.0/16 wide >/dev/null
fails 'subnet 10.91.7.0/24 overlaps 10.91.0.0/16 of network wide' \
  muster network create --subnet 10.91.7.0/24 narrow
fails 'no matching subnet for gateway 10.92.0.1' \
  muster network create --subnet 10.93.0.0/24 --gateway 10.92.0.1 narrow
fails 'MTU "1500b" is not a number' \
  muster network create --opt com.docker.network.driver.mtu=1500b narrow
fails 'MTU 1000 is too small: IPv6' \
  muster network create --ipv6 --opt com.docker.network.driver.mtu=1000 narrow
fails 'not found' muster network inspect narrow
muster network rm wide >/dev/null

note 'the ingress network is made anew while nothing publishes'
place() { muster node inspect self --format '{{(index .Ingress.Addresses 0)}}'; }
has "$(muster network inspect ingress --format '{{(index .IPAM.Config 0).Subnet}}')" '/16' 'its size'
[[ -n $(place) ]] || die 'the node has no place in it'
muster service create --name web -p "$port:80" "$REGISTRY/hello:1" >/dev/null
fails 'ingress network cannot be removed because service web depends on it' \
  muster network rm ingress
muster service rm web >/dev/null
await 20 'all gone' bash -c '[[ -z $(muster ps -q) ]]'
await 10 'it can go' muster network rm ingress
fails 'no ingress network is present' \
  muster service create --name web -p "$port:80" "$REGISTRY/hello:1"
muster network create --ingress --subnet 10.94.0.0/20 --opt com.docker.network.driver.mtu=1400 edge >/dev/null
await 10 'the node has another place' bash -c \
  "muster node inspect self --format '{{(index .Ingress.Addresses 0)}}' | grep -q '^10.94.0.2/20$'"
is "$(muster network inspect edge --format '{{.MTU}}')" 1400 'its MTU'
muster service create --name web -p "$port:80" "$REGISTRY/hello:1" >/dev/null
await 10 'the port answers' ask 127.0.0.1
kill_daemon
start_daemon
await 15 'the service is whole' runs web 1
fails 'not found' muster network inspect ingress
muster service rm web >/dev/null
await 20 'all gone' bash -c '[[ -z $(muster ps -q) ]]'
finish
