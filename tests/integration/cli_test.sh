#!/usr/bin/env bash
# What a user meets at the terminal when things go wrong, and commands whose answer needs a real node.
source tests/integration/lib.sh "$@"
start_registry
push_images busybox hello
start_node
image=$REGISTRY/busybox:1
export MUSTER_MONITOR=0s
forever=(sh -c 'trap "exit 0" TERM; sleep 86400 & wait')

note 'exec: exit codes, input of any size, the reason on one line'
muster service create --name web --network host "$image" \
  sh -c 'echo first line; trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
code() { local status=0; "$@" >/dev/null 2>"$NODE/err" || status=$?; echo "$status"; }
is "$(code muster exec web.1 sh -c 'exit 42')" 42 'exit code of a command'
is "$(code muster exec web.1 nosuchcommand)" 127 'exit code of a missing command'
is "$(<"$NODE/err")" 'muster: command not found: "nosuchcommand"' 'error of a missing command'
is "$(code muster exec -w /nosuch web.1 true)" 126 'exit code of a missing directory'
is "$(wc -l <"$NODE/err")" 1 'lines of an error'
is "$(code muster exec nosuch true)" 1 'exit code for an unknown container'
head -c 60000000 /dev/urandom >"$NODE/large"
muster exec -i web.1 cat <"$NODE/large" | cmp - "$NODE/large" || die 'the input of exec was cut'
is "$(muster exec -i web.1 sh -c 'head -c 3' <"$NODE/large" | wc -c)" 3 'a command that stops reading'
is "$(muster exec web.1 sh -c 'echo to stderr >&2' 2>&1)" 'to stderr' 'stderr of a quick command'

note 'logs of a task by its name; events of the past'
has "$(muster logs web.1)" 'first line' 'logs web.1'
fails 'no such task or service: web.2' muster logs web.2
has "$(muster events --since 10m --until 0s --filter type=service --format '{{.Action}}')" create \
  'events of the past'

note 'a musterd that is killed while a command waits'
muster service create --detach --name slow --network host --constraint node.labels.go==yes "$image" \
  "${forever[@]}" >/dev/null
# Starts a command that waits, kills musterd under it and brings musterd back.
interrupt_under() {
  "$@" >"$NODE/out" 2>"$NODE/err" &
  waiting=$!
  await 10 'the command waits' grep -q 'overall progress' "$NODE/out"
  kill_daemon
  await 15 'it says that musterd is gone' grep -q 'waiting for it to come back' "$NODE/err"
  start_daemon
}
interrupt_under muster service scale slow=1
muster node update --label-add go=yes self >/dev/null
wait "$waiting" || die "scale ended with $?: $(<"$NODE/err")"
has "$(<"$NODE/out")" 'Service slow converged' 'the command after the restart'
for command in 'logs -f web' events 'exec web.1 sleep 1000'; do
  # shellcheck disable=SC2086
  muster $command >/dev/null 2>"$NODE/err" &
  waiting=$!
  await 10 'its stream is open' bash -c "ss -xH state connected | grep -q '$RUN/muster.sock'"
  kill_daemon
  status=0
  wait "$waiting" || status=$?
  is "$status" 1 "exit code of: $command"
  has "$(<"$NODE/err")" musterd "the error of: $command"
  start_daemon
done

note 'events outlive musterd, as far as its log reaches'
has "$(muster events --since 10m --until 0s --filter type=service --format '{{.Action}} {{.Actor.Attributes.name}}')" \
  'create web' 'events of before the restarts'
muster events --until 2s --filter type=secret >"$NODE/out"
is "$(<"$NODE/out")" '' 'events until a moment to come, without any'

note 'a port that another program holds'
port=$(free_port)
socat "TCP-LISTEN:$port,reuseaddr,fork" SYSTEM:'echo not muster' &
other=$!
await 10 'the other program listens' bash -c "ss -Hltn 'sport = :$port' | grep -q ."
muster service create --name taken --monitor 6s -p "$port:80" "$REGISTRY/hello:1" >/dev/null 2>"$NODE/err"
has "$(<"$NODE/err")" "WARNING: task taken.1: port $port/tcp is taken by another program of this host" 'the warning'
has "$(muster service ps --no-trunc taken)" "port $port/tcp is taken by another program of this host" 'service ps'
kill "$other"
await 20 'the port is published once it is free' \
  bash -c "[[ \$(curl -fsS -m 2 http://127.0.0.1:$port/) == *Hello* ]]"
await 15 'and nothing else is said' bash -c "! muster service ps --no-trunc taken | grep -q 'is taken'"
muster service rm taken >/dev/null

note 'a second musterd keeps away'
fails 'another musterd already uses' "$BIN/musterd" --data-dir "$NODE/data" --socket "$RUN/second.sock"
fails 'another musterd already listens' "$BIN/musterd" --data-dir "$NODE/second" --socket "$RUN/muster.sock"
fails 'is not a socket' "$BIN/musterd" --data-dir "$NODE/second" --socket "$NODE/large"

note 'a damaged log: the node says so, leaves its containers alone, and can still leave'
pid=$(pids_of web)
kill_daemon
mv "$NODE/data/raft/log.key" "$NODE/key"
head -c 64 /dev/zero >"$NODE/data/raft/log.key"
start_daemon
fails 'cannot take part in its swarm' muster service ls
has "$(muster ps --format '{{.Names}}')" web. 'the containers of a node without its manager'
has "$(muster info)" 'Swarm: error' 'info'
kill -0 "$pid" || die 'the container died with the log'
kill_daemon
mv "$NODE/key" "$NODE/data/raft/log.key"
start_daemon
await 15 'the service is whole again' runs web 1
is "$(pids_of web)" "$pid" 'the container'
kill_daemon
head -c 64 /dev/zero >"$NODE/data/raft/log.key"
start_daemon
muster swarm leave --force >/dev/null
! kill -0 "$pid" 2>/dev/null || die 'a container outlived the leaving'
is "$(leftovers)" '' 'left behind after leaving with a damaged log'

note 'a swarm after a swarm'
for bad in 127.0.0.1:port 127.0.0.1:70000 nosuchinterface; do
  fails "$bad" muster swarm init --listen-addr "$bad"
done
fails 'invalid default address pool' muster swarm init --default-addr-pool 10.0.0.0/33
address=127.0.0.1:$(free_port)
muster swarm init --listen-addr "$address" --advertise-addr "$address" >/dev/null
await 10 'the node is ready' node_is_ready
port=$(free_port)
muster service create --name again -p "$port:80" "$REGISTRY/hello:1" >/dev/null
await 10 'its port answers' curl -fsS -m 2 "http://127.0.0.1:$port/"
fails 'is not in CIDR form' muster network create --subnet 10.9.0.0/33 bad

note '--end-containers'
pid=$(pids_of again)
fails 'another musterd already uses' "$BIN/musterd" --end-containers --data-dir "$NODE/data" \
  --socket "$RUN/muster.sock"
kill "$DAEMON"
wait "$DAEMON" || die "musterd ended with $?"
kill -0 "$pid" || die 'the container ended with musterd'
"$BIN/musterd" --end-containers --data-dir "$NODE/data" --socket "$RUN/muster.sock" --log-level error
! kill -0 "$pid" 2>/dev/null || die 'a container outlived --end-containers'
is "$(leftovers)" '' 'left behind after --end-containers'
start_daemon
await 20 'the service runs again' runs again 1
finish
