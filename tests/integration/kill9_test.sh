#!/usr/bin/env bash
# musterd killed again and again in the middle of preparing, starting and stopping containers: in the
# end there is exactly what was asked for, and nothing beside it.
source tests/integration/lib.sh "$@"
start_registry
push_images busybox
start_node
image=$REGISTRY/busybox:1

# Volumes, tmpfs, a health check and a network each: all that a container can hold.
muster service create --detach --name many --replicas 0 --stop-grace-period 1s \
  --mount type=volume,target=/v --mount type=tmpfs,target=/t \
  --health-cmd true --health-interval 1s "$image" \
  sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null

note 'killed at twenty moments of scaling up and down'
RANDOM=20  # the same moments every time, as far as the machine's speed allows
for round in {1..20}; do
  muster service scale --detach many=$((RANDOM % 7)) >/dev/null
  if ((round % 4 == 0)); then muster image prune -a -f >/dev/null 2>&1 & fi
  sleep 0.$((RANDOM % 60 + 10))  # no event to wait for: any moment is to be right
  kill_daemon
  start_daemon
done
muster service scale --detach many=5 >/dev/null
await 60 'five of five' runs many 5

note 'of everything there are five'
five() { [[ $("${@:2}" | wc -l) == 5 ]] || { echo "$1: $("${@:2}" | wc -l)"; return 1; }; }
volatile=$RUN/$INSTANCE
# Those of networks are beside them.
containers_namespaces() { ls "$volatile/netns" | grep -v '^net-'; }
exactly() {
  five monitors pgrep -f "conmon.*$NODE" && five roots ls "$NODE/data/images/roots" &&
    five mounts grep "$NODE/data/images/roots" /proc/self/mountinfo &&
    five volumes ls "$NODE/data/volumes" && five states ls "$volatile/oci" &&
    five namespaces containers_namespaces && five cgroups cgroups
}
cgroups() {
  find /sys/fs/cgroup -path "*/muster/$INSTANCE/*" -type d -printf '%f\n' | grep -E '^[0-9a-f]{64}$' | sort -u
}
await 20 'exactly five' exactly
is "$(ls "$NODE/data/images/tmp")" '' 'temporary files of pulls'
is "$(find "$NODE/data" -name '*.tmp[0-9]*')" '' 'temporary files'
muster service rm many >/dev/null
await 20 'all gone' bash -c '[[ -z $(muster ps -q) ]]'
is "$(ls "$volatile/exec")" '' 'exec sessions'
finish
