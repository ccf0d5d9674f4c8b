#!/usr/bin/env bash
# Secrets and configs of real containers: what they see, who keeps it, and that nothing of it is
# anywhere it should not be.
source tests/integration/lib.sh "$@"
start_registry
push_images busybox
start_node
image=$REGISTRY/busybox:1
forever=(sh -c 'trap "exit 0" TERM; sleep 86400 & wait')
files=$RUN/$INSTANCE/secrets
# Words that occur nowhere else; never on a command line.
word() { printf 'payload%s%s%s' "$1" $$ "$RANDOM$RANDOM"; }
first=$(word one) second=$(word two) third=$(word three)
in_web() { muster exec web.1 "$@"; }

note 'create, list, inspect'
printf %s "$first" | muster secret create -l tier=db pw - >/dev/null
printf 'host={{.Node.Hostname}} slot={{.Task.Slot}} pw={{secret "pw"}} colour={{env "COLOUR"}}\n' |
  muster config create --template-driver golang site.conf - >/dev/null
head -c 1023999 /dev/urandom >"$NODE/large"
muster config create large "$NODE/large" >/dev/null
head -c 511999 "$NODE/large" | muster secret create big - >/dev/null
has "$(muster secret ls)" pw 'secret ls'
hasnt "$(muster secret inspect pw)" "$first" 'secret inspect'
hasnt "$(muster secret inspect pw)" "$(printf %s "$first" | base64 -w0)" 'secret inspect'
has "$(muster config inspect --pretty site.conf)" 'slot={{.Task.Slot}}' 'config inspect'
is "$(muster config inspect -f '{{.Spec.Data}}' large | base64 -d | sha256sum)" \
  "$(sha256sum <"$NODE/large")" 'the data of a config'

note 'limits, names and references are checked'
fails 'secret data must be larger than 0 and less than 512000 bytes' \
  bash -c "head -c 512000 $NODE/large | muster secret create toolarge -"
fails 'config data must be larger than 0 and less than 1024000 bytes' \
  bash -c "head -c 1024000 /dev/zero | muster config create toolarge -"
fails 'invalid name' bash -c 'echo x | muster secret create -- -x -'
fails 'secret pw already exists' bash -c 'echo x | muster secret create pw -'
fails 'secret not found: nosuch' muster service create --detach --secret nosuch "$image" true
is "$(muster secret ls -q | wc -l) $(muster config ls -q | wc -l)" '2 2' 'what was refused is not there'

note 'a container sees its files'
muster service create --name web --network host --env COLOUR=blue --stop-grace-period 1s \
  --secret pw --secret source=pw,target=/etc/app/key,uid=1000,gid=2000,mode=0400 --secret big \
  --config site.conf --config source=large,target=/srv/large,mode=0440 "$image" "${forever[@]}" >/dev/null
is "$(in_web cat /run/secrets/pw)" "$first" 'a secret'
is "$(in_web stat -c '%u %g %a' /run/secrets/pw)" '0 0 444' 'its owner and mode'
is "$(in_web stat -c '%u %g %a' /etc/app/key)" '1000 2000 400' 'owner and mode as asked'
is "$(in_web cat /etc/app/key)" "$first" 'a secret at an absolute path'
is "$(in_web sha256sum /srv/large | cut -d' ' -f1)" "$(sha256sum "$NODE/large" | cut -d' ' -f1)" 'the largest config'
is "$(in_web sha256sum /run/secrets/big | cut -d' ' -f1)" \
  "$(head -c 511999 "$NODE/large" | sha256sum | cut -d' ' -f1)" 'the largest secret'
is "$(in_web cat /site.conf)" "host=$(muster node inspect -f '{{.Description.Hostname}}' self) slot=1 pw=$first colour=blue" \
  'an expanded template'

note 'in memory, read-only, closed to others'
pid=$(pids_of web)
for path in /run/secrets/pw /etc/app/key /site.conf; do
  has "tmpfs ramfs" "$(findmnt -N "$pid" -no FSTYPE "$path")" "the file system of $path"
  options=,$(findmnt -N "$pid" -no VFS-OPTIONS "$path"),
  for option in ro nosuid nodev noexec; do has "$options" ",$option," "options of $path"; done
done
fails '' muster exec web.1 sh -c 'echo x >/run/secrets/pw'
is "$(stat -c '%u %a' "$files")" '0 700' 'the directory on the host'
is "$(ls "$files" | wc -l)" 1 'containers with files'

note 'also in a read-only root, below a mount, and for another user'
muster service create --name closed --network host --read-only --user 1000:2000 --stop-grace-period 1s \
  --mount type=tmpfs,target=/run --secret source=pw,target=own,uid=1000,mode=0400 \
  --secret source=pw,target=group,gid=2000,mode=0040 --secret source=pw,target=roots,mode=0400 \
  --config source=site.conf,target=/etc/deep/down/site.conf --secret pw "$image" "${forever[@]}" >/dev/null
is "$(muster exec closed.1 cat /run/secrets/own)" "$first" 'a secret of its own'
is "$(muster exec closed.1 cat /run/secrets/group)" "$first" 'a secret of its group'
fails 'ermission denied' muster exec closed.1 cat /run/secrets/roots
has "$(muster exec closed.1 cat /etc/deep/down/site.conf)" "pw=$first" 'a config in a directory of its own'
muster service rm closed >/dev/null
await 15 'its files are gone' bash -c "[[ \$(ls $files | wc -l) == 1 ]]"

note 'what is in use is not removed'
fails "secret 'pw' is in use by the following service: web" muster secret rm pw
fails "config 'large' is in use by the following service: web" muster config rm large
has "$(muster service inspect web)" '"SecretName": "pw"' 'service inspect'

note 'a killed musterd: the container keeps its files, the next one adopts it'
before=$(pids_of web)
kill_daemon
is "$(cat "/proc/$pid/root/run/secrets/pw")" "$first" 'while musterd is away'
start_daemon
await 15 'web is still there' runs web 1
is "$(pids_of web)" "$before" 'the container after the restart'
is "$(in_web cat /run/secrets/pw)" "$first" 'after the restart'

note 'rotation: a new name takes the old one’s place'
printf %s "$second" | muster secret create pw2 - >/dev/null
muster service update --secret-rm pw --secret-add source=pw2,target=pw --config-rm site.conf web >/dev/null
await 15 'the new container' runs web 1
is "$(in_web cat /run/secrets/pw)" "$second" 'the new secret at the old place'
fails '' muster exec web.1 cat /etc/app/key
await 15 'the old files are gone' bash -c "[[ \$(ls $files | wc -l) == 1 ]]"
muster secret rm pw >/dev/null
hasnt "$(muster secret ls)" 'pw ' 'secret ls after rm'

note 'a template that fails says where, and not what'
printf 'x {{secret "pw"}} {{range secret "pw"}}{{end}}' |
  muster config create --template-driver golang broken - >/dev/null
muster service create --detach --name broken --restart-condition none --network host \
  --secret source=pw2,target=pw --config broken "$image" true >/dev/null
await 15 'the reason' bash -c "muster service ps --no-trunc broken |
  grep -q 'config broken cannot be expanded: template line 1'"
hasnt "$(muster service ps --no-trunc broken)" "$second" 'the reason'
muster service rm broken >/dev/null
fails 'template cannot be parsed: template line 1' \
  bash -c "printf '{{$third' | muster secret create --template-driver golang bad -"

note 'killed at ten moments of starting and stopping'
muster service create --detach --name many --replicas 0 --network host --stop-grace-period 1s \
  --secret pw2 --config large "$image" "${forever[@]}" >/dev/null
RANDOM=10  # the same moments every time, as far as the machine's speed allows
for round in {1..10}; do
  muster service scale --detach many=$((RANDOM % 4)) >/dev/null
  sleep 0.$((RANDOM % 60 + 10))  # no event to wait for: any moment is to be right
  kill_daemon
  start_daemon
done
muster service scale --detach many=2 >/dev/null
await 60 'two of two' runs many 2
await 20 'files of three containers' bash -c "[[ \$(ls $files | wc -l) == 3 ]]"
is "$(grep -c " $files/" /proc/self/mountinfo)" 3 'mounts of three containers'

note 'stacks bring theirs and take them along'
printf %s "$third" >"$NODE/key.txt"
cat >"$NODE/stack.yml" <<STACK
services:
  app:
    image: $image
    command: ["sh", "-c", "trap 'exit 0' TERM; sleep 86400 & wait"]
    networks: [host]
    secrets: [key, {source: env_key, target: from_env, mode: 0400}, shared]
    configs: [{source: motd, target: /etc/motd}]
networks:
  host: {external: true}
secrets:
  key: {file: ./key.txt, labels: {a: b}}
  env_key: {environment: TEST_KEY}
  shared: {external: true, name: pw2}
configs:
  motd: {content: "hello from \${TEST_NAME}\n"}
STACK
export TEST_NAME=stack TEST_KEY=$third-env
muster stack deploy --detach=false -c "$NODE/stack.yml" shop >/dev/null
in_app() { muster exec shop_app.1 "$@"; }
is "$(in_app cat /run/secrets/key)" "$third" 'a secret from a file'
is "$(in_app cat /run/secrets/from_env)" "$third-env" 'a secret from the environment'
is "$(in_app cat /run/secrets/shared)" "$second" 'an external secret'
is "$(in_app cat /etc/motd)" 'hello from stack' 'a config from the file itself'
before=$(muster ps -q | sort)
muster stack deploy --detach=false -c "$NODE/stack.yml" shop >/dev/null
is "$(muster ps -q | sort)" "$before" 'containers after a second deploy'
printf %s "$third-changed" >"$NODE/key.txt"
fails 'only updates to Labels are allowed' muster stack deploy --detach -c "$NODE/stack.yml" shop
fails 'name: shop_key_2' muster stack deploy --detach -c "$NODE/stack.yml" shop
sed -i 's/key: {file: .\/key.txt/&, name: shop_key_2/' "$NODE/stack.yml"
muster stack deploy --detach=false -c "$NODE/stack.yml" shop >/dev/null
is "$(in_app cat /run/secrets/key)" "$third-changed" 'the new secret'
muster stack rm shop >/dev/null
hasnt "$(muster secret ls) $(muster config ls)" shop_ 'after stack rm'

note 'events name them and show nothing'
events=$(muster events --since 1h --until 0s --format json)
for want in '"Type":"secret","Action":"create"' '"Type":"config","Action":"create"' \
  '"Type":"secret","Action":"remove"'; do has "$events" "$want" events; done
has "$events" '"name":"pw2"' 'events'

note 'the last user leaves: nothing is left on this node'
muster service rm web many >/dev/null
await 20 'all gone' bash -c '[[ -z $(muster ps -q) ]]'
await 15 'no files' bash -c "[[ -z \$(ls $files) ]]"
hasnt "$(cat /proc/self/mountinfo)" "$files/" 'mounts'
muster secret rm pw2 big >/dev/null
muster config rm site.conf large broken >/dev/null

note 'no payload on the disk, in a log or in an event'
rm "$NODE/key.txt" "$NODE/large"
for payload in "$first" "$second" "$third"; do
  # The log of the cluster's state is encrypted, so all of the directory can be looked through.
  is "$(grep -rlaF "$payload" "$NODE" "$RUN" || true)" '' 'files with a payload'
  is "$(grep -rlaF "$(printf %s "$payload" | base64 -w0 | cut -c1-40)" "$NODE" "$RUN" || true)" '' \
    'files with a payload in base64'
  hasnt "$events" "$payload" 'events'
done

note 'whoever ends the containers takes the files along'
printf %s "$first" | muster secret create pw - >/dev/null
muster service create --name web --network host --secret pw "$image" "${forever[@]}" >/dev/null
kill_daemon
is "$(ls "$files" | wc -l)" 1 'files of the container'
"$BIN/musterd" --end-containers --log-level error --data-dir "$NODE/data" --socket "$RUN/muster.sock"
hasnt "$(cat /proc/self/mountinfo)" "$RUN" 'mounts after --end-containers'
start_daemon
# Until the agent has reported, the count is the one of before.
reads_first() { [[ $(in_web cat /run/secrets/pw 2>/dev/null) == "$first" ]]; }
await 30 'the secret is there again' reads_first
finish
