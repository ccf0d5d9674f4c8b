#!/usr/bin/env bash
# What is asked for of networks and ports, over three nodes that are not alike: the MTU of a network is
# that of the narrowest node, a port answers by one interface alone, and the ingress network is made
# anew while nodes are in it.
source "$(dirname "$0")/cluster_lib.sh"

container() { m "$1" ps --format '{{.Names}}' | grep "^$2\." | head -1; }
inside() { local n=$1 s=$2; shift 2; m "$n" exec "$(container "$n" "$s")" "$@"; }
task_address() { inside "$1" "$2" ip -4 -o address | sed -n 's/.* eth[0-9]* *inet \([0-9.]*\).*/\1/p' | head -1; }
refused() {
  local status=0
  curl -gsS -m $((2 * slow)) -o /dev/null "http://$1/" 2>/dev/null || status=$?
  ((status == 7))
}
create() { m 1 service create --detach=false --monitor 0s "$@" "$REGISTRY/busybox:1" sh -c "$WHO" >/dev/null; }

start_registry
push_images busybox
for n in 1 2 3; do add_node $n; done
# Before it joins, as a host that has another interface than the others.
in_host 2 ip link set eth0 mtu 1400
swarm_of worker worker

note 'a network is as wide as the narrowest node of the cluster'
m 1 network create blue >/dev/null
is "$(m 1 network inspect blue --format '{{.MTU}}')" 1350 'the MTU of a network'
create --name wide --mode global --network blue
for n in 1 2 3; do
  has "$(inside $n wide ip link show eth0)" 'mtu 1350' "the MTU of a container of node $n"
done
# 1,350 bytes with the headers of IP and ICMP: whole, from the widest node to the narrowest and back.
for pair in '1 2' '2 3' '3 1'; do
  read -r from to <<<"$pair"
  await 10 "a whole packet from node $from to node $to" \
    inside "$from" wide ping -c 1 -W $((2 * slow)) -s 1322 "$(task_address "$to" wide)"
done
note '... unless it is said, and a node that cannot carry that is told of'
has "$(m 1 network create --opt com.docker.network.driver.mtu=1450 broad 2>&1)" \
  'MTU 1450 is more than the 1350 that every node'"'"'s data path carries (that of node node2 has' 'a warning'
is "$(m 1 network inspect broad --format '{{.MTU}}')" 1450 'the MTU that was asked for'
create --name broad --mode global --network broad
doctor 1
has "$(not_good)" 'bad mtu  node2: no frame of full size passes between node2 and the other 2 nodes' 'the doctor'
m 1 service rm broad wide >/dev/null

note 'a port answers by one interface'
create --name web -p published=8080,target=80,bind=eth0
for n in 1 2 3; do
  answers() { [[ $(page "$(address $n):8080") == *" $NET.254" ]]; }
  await 10 "by eth0 of node $n, and the client is seen" answers
  is "$(in_host $n bash -c "curl -gsS -m 2 -o /dev/null http://127.0.0.1:8080/; echo \$?" 2>/dev/null)" 7 \
    "127.0.0.1 of node $n"
done
m 1 service update --detach=false --monitor 0s --publish-rm 80 \
  --publish-add published=8080,target=80,bind=eth7 web >/dev/null
for n in 1 2 3; do await 10 "refused where there is no such interface: node $n" refused "$(address $n):8080"; done

note 'the ingress network is made anew, and all nodes have a place in it'
fails 'service web depends on it' m 1 network rm ingress
m 1 service rm web >/dev/null
await 20 'it can go' m 1 network rm ingress
fails 'no ingress network is present' m 1 service create --name web -p 8080:80 "$REGISTRY/busybox:1" true
gone() { [[ -z $(ls "$RUN/$1"/*/netns | grep '^net-' || true) ]]; }
for n in 1 2 3; do await 20 "nothing is left of it on node $n" gone $n; done
m 1 network create --ingress --ipv6 --subnet 10.94.0.0/20 edge >/dev/null
placed() { m 1 node inspect "node$1" --format '{{(index .Ingress.Addresses 0)}}' | grep -q '^10\.94\.0\.'; }
for n in 1 2 3; do await 15 "node $n has a place" placed $n; done
create --name web -p 8080:80 --constraint node.hostname==node3
for n in 1 2 3; do await 10 "node $n answers with the client's address" answers; done
note '... which musterds that start again still know'
for n in 2 3; do
  kill_musterd $n
  start_musterd $n
  await 30 "node $n is ready" node_is 1 $n Status Ready
done
for n in 1 2 3; do await 15 "node $n answers" answers; done
settled 1
fails 'not found' m 1 network inspect ingress

note 'who has left holds nothing'
m 1 service rm web >/dev/null
for n in 3 2; do m $n swarm leave >/dev/null; done
m 1 swarm leave --force >/dev/null
for n in 1 2 3; do
  await 20 "nothing of node $n" gone $n
  is "$(in_host $n nft list tables | grep muster || true)" '' "tables of node $n"
done
finish
