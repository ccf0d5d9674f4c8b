#!/usr/bin/env bash
# The peer of `muster-bench deploy`: dockerd in swarm mode, one node, host network, the same busybox.
# Prints "name unit value" lines. Needs root and Debian's docker.io; starts a dockerd of its own and
# removes what it made.
#   tests/bench/deploy_peer.sh RUNS
set -euo pipefail
runs=${1:-5}
command -v dockerd >/dev/null || { echo 'dockerd is missing: install docker.io' >&2; exit 1; }
dir=$(mktemp -d /var/lib/muster-bench-peer-XXXXXX)
export DOCKER_HOST=unix://$dir/docker.sock
# In namespaces of its own: its bridges, rules and mounts go with it, whatever it forgets.
unshare --net --mount --propagation slave sh -c 'ip link set lo up && exec "$@"' sh \
  dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" -H "$DOCKER_HOST" \
  --oom-score-adjust 0 >"$dir/log" 2>&1 &
daemon=$!
cleanup() {
  docker swarm leave --force >/dev/null 2>&1 || true
  kill "$daemon" 2>/dev/null || true
  wait "$daemon" 2>/dev/null || true
  # Empty folders of ended containers; one in use stays.
  find /sys/fs/cgroup -depth -type d -path '*/docker*' -exec rmdir {} + 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT
for _ in $(seq 300); do docker info >/dev/null 2>&1 && break; sleep 0.1; done
docker swarm init --advertise-addr 127.0.0.1 >/dev/null
"$(dirname "$0")/../../deploy/packaging/images/build.sh" --out "$dir/images" busybox >/dev/null
skopeo copy -q --insecure-policy "oci:$dir/images/busybox:busybox:1" \
  "docker-archive:$dir/busybox.tar:busybox:1"
docker load -q -i "$dir/busybox.tar" >/dev/null

api() { curl -sS --unix-socket "$dir/docker.sock" "http://d/v1.41/$1"; }
running() { api "tasks?filters=%7B%22service%22%3A%5B%22bench%22%5D%2C%22desired-state%22%3A%5B%22running%22%5D%7D" |
  grep -o '"State":"running"' | wc -l; }
left() { api "containers/json" | grep -o '"Id":"' | wc -l; }
until_is() { while [[ $("$1") != "$2" ]]; do sleep 0.05; done; }
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN {print b - a}'; }

for _ in $(seq "$runs"); do
  start=$(now)
  docker service create -d -q --name bench --network host --replicas 20 --update-parallelism 0 \
    --no-resolve-image busybox:1 sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
  until_is running 20
  echo "create20_host_s s $(since "$start")"
  start=$(now)
  docker service update -d -q --replicas 60 --no-resolve-image bench >/dev/null
  until_is running 60
  echo "scale60_host_s s $(since "$start")"
  rss=$(ps -e -o rss=,args= | awk -v d="$dir" '/dockerd|containerd/ && index($0, d) {s += $1} END {print s / 1024}')
  echo "rss60_mib MiB $rss"
  before=$(docker ps -q | sort)
  start=$(now)
  docker service update -d -q --force --no-resolve-image bench >/dev/null
  until [[ $(running) == 60 && -z $(comm -12 <(echo "$before") <(docker ps -q | sort)) ]]; do
    sleep 0.05
  done
  echo "update60_host_s s $(since "$start")"
  start=$(now)
  docker service rm bench >/dev/null
  until_is left 0
  echo "remove60_host_s s $(since "$start")"
done
