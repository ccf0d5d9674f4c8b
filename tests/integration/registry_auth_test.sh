#!/usr/bin/env bash
# Images of a service: pinned to the digest their tag has now, pulled with the service's own
# credentials, which nobody gets to read.
source tests/integration/lib.sh "$@"
export MUSTER_MONITOR=0s
start_registry
push_images busybox
start_node
password=opensesame
htpasswd -Bbn ada $password >"$RUN/htpasswd" 2>/dev/null
htpasswd -Bbn bob other-$password >>"$RUN/htpasswd" 2>/dev/null
PRIVATE=127.0.0.1:$(free_port)
cat >"$RUN/private.yml" <<CONFIG
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $NODE/private}}
http: {addr: $PRIVATE}
auth: {htpasswd: {realm: test, path: $RUN/htpasswd}}
CONFIG
serve_private() {
  # REGISTRY_* would be settings of the registry.
  env -u REGISTRY_AUTH_FILE docker-registry serve "$RUN/private.yml" >>"$NODE/private.log" 2>&1 </dev/null &
  PRIVATE_PID=$!
  await 10 'the private registry' curl -sS -o "$RUN/answer" "http://$PRIVATE/v2/"
}
serve_private
trap 'status=$?; set +e; kill "$PRIVATE_PID" 2>/dev/null; (exit "$status"); cleanup' EXIT
copy() { skopeo copy --insecure-policy --quiet --src-tls-verify=false --dest-tls-verify=false "$@"; }
digest_of() { skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$1"; }
auth_file() { jq -n --arg r "$PRIVATE" --arg a "$(printf %s "$1" | base64 -w0)" '{auths: {($r): {auth: $a}}}'; }
image_of() { muster service inspect -f '{{.Spec.TaskTemplate.ContainerSpec.Image}}' "$1"; }
open=$REGISTRY/busybox:1
image=$PRIVATE/app:1
copy --dest-creds "ada:$password" "docker://$open" "docker://$image"
auth_file "ada:$password" >"$RUN/auth.json"
auth_file "bob:other-$password" >"$RUN/bob.json"
echo '{}' >"$RUN/none.json"
export REGISTRY_AUTH_FILE=$RUN/none.json
run=(sh -c 'trap "exit 0" TERM; while :; do sleep 86400 & wait; done')
try() { muster service create --network host --restart-delay 1s --stop-grace-period 1s "$@"; }

note 'the tag is pinned to its digest, by the manager'
digest=$(digest_of "$open")
try --name pinned "$open" "${run[@]}" >/dev/null
is "$(image_of pinned)" "$open@$digest" 'image of the service'
is "$(muster service inspect -f '{{range .Spec.TaskTemplate.Placement.Platforms}}{{.OS}}{{end}}' pinned)" linux \
  'platform of the image'
is "$(muster service ls --format '{{.Image}}')" "$open" 'image as service ls shows it'
try --detach --name loose --no-resolve-image "$open" "${run[@]}" >/dev/null
is "$(image_of loose)" "$open" 'image with --no-resolve-image'

note 'a tag that moves takes nobody along, but who asks'
mkdir "$NODE/moved"
copy "docker://$open" "dir:$NODE/moved"
config=$NODE/moved/$(jq -r .config.digest "$NODE/moved/manifest.json" | cut -d: -f2)
jq -c '.config.Env += ["MOVED=1"]' "$config" >"$NODE/config"
sum=$(sha256sum <"$NODE/config" | cut -d' ' -f1)
jq -c --arg d "sha256:$sum" --argjson s "$(stat -c %s "$NODE/config")" \
  '.config.digest = $d | .config.size = $s' "$NODE/moved/manifest.json" >"$NODE/manifest"
mv "$NODE/config" "$NODE/moved/$sum"
mv "$NODE/manifest" "$NODE/moved/manifest.json"
copy "dir:$NODE/moved" "docker://$open"
moved=$(digest_of "$open")
[[ $moved != "$digest" ]] || die 'the tag did not move'
muster service update --force pinned >/dev/null
is "$(image_of pinned)" "$open@$digest" 'image after --force'
muster service update --image "$open" pinned >/dev/null
is "$(image_of pinned)" "$open@$moved" 'image after --image of the same tag'
has "$(tr '\0' '\n' <"/proc/$(pids_of pinned)/environ")" MOVED=1 'environment of the new image'

note 'an image for another platform runs nowhere, and says so'
cp -r "$NODE/moved" "$NODE/arm"
config=$NODE/arm/$sum
jq -c '.architecture = "arm64"' "$config" >"$NODE/config"
sum=$(sha256sum <"$NODE/config" | cut -d' ' -f1)
jq -c --arg d "sha256:$sum" --argjson s "$(stat -c %s "$NODE/config")" \
  '.config.digest = $d | .config.size = $s' "$NODE/moved/manifest.json" >"$NODE/arm/manifest.json"
mv "$NODE/config" "$NODE/arm/$sum"
copy "dir:$NODE/arm" "docker://$REGISTRY/arm:1"
if [[ $(uname -m) == x86_64 ]]; then
  try --detach --name arm "$REGISTRY/arm:1" "${run[@]}" >/dev/null
  await 15 'no node for arm64' bash -c "muster service ps --no-trunc arm | grep -qF 'unsupported platform on 1 node'"
  muster service rm arm >/dev/null
fi

note 'without credentials: a warning, and the reason in the task'
out=$(try --detach --name app "$image" "${run[@]}" 2>&1 >/dev/null)
has "$out" "image $image could not be accessed on a registry to record its digest. Each node will access $image independently, possibly leading to different nodes running different versions of the image." \
  'warning of an image that cannot be looked up'
is "$(image_of app)" "$image" 'the image is not pinned'
await 20 'the pull is denied' bash -c "muster service ps --no-trunc app | grep -qF 'pull access denied'"
has "$(muster service update --detach --with-registry-auth app 2>&1)" "no credentials for $PRIVATE" \
  'warning of missing credentials'

note 'with them the same service runs'
export REGISTRY_AUTH_FILE=$RUN/auth.json
muster service update --with-registry-auth --image "$image" app >/dev/null
is "$(image_of app)" "$image@$(digest_of "$open" >/dev/null; skopeo inspect --tls-verify=false --creds "ada:$password" --format '{{.Digest}}' "docker://$image")" \
  'pinned with the credentials'

note 'other credentials alone restart nothing'
before=$(pids_of app)
REGISTRY_AUTH_FILE=$RUN/bob.json muster service update --with-registry-auth app >/dev/null
is "$(pids_of app)" "$before" 'containers after new credentials'

note 'an update without them uses those the service has'
export REGISTRY_AUTH_FILE=$RUN/none.json
copy --dest-creds "ada:$password" "dir:$NODE/moved" "docker://$PRIVATE/app:2"
muster service update --image "$PRIVATE/app:2" app >/dev/null
has "$(image_of app)" "$PRIVATE/app:2@sha256:" 'image after the update'
has "$(tr '\0' '\n' <"/proc/$(pids_of app)/environ")" MOVED=1 'environment of the new image'
muster service rollback app >/dev/null
has "$(image_of app)" "$image@sha256:" 'image after the rollback'
# Both images go from the node: the rollback's and the update's credentials have to be there still.
muster service scale app=0 >/dev/null
await 15 'scaled down' bash -c "! muster ps --format '{{.Names}}' | grep -q '^app'"
muster image prune --all --force >/dev/null
muster service scale app=1 >/dev/null
runs app 1 || die 'the pull after the rollback failed'

note 'nobody reads them'
everything=$(muster service inspect app; muster service ps -q app | xargs muster task inspect
  muster service inspect --pretty app; muster events --since 1h --until 0s --format '{{json .}}')
for secret in "$password" "$(printf %s "ada:$password" | base64 -w0)" "$(printf %s "bob:other-$password" | base64 -w0)"; do
  hasnt "$everything" "$secret" 'what muster shows'
  hasnt "$(cat "$NODE/musterd.log")" "$secret" "musterd's log"
  readable=$(find "$NODE/data" "$RUN" -type f -perm /077 -not -name '*.json' -exec grep -lF -- "$secret" {} + || true)
  is "$readable" '' 'files that others may read'
done

note 'a stack: with them it runs; unchanged it is no update'
cat >"$NODE/stack.yml" <<YAML
version: "3.8"
services:
  web:
    image: $image
    command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 86400 & wait; done"]
    networks: [host]
networks:
  host: {external: true}
YAML
REGISTRY_AUTH_FILE=$RUN/auth.json muster stack deploy --detach=false --with-registry-auth -c "$NODE/stack.yml" shop >/dev/null
has "$(image_of shop_web)" "$image@sha256:" 'image of the stack'
before=$(pids_of shop_web)
REGISTRY_AUTH_FILE=$RUN/auth.json muster stack deploy --detach=false --with-registry-auth -c "$NODE/stack.yml" shop >/dev/null
is "$(muster service inspect shop_web | jq '.[0] | has("PreviousSpec")')" false 'a previous spec after no change'
muster stack deploy --detach=false -c "$NODE/stack.yml" shop >/dev/null
is "$(pids_of shop_web)" "$before" 'containers after the second and third deploy'

note 'a registry that is away: what is pinned stays, what is new is created unpinned'
kill "$PRIVATE_PID"
wait "$PRIVATE_PID" 2>/dev/null || true
out=$(muster stack deploy --detach=false -c "$NODE/stack.yml" shop 2>&1 >/dev/null)
has "$out" 'the service keeps the one it has' 'warning of a deploy without a registry'
is "$(pids_of shop_web)" "$before" 'containers after a deploy without a registry'
out=$(muster stack deploy --detach=false --resolve-image never -c "$NODE/stack.yml" shop 2>&1 >/dev/null)
hasnt "$out" WARNING 'a deploy that asks nothing'
out=$(muster stack deploy --detach=false --resolve-image changed -c "$NODE/stack.yml" shop 2>&1 >/dev/null)
hasnt "$out" WARNING 'a deploy of an unchanged image'
is "$(pids_of shop_web)" "$before" 'containers after deploys that ask nothing'
out=$(try --detach --name away "$image" "${run[@]}" 2>&1 >/dev/null)
has "$out" "could not be accessed on a registry to record its digest" 'warning'
has "$out" "connection refused to registry $PRIVATE" 'reason of the warning'
is "$(image_of away)" "$image" 'created nevertheless'
serve_private

note 'an image that was loaded here belongs to no registry'
skopeo copy --insecure-policy --quiet --src-tls-verify=false "docker://$open" "docker-archive:$NODE/loaded.tar:local/thing:1"
muster image load -i "$NODE/loaded.tar" >/dev/null
out=$(try --name loaded local/thing:1 "${run[@]}" 2>&1 >/dev/null)
hasnt "$out" WARNING 'a loaded image'
is "$(image_of loaded)" local/thing:1 'image of the service'
muster service ls -q | xargs muster service rm >/dev/null
await 20 'all gone' bash -c '[[ -z $(muster ps -q) ]]'
finish
