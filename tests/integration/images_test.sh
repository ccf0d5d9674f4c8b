#!/usr/bin/env bash
# Images: where they come from, what is wrong with some of them, and that a node tells it where its
# user looks and keeps nothing of what it could not use.
source tests/integration/lib.sh "$@"

# ---------------------------------------------------------------- registries and images of one's own

registries=()
trap 'status=$?
  set +e
  ((${#registries[@]} == 0)) || kill -KILL "${registries[@]}"
  (exit "$status")
  cleanup' EXIT
# serve NAME [MORE-YAML]: another registry; its address is in $SERVED, its process in $SERVER.
serve() {
  SERVED=127.0.0.1:$(free_port)
  cat >"$RUN/$1.yml" <<CONFIG
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $NODE/$1}}
http: {addr: $SERVED}
${2:-}
CONFIG
  docker-registry serve "$RUN/$1.yml" >"$NODE/$1.log" 2>&1 </dev/null &
  SERVER=$!
  registries+=("$SERVER")
  disown "$SERVER"
  await 10 "registry $1" curl -sS -o "$RUN/answer" "http://$SERVED/v2/"
}
copy() { skopeo copy --insecure-policy --quiet --src-tls-verify=false --dest-tls-verify=false "$@"; }

# make_layout DIR NAME LAYER.tar.gz: an OCI layout whose image is this layer over busybox.
make_layout() {
  local dir=$1 name=$2 layer=$3 base=$NODE/images/busybox digest config manifest
  rm -rf "$dir"
  cp -r "$base" "$dir"
  local blobs=$dir/blobs/sha256
  manifest=$(jq -r '.manifests[0].digest' "$base/index.json")
  config=$(jq -r .config.digest "$blobs/${manifest#*:}")
  digest=$(sha256sum <"$layer" | cut -d' ' -f1)
  cp "$layer" "$blobs/$digest"
  local diff_id
  diff_id=$(zcat "$layer" 2>/dev/null | sha256sum | cut -d' ' -f1) || true
  jq -c --arg id "sha256:$diff_id" '.rootfs.diff_ids += [$id]' "$blobs/${config#*:}" >"$dir/config"
  config=$(sha256sum <"$dir/config" | cut -d' ' -f1)
  jq -c --arg config "sha256:$config" --argjson size "$(stat -c %s "$dir/config")" \
    --arg layer "sha256:$digest" --argjson bytes "$(stat -c %s "$layer")" \
    '.config.digest = $config | .config.size = $size | .layers += [{
      mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: $layer, size: $bytes}]' \
    "$blobs/${manifest#*:}" >"$dir/manifest"
  mv "$dir/config" "$blobs/$config"
  manifest=$(sha256sum <"$dir/manifest" | cut -d' ' -f1)
  jq -c --arg manifest "sha256:$manifest" --argjson size "$(stat -c %s "$dir/manifest")" --arg name "$name" \
    '.manifests[0] |= (.digest = $manifest | .size = $size | .annotations = {
      "org.opencontainers.image.ref.name": $name})' "$dir/index.json" >"$dir/index"
  mv "$dir/manifest" "$blobs/$manifest"
  mv "$dir/index" "$dir/index.json"
}
push() { copy "oci:$1" "docker://$REGISTRY/$2:1"; }
# The file of a blob in the first registry.
stored() { echo "$NODE/registry/docker/registry/v2/blobs/sha256/${1:0:2}/$1/data"; }

# says SERVICE TEXT: the task list of the service comes to say TEXT.
says() { await 20 "service ps $1: $2" bash -c "muster service ps --no-trunc $1 | grep -qF '$2'"; }
try_service() {
  muster service create --detach --name "$1" --network host --restart-condition none "${@:3}" "$2" \
    sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
}
store=$NODE/data/images
temporaries() { ls "$store/tmp"; }
blobs() { ls "$store/blobs/sha256" | wc -l; }

start_registry
push_images busybox
copy "oci:$NODE/images/busybox" "docker://$REGISTRY/schema2:1" --format v2s2
serve mirror
MIRROR=$SERVED
copy "oci:$NODE/images/busybox" "docker://$MIRROR/library/mirrored:1"
htpasswd -Bbn ada right >"$RUN/htpasswd" 2>/dev/null
serve private "auth: {htpasswd: {realm: test, path: $RUN/htpasswd}}"
PRIVATE=$SERVED
copy --dest-creds ada:right "oci:$NODE/images/busybox" "docker://$PRIVATE/busybox:1"
start_node --registry-mirror http://127.0.0.1:1 --registry-mirror "http://$MIRROR"

# ---------------------------------------------------------------- where they come from

note 'by tag and by digest, whose digest is that of the manifest as the registry has it'
for name in busybox schema2; do
  digest=sha256:$(curl -fsS "http://$REGISTRY/v2/$name/manifests/1" \
    -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
    -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' | sha256sum | cut -d' ' -f1)
  has "$(muster image pull "$REGISTRY/$name:1")" "Digest: $digest" "pull of $name by tag"
  muster image rm "$REGISTRY/$name:1" >/dev/null
  muster image pull -q "$REGISTRY/$name@$digest" >/dev/null
  has "$(muster image ls --digests)" "$digest" 'image ls'
done
try_service bydigest "$REGISTRY/schema2@$digest"
await 15 'a service by digest runs' runs bydigest 1

note 'a mirror that is down is passed over, the next one serves docker.io'
muster image pull -q mirrored:1 >/dev/null
has "$(muster image ls)" mirrored 'image ls'

note 'archives and layouts'
copy "oci:$NODE/images/busybox" "docker-archive:$NODE/docker.tar:example.org/one:1"
copy "oci:$NODE/images/busybox" "oci-archive:$NODE/oci.tar:example.org/two:1"
tar -c -C /etc hostname | gzip >"$NODE/hostname.tar.gz"
make_layout "$NODE/layout" example.org/three:1 "$NODE/hostname.tar.gz"
tar -c -C "$NODE/layout" . >"$NODE/layout.tar"
is "$(muster image load -i "$NODE/docker.tar")" 'Loaded image: example.org/one:1' 'docker archive'
is "$(muster image load -i "$NODE/oci.tar")" 'Loaded image: example.org/two:1' 'OCI archive'
is "$(muster image load <"$NODE/layout.tar")" 'Loaded image: example.org/three:1' 'OCI layout'
for name in one two three; do
  try_service "$name" "example.org/$name:1"
  await 15 "a service of the loaded $name runs" runs "$name" 1
done
has "$(muster exec "$(muster ps -q --filter name=three)" cat /hostname)" "$(cat /etc/hostname)" \
  'the layer of the layout'
head -c 100000 "$NODE/layout.tar" >"$NODE/short.tar"
fails 'cannot load the archive' muster image load -i "$NODE/short.tar"
fails 'neither a docker archive nor an OCI layout' muster image load -i "$NODE/hostname.tar.gz"

# ---------------------------------------------------------------- what cannot be had

note 'unknown names'
fails "manifest for $REGISTRY/busybox:2 not found: manifest unknown" \
  muster image pull "$REGISTRY/busybox:2"
fails "manifest for $REGISTRY/nosuch:1 not found: manifest unknown" \
  muster image pull "$REGISTRY/nosuch:1"
fails 'manifest unknown' muster image pull "$REGISTRY/busybox@sha256:$(printf '0%.0s' {1..64})"
fails 'invalid reference format' muster image pull 'Not A Name'
try_service nosuch "$REGISTRY/nosuch:1"
says nosuch 'not found: manifest unknown'

note 'a registry that does not answer'
nobody=127.0.0.1:$(free_port)
fails "connection refused to registry $nobody" muster image pull "$nobody/busybox:1"
try_service nobody "$nobody/busybox:1"
says nobody "connection refused to registry $nobody"

note 'credentials: none, wrong, right'
login() {
  mkdir -p "$RUN/docker"
  printf '{"auths":{"%s":{"auth":"%s"}}}' "$PRIVATE" "$(printf %s "$1" | base64)" >"$RUN/docker/config.json"
}
export DOCKER_CONFIG=$RUN/docker
fails "pull access denied for $PRIVATE/busybox" muster image pull "$PRIVATE/busybox:1"
try_service stranger "$PRIVATE/busybox:1"
says stranger "pull access denied for $PRIVATE/busybox"
login ada:wrong
fails "pull access denied for $PRIVATE/busybox" muster image pull "$PRIVATE/busybox:1"
login ada:right
try_service friend "$PRIVATE/busybox:1" --with-registry-auth
await 15 'a service with credentials runs' runs friend 1
hasnt "$(grep -r "$(printf ada:right | base64)" "$store" || true)" ada 'credentials in the image store'

note 'blobs that the registry has damaged: cut off, changed; then mended'
tar -c -C /etc passwd | gzip >"$NODE/passwd.tar.gz"
make_layout "$NODE/layout" damaged:1 "$NODE/passwd.tar.gz"
push "$NODE/layout" damaged
layer=$(sha256sum <"$NODE/passwd.tar.gz" | cut -d' ' -f1)
before=$(blobs)
truncate -s 20 "$(stored "$layer")"
fails 'damaged' muster image pull "$REGISTRY/damaged:1"
try_service cutoff "$REGISTRY/damaged:1"
says cutoff "the download of $REGISTRY/damaged:1@"
says cutoff "is damaged"
tr '\0-\377' '\1-\377\0' <"$NODE/passwd.tar.gz" >"$(stored "$layer")"
fails 'damaged' muster image pull "$REGISTRY/damaged:1"
is "$(temporaries)" '' 'what damaged downloads left'
is "$(blobs)" "$before" 'blobs that damaged downloads left'
cp "$NODE/passwd.tar.gz" "$(stored "$layer")"
muster image pull -q "$REGISTRY/damaged:1" >/dev/null
await 10 'now it is there' bash -c "muster image ls | grep -q damaged"

# ---------------------------------------------------------------- what is not to be trusted

note 'layers that reach out of the image'
victim=$NODE/victim
mkdir -p "$victim" "$NODE/evil"
echo precious >"$victim/file"
cd "$NODE/evil"
echo evil >f
ln f g
ln -s "$victim" door
tar -P -cf climbing.tar --transform "s,^f\$,../../../../../../../../../../..$victim/file," f
tar -cf door.tar door
tar -P -rf door.tar --transform 's,^f$,door/file,' f
tar -P -cf hardlink.tar --transform "flags=h;s,^f\$,../../../../../../..$victim/file," f g
tar -P -cf absolute.tar --transform "flags=h;s,^f\$,$victim/file," f g
cd - >/dev/null
before=$(blobs)
for attack in climbing:'leaves the image through ..' door:'goes through "door"' \
  hardlink:'leaves the image through ..' absolute:'which is missing'; do
  name=${attack%%:*}
  gzip -n "$NODE/evil/$name.tar"
  make_layout "$NODE/layout" "$name:1" "$NODE/evil/$name.tar.gz"
  push "$NODE/layout" "$name"
  fails "${attack#*:}" muster image pull "$REGISTRY/$name:1"
  try_service "$name" "$REGISTRY/$name:1"
  says "$name" "${attack#*:}"
  tar -c -C "$NODE/layout" . >"$NODE/layout.tar"
  fails "${attack#*:}" muster image load -i "$NODE/layout.tar"
done
is "$(blobs)" "$before" 'blobs that refused layers left'
is "$(cat "$victim/file") $(stat -c %h "$victim/file") $(ls "$victim")" 'precious 1 file' 'the victim'

note 'absurd sizes: a bomb, and a manifest that promises too much'
head -c 300M /dev/zero >"$NODE/evil/zeros"
tar -c -C "$NODE/evil" zeros | gzip -9n >"$NODE/evil/bomb.tar.gz"
rm "$NODE/evil/zeros"
make_layout "$NODE/layout" bomb:1 "$NODE/evil/bomb.tar.gz"
push "$NODE/layout" bomb
fails 'compressed more than 1000:1' muster image pull "$REGISTRY/bomb:1"
tar -c -C /etc group | gzip >"$NODE/group.tar.gz"
make_layout "$NODE/layout" promise:1 "$NODE/group.tar.gz"
push "$NODE/layout" promise
manifest=$NODE/layout/blobs/sha256/$(jq -r '.manifests[0].digest[7:]' "$NODE/layout/index.json")
jq -c '.layers[-1].size = 900000000000000' "$manifest" >"$NODE/promise"
curl -fsS -X PUT "http://$REGISTRY/v2/promise/manifests/1" --data-binary @"$NODE/promise" \
  -H 'Content-Type: application/vnd.oci.image.manifest.v1+json'
fails 'no space left on device' muster image pull "$REGISTRY/promise:1"
is "$(temporaries)" '' 'what refused images left'

# ---------------------------------------------------------------- removal

note 'an image in use stays'
fails 'is using it' muster image rm example.org/one:1
has "$(muster image ls)" "$REGISTRY/damaged" 'images before a prune'
muster image prune -a -f >/dev/null
has "$(muster image ls)" example.org/one 'images after a prune'
hasnt "$(muster image ls)" "$REGISTRY/damaged" 'unused images after a prune'
runs one 1 || die 'the prune took a running service'
has "$(muster exec "$(muster ps -q --filter name=one)" cat /etc/passwd)" root 'its container'

note 'with its last container it goes, and nothing of it stays'
muster service rm $(muster service ls --format '{{.Name}}') >/dev/null
await 20 'all containers are gone' bash -c '[[ -z $(muster ps -q) ]]'
await 20 'all images are gone' bash -c "muster image prune -a -f >/dev/null; [[ -z \$(muster image ls -q) ]]"
is "$(find "$store" -type f ! -name catalog.json)" '' 'files in the image store'
is "$(ls "$store/layers" "$store/roots" | grep -v : | xargs)" '' 'layers and roots'

# ---------------------------------------------------------------- killed in the middle

skopeo_runs() { pgrep -f "skopeo.*$store/tmp"; }
no_skopeo() { ! skopeo_runs; }

note 'kill -9 in the middle of a pull leaves no process and, after the next start, no file'
kill -STOP "$REGISTRY_PID"
muster image pull "$REGISTRY/busybox:1" >/dev/null 2>&1 &
puller=$!
await 10 'the pull has begun' skopeo_runs
kill_daemon
wait "$puller" && die 'the pull succeeded without a registry'
await 5 'skopeo went with its daemon' no_skopeo
kill -CONT "$REGISTRY_PID"
start_daemon
is "$(temporaries)" '' 'temporary files after the restart'
muster image pull -q "$REGISTRY/busybox:1" >/dev/null

note 'an orderly stop in the middle of a pull ends it, too'
kill -STOP "$REGISTRY_PID"
muster image pull "$REGISTRY/schema2:1" >/dev/null 2>&1 &
puller=$!
await 10 'the pull has begun' skopeo_runs
kill "$DAEMON"
wait "$DAEMON" || die "musterd ended with $?"
wait "$puller" && die 'the pull succeeded without a registry'
no_skopeo || die 'skopeo outlives an orderly stop'
is "$(temporaries)" '' 'temporary files after the stop'
kill -CONT "$REGISTRY_PID"
start_daemon

note 'without its registry an image stays, and who asks for a newer one is told'
kill "$REGISTRY_PID"
wait "$REGISTRY_PID" || true
fails "connection refused to registry $REGISTRY" muster image pull "$REGISTRY/busybox:1"
try_service alone "$REGISTRY/busybox:1"
await 15 'a service of the image runs' runs alone 1
finish
