#!/usr/bin/env bash
# The Debian package: installed, run as its unit does, upgraded under running containers, removed and
# purged. All of it on a copy-on-write view of this host's root in a mount namespace of its own: the
# host's packages, /etc and /var stay as they are.
if [[ ${2:-} != inside ]]; then
  source tests/integration/lib.sh "$@"
  note 'build the package'
  MUSTER_DEB_COMPRESSION=none deploy/packaging/build-deb.sh "$(dirname "$BIN")" "$NODE" >/dev/null
  deploy/packaging/images/build.sh --out "$NODE/images" busybox >/dev/null
  tar -C "$NODE/images/busybox" -cf "$NODE/busybox.tar" .
  # The same again with a higher version; unpacked files are what an upgrade replaces.
  dpkg-deb -R "$NODE"/muster_*.deb "$NODE/newer"
  sed -i 's/^Version: .*/&+2/' "$NODE/newer/DEBIAN/control"
  dpkg-deb -Znone -b "$NODE/newer" "$NODE/newer.deb" >/dev/null

  mkdir -p "$NODE"/{root,upper,work,lib,tmp}
  # shellcheck disable=SC2016
  unshare --mount --propagation private bash -euc '
    node=$1 checkout=$2
    mount -t overlay overlay -o "lowerdir=/,upperdir=$node/upper,workdir=$node/work" "$node/root"
    for folder in proc sys dev; do mount --rbind "/$folder" "$node/root/$folder"; done
    mount -t tmpfs tmpfs "$node/root/run"
    mkdir -p "$node/root/var/lib/muster" "$node/root/$checkout" "$node/root/$node"
    # Layers of containers need a real file system below, not this overlay.
    mount --bind "$node/lib" "$node/root/var/lib/muster"
    mount --bind "$checkout" "$node/root/$checkout"
    mount --bind "$node" "$node/root/$node"
    cd "$node/root"
    mkdir -p mnt
    pivot_root . mnt
    umount -l mnt
    cd "$checkout"
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
      tests/integration/package_test.sh "$node" inside
  ' bash "$NODE" "$PWD"
  exit
fi

set -euo pipefail
packages=$1
BIN=/usr/bin
# The checks without lib.sh's set-up of a node.
source tests/integration/common.sh
eval "$(sed -n '/^free_port()/,/^}/p' tests/integration/lib.sh)"
NODE=/var/lib/muster RUN=/run/muster
die() { echo "FAILED: $*" >&2; tail -20 /run/musterd.log >&2; exit 1; }
trap '[[ -z ${daemon:-} ]] || kill $daemon 2>/dev/null; musterd --end-containers 2>/dev/null || true' EXIT

install_package() { dpkg -i "$1" >/run/dpkg.log 2>&1 || { cat /run/dpkg.log >&2; die "dpkg -i $1"; }; }
# As systemd does with the unit.
start() {
  local command
  command=$(sed -n 's/^ExecStart=//p' /lib/systemd/system/musterd.service)
  $command >>/run/musterd.log 2>&1 </dev/null &
  daemon=$!
  await 15 'musterd answers' muster info
}
stop() {
  kill "$daemon"
  wait "$daemon" || die "musterd ended with $?"
  daemon=
}
pids() { muster ps --format '{{.Pid}}' | sort; }
whole() { [[ $(muster service ls --format '{{.Replicas}}') == 3/3 && $(pids | wc -l) == 3 ]]; }
kernel() {  # what a node may leave in it
  grep -o '/\(var/lib\|run\)/muster/[^ ]*' /proc/self/mountinfo || true
  pgrep -fa '^[^ ]*conmon .*/var/lib/muster/' || true
  pgrep -fa '^[^ ]*musterd netd .*/run/muster/' || true
  find /sys/fs/cgroup -maxdepth 3 -type d -path "*/muster/$instance" || true
  nft list tables | grep "$instance" || true
}

note 'install'
install_package "$packages"/muster_*.deb
getent group muster >/dev/null || die 'there is no group muster'
for file in /usr/share/bash-completion/completions/muster /usr/share/zsh/vendor-completions/_muster \
  /usr/share/doc/muster/README.md /usr/share/doc/muster/docs/cli.md /usr/libexec/muster/muster-runtime-shim; do
  [[ -s $file ]] || die "$file is missing"
done
is "$(dpkg -V muster)" '' 'dpkg -V'
unit=$(</lib/systemd/system/musterd.service)
has "$unit" $'\nDelegate=yes\n' 'the unit'
has "$unit" $'\nKillMode=process\n' 'the unit'
start
is "$(stat -c '%a %G' /run/muster/muster.sock)" '660 muster' 'mode and group of the socket'

note 'containers'
address=127.0.0.1:$(free_port)
muster swarm init --listen-addr "$address" --advertise-addr "$address" >/dev/null
muster image load -q -i "$packages/busybox.tar"
muster service create --name keep --network host --replicas 3 busybox:1 \
  sh -c 'trap "exit 0" TERM; sleep 86400 & wait' >/dev/null
before=$(pids)
instance=$(sed 's/.*"instance_id":"\([^"]*\)".*/\1/' /var/lib/muster/node.json)
is "$(wc -w <<<"$before")" 3 'containers'

note 'an upgrade keeps them and the edited configuration'
echo 'log-level: debug' >>/etc/muster/musterd.yaml
install_package "$packages/newer.deb"
has "$(dpkg-query -W -f '${Version}' muster)" +2 'version after the upgrade'
is "$(pids)" "$before" 'containers while the new package is in place'
stop  # "systemctl restart" of the postinst
start
await 15 'the service is whole' whole
is "$(pids)" "$before" 'containers after the upgrade'
has "$(</etc/muster/musterd.yaml)" 'log-level: debug' 'the configuration'

note 'a removal ends them and keeps the state'
stop  # "systemctl stop" of the prerm
dpkg -r muster >/dev/null
for pid in $before; do ! kill -0 "$pid" 2>/dev/null || die "container $pid outlived the package"; done
is "$(kernel)" '' 'left in the kernel'
[[ -s /var/lib/muster/node.json ]] || die 'the state is gone'

note 'an installation after it goes on where the first one ended'
install_package "$packages/newer.deb"
start
await 30 'the service is whole' whole
stop
dpkg -r muster >/dev/null

note 'a purge takes the rest'
dpkg -P muster >/dev/null 2>&1
is "$(ls -A /var/lib/muster 2>/dev/null)" '' 'state after the purge'  # the folder is a mount here
for path in /etc/muster /run/muster /usr/bin/musterd /lib/systemd/system/musterd.service; do
  [[ ! -e $path ]] || die "$path is left"
done
is "$(kernel)" '' 'left in the kernel'
trap - EXIT
echo "$checks checks passed"
