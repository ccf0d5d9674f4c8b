#!/usr/bin/env bash
# Where published ports answer and whom the container takes for its client: local ones, bound ones,
# those that hide the client, those that name it in a header of the PROXY protocol; ::1; and a port
# that a program of a host has, told of on the service though that node has no task of it; datagrams and
# associations of SCTP; ports of the host, which answer where the task is and can be had once on a node; and that no program
# takes a published port while musterd is away.
source "$(dirname "$0")/cluster_lib.sh"

# The page, and on 81 what repeats the first line it got, which is the header, before whatever it is sent.
SERVE='cat >/echo <<"ECHO"
#!/bin/sh
read -r line; echo "$line"; exec cat
ECHO
chmod +x /echo
nc -ll -p 81 -e /echo &
'$WHO
seen() { cut -d' ' -f2 <<<"$1"; }
# What a datagram to ADDRESS PORT is answered with, if it is. By head, which reads more than a byte at a time.
DATAGRAM='exec 8<>"/dev/udp/$0/$1" && echo hello >&8 && timeout '$((2 * slow))' head -n 1 <&8 2>/dev/null'
datagram() { bash -c "$DATAGRAM" "$@" || true; }
datagram_on_node() { local n=$1; shift; in_host "$n" bash -c "$DATAGRAM" "$@" || true; }
answered_as() { [[ $(datagram "$1" "$2") == "$3" ]]; }
# refused ADDRESS:PORT: curl's word for it is 7.
refused() {
  local status=0
  curl -gsS -m $((2 * slow)) -o /dev/null "http://$1/" 2>/dev/null || status=$?
  ((status == 7))
}
closed() { is "$(refused "$1" && echo yes || echo no)" yes "refused: $2"; }
# wants N tcp|udp 4|6 PORT: what becomes of a program of node N that wants the port at every address.
wants() {
  in_host "$1" python3 -c 'import errno, socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[1]]
family, every = {"4": (socket.AF_INET, "0.0.0.0"), "6": (socket.AF_INET6, "::")}[sys.argv[2]]
with socket.socket(family, kind) as s:
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if kind == socket.SOCK_STREAM:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind((every, int(sys.argv[3])))
        if kind == socket.SOCK_STREAM:
            s.listen()
        print("has it")
    except OSError as error:
        print(errno.errorcode[error.errno])' "${@:2}"
}
has_it() { [[ $(wants "$@") == 'has it' ]]; }
netd_of() { pgrep -f "musterd netd --run-dir $RUN/$1/"; }
# netd_has N PORT: whether node N's netd, of which there is one, of the program in $BIN, is among those
# that hold a port of TCP
netd_has() {
  local pid
  pid=$(netd_of "$1")
  [[ $(readlink "/proc/$pid/exe") == "$(realpath "$BIN")/musterd" ]] &&
    in_host "$1" ss -Hltnp "sport = :$2" | grep -q "pid=$pid,"
}

start_registry
push_images busybox
for n in 1 2 3; do add_node $n; done
swarm_of worker worker
IMAGE=$REGISTRY/busybox:1
client=$NET.254
ip -n "$BRIDGE-3" address add "$NET.33/24" dev eth0
# The program that has port 8090 on node 3, which gets no task.
# Not for longer than the test may take, however that ends.
timeout $((240 * slow)) ip netns exec "$BRIDGE-3" socat TCP-LISTEN:8090,fork,reuseaddr PIPE &
holder=$!
# One that has port 8095 of ::1 there.
timeout $((240 * slow)) ip netns exec "$BRIDGE-3" socat 'TCP6-LISTEN:8095,bind=[::1],ipv6only=1,fork,reuseaddr' PIPE &
holder_at_loopback=$!

m 1 service create --detach=false --monitor 0s --name web --constraint node.hostname==node2 \
  -p 8080:80 \
  -p published=8081,target=80,local \
  -p published=8082,target=80,client-address=masquerade \
  -p "$NET.33:8083:80" \
  -p published=8084,target=81,proxy-protocol=1 \
  -p published=8085,target=81,proxy-protocol=2 \
  -p 8090:80 \
  -p 8095:80 \
  -p mode=host,published=8086,target=80 \
  -p mode=host,published=8087,target=84,protocol=udp \
  -p published=8088,target=83,protocol=udp \
  -p published=8096,target=86,protocol=sctp \
  "${WHO_CHECK[@]}" "$IMAGE" sh -c "$SERVE" >/dev/null

# in_mesh ADDRESS: whether it is of the ingress network, which is a /16.
MESH=$(m 1 network inspect --format '{{(index .IPAM.Config 0).Subnet}}' ingress)
[[ $MESH == *.0.0/16 ]] || die "the ingress network has subnet $MESH"
in_mesh() { [[ $1 == "${MESH%.0.0/16}".* ]]; }

note 'the client is seen, or the node in its place'
for n in 1 2 3; do
  await 5 "port 8080 on node $n" page "$(address $n):8080"
  is "$(seen "$(page "$(address $n):8080")")" "$client" "whom the container sees by node $n"
  hidden=$(seen "$(page "$(address $n):8082")")
  in_mesh "$hidden" || die "port 8082 on node $n shows $hidden"
  checks=$((checks + 1))
done

note 'by IPv6, too'
# What the page repeats of an address of IPv6 is its last group.
ip address add fdb6:6d75::c11e/64 dev "$BRIDGE" nodad
for n in 1 2 3; do ip -n "$BRIDGE-$n" address add "fdb6:6d75::$n/64" dev eth0 nodad; done
for n in 1 2 3; do
  await 5 "port 8080 at node $n's address of IPv6" page "[fdb6:6d75::$n]:8080"
  is "$(seen "$(page "[fdb6:6d75::$n]:8080")")" c11e "whom the container sees by node $n"
  on_node $n "[fdb6:6d75::$n]:8080" >/dev/null || die "node $n does not reach itself by IPv6"
done
await 5 'the port of the host at an address of IPv6' page '[fdb6:6d75::2]:8086'
is "$(seen "$(page '[fdb6:6d75::2]:8086')")" c11e 'whom the container sees by the port of the host'
on_node 2 '[fdb6:6d75::2]:8086' >/dev/null || die 'node 2 does not reach its port of the host by IPv6'
is "$(wants 2 tcp 6 8086)" EADDRINUSE 'a program that wants the port of the host in IPv6'
for n in 1 3; do closed "[fdb6:6d75::$n]:8086" "the port of the host on node $n by IPv6"; done

note 'datagrams'
# The containers' image has no server of datagrams: this one says from where they come.
# serve SERVICE SOCAT...: in the network of its container, on node 2; says_whence SERVICE PORT
# On a slow machine an answer takes longer than the half second that socat waits for it.
serve() {
  local container
  container=$(m 2 ps --no-trunc --format '{{.ID}} {{.Names}}' | sed -n "s/ $1\..*//p")
  timeout $((240 * slow)) nsenter --net="$(find "$RUN/2" -path "*netns/$container")" socat -t $((2 * slow)) "${@:2}" &
}
says_whence() { serve "$1" "UDP4-RECVFROM:$2,fork" SYSTEM:'read -r line; echo $SOCAT_PEERADDR'; }
says_whence web 83
says_whence web 84
for n in 1 2 3; do
  await 5 "port 8088/udp on node $n" answered_as "$(address $n)" 8088 "$client"
  said=$(datagram_on_node $n 127.0.0.1 8088)
  in_mesh "$said" || die "port 8088/udp at 127.0.0.1 of node $n shows '$said'"
  checks=$((checks + 1))
done

note 'associations of SCTP'
has_sctp() { python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)' 2>/dev/null; }
# associate OWN-ADDRESS ADDRESS: whom the container sees by port 8096. Who has several addresses and names
# none names all of them to the other side, but only one is translated.
associate() {
  timeout $((3 * slow)) socat -u "SCTP:$2:8096,bind=$1,connect-timeout=$((2 * slow))" - </dev/null 2>/dev/null || true
}
associated_as() { [[ $(associate "$1" "$2") == $3 ]]; }
if has_sctp; then
  # It listens at every address of the container, as servers do.
  serve web SCTP4-LISTEN:86,fork,reuseaddr SYSTEM:'echo $SOCAT_PEERADDR'
  serve web SCTP6-LISTEN:86,fork,reuseaddr,ipv6only=1 SYSTEM:'echo $SOCAT_PEERADDR'
  for n in 1 2 3; do
    await 5 "port 8096/sctp on node $n" associated_as "$client" "$(address $n)" "$client"
    await 5 "port 8096/sctp at node $n's address of IPv6" \
      associated_as '[fdb6:6d75::c11e]' "[fdb6:6d75::$n]" '*:c11e]'
    said=$(in_host $n bash -c "$(declare -f associate); slow=$slow; associate $(address $n) $(address $n)")
    in_mesh "$said" || die "port 8096/sctp at node $n's own address shows '$said'"
    checks=$((checks + 1))
  done
else
  echo '   not tried: this kernel has no SCTP'
fi

note 'ports of the host answer where the task is, and show the client'
is "$(seen "$(page "$(address 2):8086")")" "$client" 'whom the container sees by the port of the host'
on_node 2 127.0.0.1:8086 >/dev/null || die 'the port of the host does not answer at 127.0.0.1'
await 5 'port 8087/udp of the host' answered_as "$(address 2)" 8087 "$client"
# Of a container that never says anything by itself, which has virtual addresses.
m 1 network create blue >/dev/null
m 1 service create --detach=false --monitor 0s --name quiet --network blue --constraint node.hostname==node2 \
  -p mode=host,published=8089,target=85,protocol=udp "$IMAGE" sleep 1d >/dev/null
says_whence quiet 85
await 5 'port 8089/udp of the host' answered_as "$(address 2)" 8089 "$client"
for n in 1 3; do
  closed "$(address $n):8086" "the port of the host on node $n"
  for port in 8087 8089; do is "$(datagram "$(address $n)" $port)" '' "the answer of $port/udp on node $n"; done
done
m 1 service create --detach --name second --constraint node.hostname==node2 \
  -p mode=host,published=8086,target=80 "$IMAGE" sleep 1d >/dev/null
twice() { m 1 service ps --no-trunc second | grep -q 'host-mode port already in use on 1 node'; }
await 10 'one port of a host is had once' twice
m 1 service rm second quiet >/dev/null
# At an address of IPv6, which a container has that is in a network with IPv6.
m 1 network create --ipv6 green >/dev/null
m 1 service create --detach=false --monitor 0s --name six --network green --constraint node.hostname==node2 \
  -p mode=host,bind=fdb6:6d75::2,published=8093,target=80 "${WHO_CHECK[@]}" "$IMAGE" sh -c "$WHO" >/dev/null
await 5 'a port of the host at an address of IPv6' page '[fdb6:6d75::2]:8093'
closed "$(address 2):8093" 'that port at another address'
nowhere() { [[ $(m 1 node inspect node2) == *'[fdb6:6d75::2]:8094/tcp answers nowhere'* ]]; }
m 1 service create --detach=false --monitor 0s --name four --network blue --constraint node.hostname==node2 \
  -p mode=host,bind=fdb6:6d75::2,published=8094,target=80 "$IMAGE" sleep 1d >/dev/null
await 10 'that a port leads nowhere is told' nowhere
m 1 service rm four six >/dev/null
told_no_more() { ! nowhere; }
await 25 'and told no more' told_no_more
said=$(m 1 service create --detach --name one -p mode=host,bind=::1,published=8094,target=80 "$IMAGE" 2>&1) &&
  die 'a port of the host is bound to ::1'
[[ $said == *'cannot be bound to ::1 alone'* ]] || die "a port of the host at ::1 is refused with: $said"

note 'at ::1, too'
for n in 1 2 3; do
  await 5 "::1 on node $n" on_node $n '[::1]:8080'
  is "$(on_node $n '[::1]:8080')" "$(on_node $n 127.0.0.1:8080)" "the page at ::1 of node $n"
  said=$(datagram_on_node $n ::1 8088)
  in_mesh "$said" || die "port 8088/udp at ::1 of node $n shows '$said'"
done
said=$(datagram_on_node 2 127.0.0.1 8087)
[[ -n $said ]] || die 'port 8087/udp of the host does not answer at 127.0.0.1'
is "$(datagram_on_node 2 ::1 8087)" "$said" 'port 8087/udp of the host at ::1'

note 'a local port answers where the task is'
is "$(seen "$(page "$(address 2):8081")")" "$client" 'the local port on node 2'
for n in 1 3; do closed "$(address $n):8081" "the local port on node $n"; done

note 'a bound port answers at its address'
is "$(seen "$(page "$NET.33:8083")")" "$client" 'the bound port at its address'
for n in 1 2 3; do closed "$(address $n):8083" "the bound port at another address of node $n"; done

note 'the PROXY protocol names both ends'
for n in 1 2 3; do
  said=$(printf 'hello\n' | timeout $((3 * slow)) socat -t $((2 * slow)) - "TCP:$(address $n):8084,sourceport=$((11000 + n)),reuseaddr")
  is "$(tr -d '\r' <<<"$said" | head -1)" "PROXY TCP4 $client $(address $n) $((11000 + n)) 8084" \
    "the header by node $n"
  is "$(tail -1 <<<"$said")" hello "what comes behind it by node $n"
done
said=$(printf 'hello\n' | timeout $((3 * slow)) socat -t $((2 * slow)) - "TCP:$(address 1):8085" | od -An -tx1 | tr -d ' \n')
[[ $said == 0d0a0d0a000d0a* ]] || die "version 2 of the header begins $said"
[[ $said == *515549540a2111000c* ]] || die "version 2 of the header is $said"

note 'a connection through the relay goes on without musterd, and new ones come'
mkfifo "$BASE/in"
socat - "TCP:$(address 1):8084" <"$BASE/in" >"$BASE/out" &
held=$!
exec 7>"$BASE/in"
echo one >&7
await 5 'the first word' grep -q one "$BASE/out"
kill_musterd 1
echo two >&7
await 5 'a word while musterd is away' grep -q two "$BASE/out"
is "$(printf 'x\n' | timeout $((3 * slow)) socat -t $((2 * slow)) - "TCP:$(address 1):8084" | tail -1)" x 'a new connection meanwhile'
is "$(datagram "$(address 1)" 8088)" "$client" 'a datagram meanwhile'
start_musterd 1 7>&-
await 10 'node 1' m 1 node ls
echo three >&7
await 5 'a word afterwards' grep -q three "$BASE/out"
await 5 'a new connection afterwards' bash -c \
  "printf 'y\n' | timeout $((3 * slow)) socat -t $((2 * slow)) - TCP:$(address 1):8084 | grep -q y"
exec 7>&-
kill $held 2>/dev/null || true  # unless it has ended with its input
wait $held 2>/dev/null || true

note 'ports are held without musterd, and given back to the next one'
m 1 service create --detach=false --monitor 0s --name passing --constraint node.hostname==node2 \
  -p 8091:80 -p published=8092,target=80,protocol=udp "$IMAGE" sleep 1d >/dev/null
all_held() { # WHEN: of node 3
  is "$(wants 3 tcp 4 8080)" EADDRINUSE "a published port $1"
  is "$(wants 3 tcp 6 8080)" EADDRINUSE "a published port of IPv6 $1"
  is "$(wants 3 udp 4 8088)" EADDRINUSE "a published port of UDP $1"
  is "$(wants 3 tcp 4 8084)" EADDRINUSE "a relayed port $1"
  page "$(address 3):8080" >/dev/null || die "the port does not answer $1"
}
refused_it() { [[ $(wants "$@") == EADDRINUSE ]]; }
await 10 'a port of the new service is held' refused_it 3 tcp 4 8091
all_held 'with musterd'
kill_musterd 3
all_held 'without musterd'
m 1 service rm passing >/dev/null
is "$(wants 3 tcp 4 8091)" EADDRINUSE 'the port of a service that was removed meanwhile'
told=$(grep -c 'port .* is in use on this node' "$BASE/3/musterd.log" || true)
start_musterd 3
await 15 'it is free' has_it 3 tcp 4 8091
await 5 'it is free of IPv6' has_it 3 tcp 6 8091
await 5 'that of UDP is free' has_it 3 udp 4 8092
all_held 'when musterd is back'
clashes() { grep 'port .* is in use on this node' "$BASE/3/musterd.log" | tail -n +$((told + 1)) | grep -v 'port 809[05]/tcp'; }
is "$(clashes || true)" '' 'clashes with itself'
note '... by a netd of another program, too, and by one that was killed'
kill_musterd 3
mkdir -p "$BASE/newer"
cp "$BIN/"{musterd,muster-runtime-shim} "$BASE/newer/"
ln -s "$(realpath "$BIN/muster")" "$BASE/newer/"
BIN_BEFORE=$BIN BIN=$BASE/newer
start_musterd 3
await 15 'a netd of the other program has the port' netd_has 3 8080
all_held 'after an upgrade'
kill_musterd 3
all_held 'without musterd, after an upgrade'
BIN=$BIN_BEFORE
start_musterd 3
await 15 'a netd of the former program has the port' netd_has 3 8080
kill -9 "$(netd_of 3)"
await 10 'the netd after it has the port' netd_has 3 8080
all_held 'after netd was killed'
kill_musterd 3
all_held 'without musterd, after netd was killed'
start_musterd 3
is "$(clashes || true)" '' 'clashes with itself'

note 'a port that a program of a node without tasks has is told of on the service'
clash='port 8090/tcp is taken on node3 by another program'
await 10 'the clash in service ps' bash -c "$(declare -f m); BIN=$BIN RUN=$RUN; m 1 service ps web 2>&1 | grep -q '$clash'"
[[ $(m 1 service inspect --pretty web) == *"$clash"* ]] || die 'service inspect does not tell of the clash'
page "$(address 1):8090" >/dev/null || die 'the port does not answer on other nodes'
kill $holder
wait $holder 2>/dev/null || true
await 25 'the port when it is free' page "$(address 3):8090"
# Tried every 10 s; where it was led already, that alone tells that it is free.
await 25 'no clash any more' bash -c "$(declare -f m); BIN=$BIN RUN=$RUN; ! m 1 service ps web 2>&1 | grep -q '$clash'"

note '... also one that has it at ::1 alone, where it keeps it'
clash='port 8095/tcp is taken on node3 by another program'
await 10 'the clash at ::1' bash -c "$(declare -f m); BIN=$BIN RUN=$RUN; m 1 service ps web 2>&1 | grep -q '$clash'"
page "$(address 3):8095" >/dev/null || die 'the port does not answer at other addresses of the node'
is "$(in_host 3 bash -c "exec 8<>/dev/tcp/::1/8095 && echo mine >&8 && timeout $((2 * slow)) head -n 1 <&8")" mine 'who answers at ::1'
kill $holder_at_loopback
wait $holder_at_loopback 2>/dev/null || true
await 25 'the port at ::1 when it is free' on_node 3 '[::1]:8095'
await 25 'no clash any more' bash -c "$(declare -f m); BIN=$BIN RUN=$RUN; ! m 1 service ps web 2>&1 | grep -q 'is taken on'"

note 'options change while connections run'
m 1 service update --detach=false --monitor 0s -q --publish-add published=8080,target=80,client-address=masquerade web >/dev/null
hidden() { in_mesh "$(seen "$(page "$(address 3):8080")")"; }
await 10 'the client is hidden on node 3' hidden
is "$(m 1 service ps -q web | wc -l)" 1 'tasks: nothing was replaced'
note 'who has left holds nothing'
m 3 swarm leave >/dev/null
for port in 'tcp 4 8080' 'tcp 6 8080' 'udp 4 8088' 'tcp 4 8084'; do
  is "$(wants 3 $port)" 'has it' "a program that wants $port"
done
is "$(netd_of 3 || true)" '' 'netd'
m 1 service rm web >/dev/null
await 20 'the port of the host is gone' refused "$(address 2):8086"
await 10 'the relay is gone' bash -c "! timeout $slow socat -u /dev/null TCP:$(address 1):8084 2>/dev/null"
finish
