#!/usr/bin/env bash
# No connection is dropped by a stop: what is under way when a task is updated, scaled away or moved
# may end first, within the service's drain time, also when musterd is killed meanwhile. What has no
# connections stops at once, and what nobody waits for does so with them.
source tests/integration/lib.sh "$@"
start_registry
push_images busybox
start_node
image=$REGISTRY/busybox:1
port=$(free_port)

# Pages /cgi-bin/slow?SECONDS that take that long. The shell ends with the stop signal, and with it
# everything in the container.
serve='mkdir -p /www/cgi-bin; printf "#!/bin/sh\necho; echo begin; sleep \$QUERY_STRING; echo end of \$V\n" >/www/cgi-bin/slow
chmod +x /www/cgi-bin/slow; trap "exit 0" TERM; httpd -f -p 80 -h /www & wait'
url=http://127.0.0.1:$port/cgi-bin/slow
# Without a health check a new task is led to as soon as it runs, which may be before it listens.
LED=(--retry 5 --retry-delay 1 --retry-connrefused)
# begin SECONDS FILE: asks for a page, and returns when the first line is there
begin() {
  curl -sS -N -m 30 "${LED[@]}" "$url?$1" >"$2" 2>&1 &
  PAGE=$!
  await 5 'the page begins' grep -q begin "$2"
}
now_ms() { date +%s%3N; }
page=$NODE/page

note 'a page under way is sent to its end while its task is updated'
muster service create --detach=false --name web -p "$port:80" --update-monitor 0s --env V=1 \
  "$image" sh -c "$serve" >/dev/null
is "$(curl -fsS -m 5 "${LED[@]}" "$url?0" | tail -1)" 'end of 1' 'the page'
begin 3 "$page"
muster service update --detach=false --env-add V=2 web >/dev/null
wait "$PAGE" || die "the page broke off: $(cat "$page")"
is "$(tail -1 "$page")" 'end of 1' 'the page under way'
is "$(curl -fsS -m 5 "${LED[@]}" "$url?0" | tail -1)" 'end of 2' 'the page afterwards'

note 'also when musterd is killed meanwhile'
begin 4 "$page"
muster service update --detach --env-add V=3 web >/dev/null
told() { [[ $(muster service ps --filter desired-state=shutdown -q web | wc -l) == 2 ]]; }
await 5 'the old task is told to stop' told
kill_daemon
start_daemon
wait "$PAGE" || die "the page broke off: $(cat "$page")"
is "$(tail -1 "$page")" 'end of 2' 'the page under way'
new_page() { [[ $(curl -fsS -m 5 "$url?0" | tail -1) == 'end of 3' ]]; }
await 20 'the new page' new_page

note 'a task without connections stops at once, and one with some within the drain time'
muster service update --detach=false --drain-timeout 30s web >/dev/null
began=$(now_ms)
muster service update --detach=false --env-add V=4 web >/dev/null
took=$(($(now_ms) - began))
((took < 15000 * slow)) || die "the update of an idle task took $took ms"
muster service update --detach=false --drain-timeout 1s --env-add V=5 web >/dev/null
is "$(muster service inspect --format '{{.Spec.EndpointSpec.DrainTimeout}}' web)" 1000000000 'DrainTimeout'
has "$(muster service inspect --pretty web)" 'Drain Timeout:' 'inspect --pretty'
begin 20 "$page"
began=$(now_ms)
muster service update --detach=false --env-add V=6 web >/dev/null
took=$(($(now_ms) - began))
wait "$PAGE" || true
hasnt "$(cat "$page")" end 'a page that takes too long'
((took >= 1000)) || die "connections were given $took ms"
((took < 8000 * slow)) || die "a drain time of 1s lasted $took ms"
has "$(grep 'known to have ended' "$NODE/musterd.log")" 'is stopped after its drain time of 1s' 'the log'
muster service update --detach=false --drain-timeout 0 --env-add V=7 web >/dev/null
begin 20 "$page"
began=$(now_ms)
muster service update --detach=false --env-add V=8 web >/dev/null
took=$(($(now_ms) - began))
wait "$PAGE" || true
((took < 12000 * slow)) || die "without a drain time an update took $took ms"

note 'a page under way is sent to its end while its task is scaled away'
muster service update --detach=false --drain-timeout 10s web >/dev/null
begin 3 "$page"
muster service scale --detach=false web=0 >/dev/null
wait "$PAGE" || die "the page broke off: $(cat "$page")"
is "$(tail -1 "$page")" 'end of 8' 'the page under way'

note 'a service that is removed ends at once'
muster service scale --detach=false web=1 >/dev/null
begin 20 "$page"
muster service rm web >/dev/null
gone() { [[ -z $(muster ps -q) ]]; }
await 8 'its container ends' gone
wait "$PAGE" || true

note 'bad values are refused'
fails '"-1s" is negative' muster service create --drain-timeout -1s "$image" true
fails 'are waited for 100ms to 10s' muster swarm update --drain-ack-timeout 1m
muster swarm update --drain-ack-timeout 500ms >/dev/null
has "$(muster info)" 'Drain Acknowledgement Timeout: 500ms' 'muster info'
finish
