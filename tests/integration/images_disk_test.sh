#!/usr/bin/env bash
# A node whose disk is full says so, keeps what it had, and goes on when there is space again.
source tests/integration/lib.sh "$@"

disk=/var/lib/muster-test-disk-$$
# The node goes before its disk does.
trap 'status=$?
  set +e
  ( (exit "$status"); cleanup )
  umount -l "$disk" && rmdir "$disk"
  exit "$status"' EXIT
mkdir "$disk"
mount -t tmpfs -o size=160m,mode=755 muster-test "$disk"
mkdir "$disk/data"
ln -s "$disk/data" "$NODE/data"

start_registry
push_images busybox
start_node
image=$REGISTRY/busybox:1
store=$disk/data/images
free_mb() { df --output=avail -m "$disk" | tail -1 | tr -d ' '; }
fill_to() { head -c "$(($(free_mb) - $1))M" /dev/zero >"$disk/filler$1" 2>/dev/null || true; }
try_service() {
  muster service create --detach --name "$1" --network host --restart-condition none "$2" \
    sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
}
says() { await 20 "service ps $1: $2" bash -c "muster service ps --no-trunc $1 | grep -qF '$2'"; }
temporaries() { ls "$store/tmp"; }

# build NAME: pushes an image of one layer, $NODE/NAME/file.
build() {
  tar -c -C "$NODE/$1" -f "$NODE/$1.tar" file
  rm "$NODE/$1/file"
  umoci --log error init --layout "$NODE/$1/layout"
  umoci --log error new --image "$NODE/$1/layout:1"
  umoci --log error raw add-layer --image "$NODE/$1/layout:1" "$NODE/$1.tar"
  skopeo copy --insecure-policy --quiet --dest-tls-verify=false "oci:$NODE/$1/layout:1" \
    "docker://$REGISTRY/$1:1"
}
mkdir "$NODE/big" "$NODE/wide"
head -c 200M /dev/zero | tr '\0' 'x' >"$NODE/big/file"
head -c 10M /dev/urandom >"$NODE/wide/file"
build big
build wide

note 'an image that unpacks to more than the disk holds'
before=$(free_mb)
fails 'No space left on device' muster image pull "$REGISTRY/big:1"
try_service big "$REGISTRY/big:1"
says big 'No space left on device'
is "$(temporaries)" '' 'temporary files'
is "$(ls "$store/blobs/sha256")" '' 'blobs'
((before - $(free_mb) <= 20)) || die "free before $before MB, after $(free_mb) MB"

# The log may have given up the room that it keeps for itself while the disk was full. It takes no
# changes before it has that again.
as_before() { (($(free_mb) <= before + 20)); }
await 20 'the log has its reserve again' as_before
await 20 'the log takes changes again' muster node update --label-add looked=again self

note 'no space for a download'
fill_to 45
fails 'no space left on device' muster image pull "$REGISTRY/wide:1"
try_service wide "$REGISTRY/wide:1"
says wide 'no space left on device'
has "$(muster service ps --no-trunc wide)" 'are free under' 'the error names the disk'

note 'no space at all: what runs goes on, what is acknowledged stays'
rm "$disk"/filler*
muster service create --name keeps --network host "$image" \
  sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
pid=$(pids_of keeps)
fill_to 0
fails 'o space left on device' muster image load -i "$NODE/big.tar"
fails 'is full' muster service create --name late --network host "$image"
kill -0 "$pid" || die 'the container ended with the disk full'
runs keeps 1 || die 'the service is not shown any more'

note 'space again: it all goes on without a restart'
rm "$disk"/filler*
muster service rm wide big >/dev/null
try_service wide "$REGISTRY/busybox:1"
await 20 'the service runs' runs wide 1
is "$(pids_of keeps)" "$pid" 'the container that ran all along'
kill_daemon
start_daemon
await 15 'adopted' runs keeps 1
is "$(pids_of keeps)" "$pid" 'the container after a restart'
muster service rm keeps wide >/dev/null
await 20 'all gone' bash -c '[[ -z $(muster ps -q) ]]'
finish
is "$(grep -o "$disk/[^ ]*" /proc/self/mountinfo || true)" '' 'mounts on the disk'
