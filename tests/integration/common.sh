# Checks, a registry, and what is swept before a test, for lib.sh and cluster_lib.sh, which say what a failure shows: die().
checks=0

note() { echo "-- $*"; }
# is ACTUAL EXPECTED WHAT; has TEXT PART WHAT
is() { [[ $1 == "$2" ]] || die "$3: got '$1', expected '$2'"; checks=$((checks + 1)); }
has() { [[ $1 == *"$2"* ]] || die "$3: '$2' is not in: $1"; checks=$((checks + 1)); }
hasnt() { [[ $1 != *"$2"* ]] || die "$3: '$2' is in: $1"; checks=$((checks + 1)); }
# fails TEXT COMMAND...: exits 1 and says TEXT on stderr
fails() {
  local text=$1 out status=0
  shift
  out=$("$@" 2>&1 >/dev/null) || status=$?
  ((status != 0)) || die "succeeded: $*"
  has "$out" "$text" "the error of: $*"
}
# await SECONDS WHAT COMMAND...: until the command succeeds. An emulated machine is slower than a
# real one by the factor MUSTER_TEST_SLOW (1 to 20): it gets more time, and is asked less often.
slow=${MUSTER_TEST_SLOW:-1}
pause=0.$(printf %02d $((slow < 10 ? 5 * slow : 50)))
await() {
  local end=$((SECONDS + $1 * slow + 1)) what=$2 # SECONDS are whole ones
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || die "waited in vain for: $what"
    sleep "$pause"
  done
  checks=$((checks + 1))
}

# What a test left that was killed with everything above it: nodes in the host's network or in
# namespaces of their own, and labs. Else the next one would be given a subnet that is in use.
sweep() {
  local base pid run dir name socket enter
  for base in /var/lib/muster-test-* /var/lib/muster-demo-test-*; do
    pid=${base##*-} run=/run/muster-test-$pid
    [[ -d $base && ! -d /proc/$pid ]] || continue
    [[ ! -d $base/labs ]] || "$BIN/muster" lab down --all --dir "$base/labs" >/dev/null || true
    pkill -9 -f -- "$base/|$run/" || true
    for dir in "$base/data" "$base"/*/data; do
      [[ -d $dir ]] || continue
      socket=$run/muster.sock enter=() name=
      if [[ $dir != "$base/data" ]]; then
        name=$(basename "$(dirname "$dir")") socket=$run/$name/muster.sock
        [[ -e /run/netns/mt$pid-$name ]] || continue
        enter=(nsenter "--net=/run/netns/mt$pid-$name")
      fi
      "${enter[@]}" "$BIN/musterd" --end-containers --log-level error --data-dir "$dir" \
        --socket "$socket" || true
      [[ -z $name ]] || ip netns delete "mt$pid-$name" || true
    done
    ip link delete "mt$pid" 2>/dev/null || true
    ! mountpoint -q "$base" || umount -l "$base"
    rm -rf --one-file-system "$base" "$run"
  done
}

# left_of NAME: what this lab of $MUSTER_LAB_DIR would leave in the kernel and on the disk. Whose cgroups
# are its nodes' is known only while it is there: note_instances NAME sets INSTANCES.
left_of() {
  pgrep -fa -- "$MUSTER_LAB_DIR/$1( |/)" | sed 's/^/process /' || true
  ip -o link | grep "alias muster lab $1\$" | sed 's/^/link /' || true
  nft list tables 2>/dev/null | grep "muster_lab_$1\$" || true
  find /sys/fs/cgroup -maxdepth 2 -type d -name "muster-lab-$1" | sed 's/^/cgroup /'
  for instance in $INSTANCES; do
    find /sys/fs/cgroup -maxdepth 3 -type d -name "$instance" | sed 's/^/cgroup /'
  done
  grep -o "$MUSTER_LAB_DIR/$1[^ ]*" /proc/self/mountinfo | sed 's/^/mount /' || true
  [[ ! -e $MUSTER_LAB_DIR/$1 ]] || echo "folder $MUSTER_LAB_DIR/$1"
}
note_instances() {
  INSTANCES=$(sed -n 's/.*"instance_id":"\([^"]*\)".*/\1/p' "$MUSTER_LAB_DIR/$1"/*/data/node.json)
  [[ -n $INSTANCES ]] || die 'no instance ids'
}

# serve_registry DIR ADDRESS: sets REGISTRY and REGISTRY_PID. MUSTER_TEST_REGISTRY is the storage of a
# registry that holds every image of build.sh already.
serve_registry() {
  REGISTRY_DIR=$1 REGISTRY=$2
  mkdir -p "$REGISTRY_DIR"
  [[ -z ${MUSTER_TEST_REGISTRY:-} ]] || cp -r "$MUSTER_TEST_REGISTRY" "$REGISTRY_DIR/registry"
  cat >"$REGISTRY_DIR/registry.yml" <<CONFIG
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $REGISTRY_DIR/registry}}
http: {addr: $REGISTRY}
CONFIG
  docker-registry serve "$REGISTRY_DIR/registry.yml" >"$REGISTRY_DIR/registry.log" 2>&1 </dev/null &
  REGISTRY_PID=$!
  await 10 'the registry' curl -fsS "http://$REGISTRY/v2/"
}
push_images() {
  [[ -z ${MUSTER_TEST_REGISTRY:-} ]] || return 0
  deploy/packaging/images/build.sh --out "$REGISTRY_DIR/images" --push "$REGISTRY" "$@" >/dev/null
}
