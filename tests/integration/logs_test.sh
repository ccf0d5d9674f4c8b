#!/usr/bin/env bash
# Logs through the managers: following across restarts, updates and rotation; every driver, with a
# journal of its own; a musterd that is killed meanwhile; events that go on behind it.
#
# Runs in a mount namespace of its own, where a real systemd-journald can serve this test alone.
if [[ -z ${MUSTER_TEST_OWN_MOUNTS:-} ]]; then
  made=()
  for dir in /run/systemd/journal /run/log; do [[ -d $dir ]] || { mkdir -p "$dir" && made+=("$dir"); }; done
  status=0 journald=$(mktemp)
  MUSTER_TEST_OWN_MOUNTS=$journald unshare --mount --propagation private "$0" "$@" || status=$?
  [[ ! -s $journald ]] || kill "$(cat "$journald")" 2>/dev/null || true
  rm "$journald"
  ((${#made[@]} == 0)) || rmdir --ignore-fail-on-non-empty "${made[@]}"
  exit "$status"
fi
source tests/integration/lib.sh "$@"

mount -t tmpfs tmpfs /run/systemd/journal
mount -t tmpfs tmpfs /run/log
mkdir /run/log/journal
/lib/systemd/systemd-journald >/dev/null 2>&1 &
echo $! >"$MUSTER_TEST_OWN_MOUNTS"
await 10 'the journal' test -S /run/systemd/journal/socket
journal() { journalctl -q -D /run/log/journal -o cat "$@"; }

start_registry
push_images busybox
start_node
image=$REGISTRY/busybox:1
out=$NODE/out
holds() { grep -qF -- "$2" "$1"; }
lines_are() { [[ $(grep -cF -- "$2" "$1") == "$3" ]]; }
ended() { ! kill -0 "$1" 2>/dev/null; }
# Runs until its standard input says otherwise; TERM ends it with a last word.
says() { echo "trap 'echo bye; exit 0' TERM; echo $1; sleep 86400 & wait"; }

note 'what is written: both streams, prefixes, tail, since, until, details'
muster service create --name web --network host --replicas 2 --log-opt labels=tier \
  --container-label tier=front --log-opt env=COLOUR --env COLOUR=red "$image" \
  sh -c 'for i in 1 2 3; do echo out $i; done; echo err >&2; sleep 86400' >/dev/null
await 10 'lines of both tasks' bash -c '[[ $(muster service logs --raw web 2>&1 | wc -l) == 8 ]]'
id=$(muster service ps -q --no-trunc web | head -1)
name=$(muster task inspect --format '{{.Slot}}' "$id")
host=$(muster node ls --format '{{.Hostname}}')
logs=$(muster service logs web 2>/dev/null)
is "$(wc -l <<<"$logs")" 6 'lines of stdout'
has "$logs" "web.$name.${id:0:12}@$host    | out 1" 'prefix'
is "$(muster service logs --raw web 2>&1 >/dev/null | sort -u)" 'err' 'stderr goes to stderr'
is "$(muster service logs --raw "$id" 2>/dev/null | tail -1)" 'out 3' 'one task'
is "$(muster service logs --raw --tail 1 web 2>&1 | sort -u)" 'err' 'tail'
is "$(muster service logs --tail 0 web 2>&1)" '' 'tail 0'
has "$(muster service logs --details web 2>/dev/null)" '| COLOUR=red,tier=front out 1' 'details'
times=$(muster service logs --raw --timestamps web 2>&1)
is "$(sort -c <<<"$(cut -d' ' -f1 <<<"$times")" && echo sorted)" sorted 'merged by time'
last=$(tail -1 <<<"$times" | cut -d' ' -f1)
is "$(muster service logs --raw --since "$last" web 2>&1)" err 'since'
is "$(muster service logs --raw --until "$(head -1 <<<"$times" | cut -d' ' -f1)" web 2>&1)" '' 'until'
fails 'no such task or service: nope' muster service logs nope
has "$(muster logs "web.$name" 2>/dev/null)" 'out 1' 'logs of this node'

note 'following sees restarts, updates and the end of the service'
muster service create --name follow --network host --restart-delay 100ms --env VERSION=one "$image" \
  sh -c "trap 'echo bye; exit 0' TERM; echo hello \$VERSION; sleep 86400 & wait" >/dev/null
muster service logs -f --raw follow >"$out" 2>&1 &
reader=$!
await 10 'the first line' holds "$out" 'hello one'
kill -9 "$(pids_of follow)"
await 20 'the line of the next task' lines_are "$out" 'hello one' 2
muster service update --env-add VERSION=two follow >/dev/null
await 20 'the line of the new revision' holds "$out" 'hello two'
has "$(cat "$out")" bye 'the last word of the old revision'
muster service rm follow >/dev/null
await 20 'the following ended' ended "$reader"
wait "$reader" || die "following ended with $?"
is "$(grep -c bye "$out")" 2 'last words'
status=0
timeout --foreground --preserve-status -s INT 2 muster service logs -f web >/dev/null 2>&1 || status=$?
is "$status" 130 'Ctrl-C'
muster service create --name tty --network host --tty "$image" sh -c "$(says typed)" >/dev/null
fails 'tty service logs only supported with --raw' muster service logs tty
await 10 'the line of a terminal' bash -c 'muster service logs --raw tty | grep -q typed'

note 'rotation while following: nothing is lost, and the disk is bounded'
muster service create --name turning --network host --log-driver local --log-opt max-size=16k \
  --log-opt max-file=50 "$image" sh -c \
  'i=0; while [ $i -lt 9000 ]; do i=$((i+1)); echo line $i; [ $((i % 600)) != 0 ] || sleep 1; done; sleep 86400' \
  >/dev/null
muster service logs -f --raw turning >"$out" 2>&1 &
reader=$!
await 60 'the last line' holds "$out" 'line 9000'
kill "$reader"
wait "$reader" 2>/dev/null || true
is "$(cmp <(seq -f 'line %.0f' 9000) "$out" && echo same)" same 'lines while rotating'
container=$(muster ps --format '{{.ID}} {{.Names}}' | awk '/ turning\./ {print $1}')
files=$(ls -d "$NODE"/data/agent/containers/"$container"*/container.log.[0-9]* | wc -l)
((files >= 2)) || die "rotated $files times only"
is "$(muster service logs --raw turning | cmp - <(seq -f 'line %.0f' 9000) && echo same)" same \
  'lines after rotating'
is "$(muster service logs --raw --tail 2500 turning | head -1)" 'line 6501' 'tail through files'
muster service rm turning >/dev/null

note 'drivers: none, journald, syslog; options that are wrong'
fails "unknown log opt 'max-sise' for json-file log driver" muster service create --name wrong \
  --log-driver json-file --log-opt max-sise=1m "$image" true
fails "no log driver named 'gelf' is registered" muster service create --name wrong \
  --log-driver gelf "$image" true
fails 'should be in form proto://address' muster service create --name wrong --log-driver syslog \
  --log-opt syslog-address=loghost "$image" true
muster service create --name silent --network host --log-driver none "$image" \
  sh -c "$(says unheard)" >/dev/null
fails 'configured logging driver does not support reading' muster service logs silent
muster service create --name jrnl --network host --log-driver journald --log-opt tag=jrnl \
  --log-opt labels=tier --container-label tier=back "$image" \
  sh -c 'echo to the journal; echo wrong >&2; sleep 86400' >/dev/null
await 10 'the journal has it' bash -c 'journalctl -q -D /run/log/journal -o cat CONTAINER_TAG=jrnl | grep -q "to the journal"'
is "$(journal CONTAINER_TAG=jrnl TIER=back PRIORITY=3)" wrong 'fields in the journal'
is "$(muster service logs --raw jrnl 2>/dev/null)" 'to the journal' 'a journald service is readable'

note 'syslog behind a musterd that is killed: no line is lost'
muster service create --name sys --network host --log-driver syslog --log-opt tag=sys \
  --log-opt syslog-address=unixgram:///run/systemd/journal/dev-log "$image" \
  sh -c 'i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo number $i; [ $((i % 20)) != 0 ] || sleep 0.3; done; sleep 86400' \
  >/dev/null
fails 'configured logging driver does not support reading' muster service logs sys
muster service logs -f --raw web >"$out" 2>&1 &
reader=$!
await 10 'following' holds "$out" 'out 3'
kill_daemon
status=0
wait "$reader" || status=$?
is "$status" 1 'the exit code of a reader whose manager was killed'
has "$(cat "$out")" 'the log stream was cut off' 'what it says'
has "$(cat "$out")" 'go on with --since 2' 'how to go on'
start_daemon
arrived() { [[ $(journal SYSLOG_IDENTIFIER=sys | sort -u | wc -l) == 300 ]]; }
await 30 'all numbers are in the journal' arrived
twice=$(journal SYSLOG_IDENTIFIER=sys | sort | uniq -d | wc -l)
((twice <= 64)) || die "$twice lines were sent twice"
is "$(muster service logs --raw web 2>/dev/null | wc -l)" 6 'the log is whole after the restart'

note 'the default driver of the swarm'
muster swarm update --default-log-driver local --default-log-opt max-size=1m >/dev/null
fails 'default log driver: logger: no log driver' muster swarm update --default-log-driver nope
muster swarm update --default-log-driver none >/dev/null
muster service create --name quiet --network host "$image" sh -c "$(says unheard)" >/dev/null
fails 'configured logging driver does not support reading' muster service logs quiet
muster swarm update --default-log-driver '' >/dev/null

note 'stack logs'
cat >"$NODE/stack.yml" <<YAML
version: "3.8"
services:
  a: {image: $image, command: ["sh", "-c", "echo from a; sleep 86400"], networks: [host]}
  b: {image: $image, command: ["sh", "-c", "echo from b; sleep 86400"], networks: [host]}
networks: {host: {external: true}}
YAML
muster stack deploy -c "$NODE/stack.yml" shop >/dev/null
await 20 'both services' bash -c '[[ $(muster stack logs --raw shop | sort) == $'"'from a\nfrom b'"' ]]'
is "$(muster stack logs --raw shop b)" 'from b' 'one service of a stack'
fails 'nothing found in stack: none' muster stack logs none
muster stack rm shop >/dev/null

note 'events: with reasons, and going on behind a restart'
muster events --since "$(date +%s)" --filter type=service --filter type=task >"$out" 2>&1 &
reader=$!
muster service create --detach --name failing --network host --restart-condition none "$image" \
  sh -c 'exit 3' >/dev/null
await 10 'the reason of a failure' holds "$out" 'exitCode=3'
has "$(grep 'exitCode=3' "$out" | tail -1)" 'error=task: non-zero exit (3)' 'the reason'
kill_daemon
start_daemon
muster service create --detach --name later --network host "$image" sleep 86400 >/dev/null
await 20 'events after the restart' holds "$out" 'name=later'
kill -0 "$reader" || die 'events ended with the manager'
kill "$reader"
wait "$reader" 2>/dev/null || true
has "$(muster events --since 10m --until 0s --filter service=failing)" 'exitCode=3' 'events kept'
muster swarm update --event-retention 2s >/dev/null
forgotten() {
  muster service update --detach --label-add "a=$RANDOM" web >/dev/null
  [[ $(muster events --since 10m --until 0s 2>/dev/null) != *exitCode=3* ]]
}
await 20 'older events are gone' forgotten
has "$(muster events --since 10m --until 0s 2>&1 >/dev/null)" 'the earliest events are no longer kept' \
  'that something is missing is told'

muster service rm $(muster service ls -q) >/dev/null
finish
