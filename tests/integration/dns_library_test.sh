#!/usr/bin/env bash
# The resolver of containers as libraries see it that are not ours and not ldns: BIND's (dig, delv),
# glibc's (getent) and busybox's nslookup. The same names, asked for addresses of both families, in
# reverse, for services, in answers that are too long for a datagram, with and without EDNS.
source tests/integration/lib.sh "$@"
tools=tests/integration/dns_tools.py
start_registry
push_images busybox
start_node
box=$REGISTRY/busybox:1
idle='trap "exit 0" TERM; sleep 86400 & wait'
end_helpers() {
  local status=$?
  set +e
  kill ${UPSTREAM:-} 2>/dev/null
  (exit "$status")
  cleanup
}
trap end_helpers EXIT

container() { muster ps --no-trunc --format '{{.ID}} {{.Names}}' | awk -v s="$1." 'index($2, s) == 1 {print $1; exit}'; }
# addresses SERVICE N: of its tasks, the first or second of each
addresses() {
  local task
  for task in $(muster service ps -q --filter desired-state=running "$1"); do
    muster task inspect "$task" --format "{{(index (index .NetworksAttachments 0).Addresses $2)}}" | sed 's|/.*||'
  done | sort
}
vip() { muster service inspect "$1" --format "{{(index .Endpoint.VirtualIPs $2).Addr}}" | sed 's|/.*||'; }
in_ns() { nsenter --net="$RUN/$INSTANCE/netns/$probe" "$@"; }

# ---------------------------------------------------------------- the libraries

# Each prints the answers to NAME TYPE, sorted: addresses, names, or "PORT NAME".
bind() { in_ns dig +short +tries=1 +time=5 @127.0.0.11 "$1" "$2" | form; }
bind_tcp() { in_ns dig +short +tcp +tries=1 +time=5 @127.0.0.11 "$1" "$2" | form; }
bind_plain() { in_ns dig +short +noedns +tries=1 +time=5 @127.0.0.11 "$1" "$2" | form; }
# It gives up after a time of its own, which nothing can change: it is asked again.
delving() {
  local said='' attempt
  for ((attempt = 1; attempt <= slow + 2 && ${#said} == 0; attempt++)); do
    said=$(in_ns delv -i +short @127.0.0.11 "$1" "$2" 2>&1 | form) || true
  done
  [[ -z $said ]] || echo "$said"
}
# "0 0 80 web." is one of a service.
form() { grep -v '^;' | sed 's/^[0-9]* [0-9]* \([0-9]* \)/\1/' | sort; }
# glibc knows addresses, and names of addresses. It sees the container's resolv.conf, and asks nobody else.
glibc() {
  local database=ahostsv4
  [[ $2 == A ]] || database=ahostsv6
  [[ $2 != PTR ]] || database=hosts
  in_ns unshare --mount --propagation private bash -c '
    mount --bind "$1/resolv.conf" /etc/resolv.conf && mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf &&
    mount --bind "$1/hosts" /etc/hosts && getent "$2" "$3"' - "$RUN/libc" "$database" "$1" |
    if [[ $2 == PTR ]]; then awk '{print $2 "."}'; else awk '$2 == "STREAM" {print $1}' | grep -v '^::ffff:'; fi | sort -u
}
mkdir "$RUN/libc"
printf 'nameserver 127.0.0.11\noptions ndots:0\n' >"$RUN/libc/resolv.conf"
echo 'hosts: dns' >"$RUN/libc/nsswitch.conf"
: >"$RUN/libc/hosts"
# Its server's address comes first, in two lines. Addresses are asked for in reverse unless it is told a type.
busybox_says() {
  local type=-type=${2,,}
  [[ $2 != PTR ]] || type=
  muster exec probe.1 timeout 10 nslookup $type "$1" 127.0.0.11 | sed '1,/^$/d' |
    sed -n 's/^Address: //p; s/^.*name = \(.*\)$/\1./p; s/^.*service = [0-9]* [0-9]* \(.*\)$/\1./p' | sort
}
reverse_name() { python3 -c 'import ipaddress, sys; print(ipaddress.ip_address(sys.argv[1]).reverse_pointer)' "$1"; }

# same NAME TYPE EXPECTED LIBRARY...
same() {
  local name=$1 type=$2 expected=$3 library
  shift 3
  for library in "$@"; do is "$($library "$name" "$type")" "$expected" "$type of $name, by $library"; done
}
flags() { in_ns dig +tries=1 +time=5 @127.0.0.11 "$@" | sed -n 's/^;; flags: \([a-z ]*\);.*/\1/p'; }
status_of() { in_ns dig +tries=1 +time=6 @127.0.0.11 "$@" | sed -n 's/.*status: \([A-Z]*\),.*/\1/p'; }

muster network create --ipv6 app >/dev/null
muster service create --name probe --network app "$box" sh -c "$idle" >/dev/null
probe=$(container probe)
gateway=$(in_ns ip -4 route show default | awk '{print $3}')
muster service create --name web --replicas 3 --network name=app,alias=site -p "$(free_port):80" \
  "$box" sh -c "$idle" >/dev/null
muster service create --name rr --replicas 2 --network app --endpoint-mode dnsrr "$box" sh -c "$idle" >/dev/null
muster service create --name many --replicas 40 --network app --endpoint-mode dnsrr "$box" sh -c "$idle" >/dev/null
await 60 'all of many' runs many 40
known() { [[ $(bind tasks.many A | wc -l) == 40 && $(bind tasks.web A | wc -l) == 3 ]]; }
await 10 'all names' known
all='bind bind_tcp bind_plain delving glibc busybox_says'

note 'services, aliases, tasks'
same web A "$(vip web 0)" $all
same site A "$(vip web 0)" $all
same WEB.app A "$(vip web 0)" bind delving glibc busybox_says
same tasks.web A "$(addresses web 0)" $all
same tasks.web AAAA "$(addresses web 1)" $all
same rr A "$(addresses rr 0)" $all
same rr AAAA "$(addresses rr 1)" $all
task=$(muster service ps --no-trunc -q web | head -1)
name=$(muster service ps --no-trunc --format '{{.Name}} {{.ID}}' web | sed -n '1s/ /./p')
four=$(muster task inspect "$task" --format '{{(index (index .NetworksAttachments 0).Addresses 0)}}' | sed 's|/.*||')
six=$(muster task inspect "$task" --format '{{(index (index .NetworksAttachments 0).Addresses 1)}}' | sed 's|/.*||')
same "$name" A "$four" $all
same "$name" AAAA "$six" $all
same "${name%.*}" A "$four" $all

note 'in reverse'
for address in "$four" "$six"; do
  same "$(reverse_name "$address")" PTR "$name.app." bind bind_tcp delving
  same "$address" PTR "$name.app." glibc busybox_says
done

note 'where a service listens'
same _80._tcp.web SRV '80 web.' bind bind_tcp bind_plain delving busybox_says
is "$(in_ns dig +noall +additional @127.0.0.11 _80._tcp.web SRV | awk '{print $1, $4, $5}')" \
  "web. A $(vip web 0)" 'what comes with it'
same _81._tcp.web SRV '' bind delving
is "$(status_of _81._tcp.web SRV)" NOERROR 'a port that it has not'

note 'a family or type that a name has not is no error; who does not exist does not'
is "$(status_of web MX)" NOERROR 'mail for a service'
is "$(bind web MX)" '' 'mail for a service'
python3 "$tools" serve "$gateway" "$RUN/upstream.log" 2>"$RUN/upstream.err" &
UPSTREAM=$!
await 5 'the server' bash -c "ss -Hlun 'src $gateway' | grep -q ':53 '"
muster service create --name asker --network app --dns "$gateway" "$box" sh -c "$idle" >/dev/null
former=$probe probe=$(container asker)
is "$(status_of nowhere.example)" NXDOMAIN 'a name that nobody has'
is "$(glibc nowhere.example A)" '' 'a name that nobody has, by glibc'
has "$(in_ns delv -i +short @127.0.0.11 nowhere.example A 2>&1)" 'ncache nxdomain' 'a name that nobody has, by delv'
has "$(muster exec asker.1 nslookup nowhere.example 127.0.0.11 2>&1 || true)" NXDOMAIN 'by busybox'
same big.example A "$(printf '198.51.100.%s\n' $(seq 200) | sort)" bind bind_tcp bind_plain glibc
unused=${four%.*}.$((${four##*.} == 250 ? 249 : 250))
is "$(status_of -x "$unused")" NXDOMAIN 'an address of the network that nobody has'
probe=$former

note 'what is too long for a datagram says so, and comes whole over TCP'
has " $(flags +noedns +ignore tasks.many A) " ' tc ' 'without EDNS'
size=$(in_ns dig +noedns +ignore +tries=1 +time=5 @127.0.0.11 tasks.many A | sed -n 's/^;; MSG SIZE  rcvd: //p')
((size <= 512)) || die "a datagram of $size bytes without EDNS"
hasnt " $(flags +bufsize=4096 +ignore tasks.many A) " ' tc ' 'with EDNS of 4096'
has " $(flags +bufsize=600 +ignore tasks.many AAAA) " ' tc ' 'with EDNS of 600'
same tasks.many A "$(addresses many 0)" bind bind_tcp bind_plain delving glibc
same tasks.many AAAA "$(addresses many 1)" bind bind_tcp bind_plain delving glibc

note 'EDNS, as RFC 6891 has it'
edns() { in_ns dig +tries=1 +time=5 @127.0.0.11 "$@"; }
has "$(edns web A)" 'EDNS: version: 0, flags:; udp: 4096' 'EDNS is answered with EDNS'
hasnt "$(edns +noedns web A)" 'EDNS: version' 'who does not speak it gets none'
is "$(status_of +edns=1 +noednsnegotiation web A)" BADVERS 'a version that nobody has'
is "$(status_of +ednsopt=100:00ff web A)" NOERROR 'an option that nobody knows'
has "$(edns +dnssec web A)" 'flags: do' 'the DO bit is answered'
has " $(flags web A) " ' aa ' 'our names are answered with authority'
has " $(flags web A) " ' ra ' 'recursion is there'
is "$(status_of +opcode=NOTIFY web A)" NOTIMP 'another opcode'

note 'nothing is left'
muster service rm probe web rr many asker >/dev/null
await 40 'all gone' bash -c '[[ -z $(muster ps -q) ]]'
kill "$UPSTREAM"
UPSTREAM=''
finish
