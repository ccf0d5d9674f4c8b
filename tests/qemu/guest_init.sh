# First process of the test machine once it has its root (tests/qemu/guest.sh): what a host's init
# makes ready before it starts musterd, then the command, then power off. Read by busybox's shell.
set -e
. /run/guest/command
bin=/run/guest/busybox
host=/run/guest/host
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM

finish() {  # EXIT-CODE or "failed"
  echo "$1" >/dev/hvc1
  $bin poweroff -f
}
trap 'finish failed' EXIT  # of what comes before the command; its message is on the console

mount_base() {
  # As systemd does: mounts made later reach the namespaces of the containers that asked for it.
  $bin mount --make-rshared /
  $bin mount -t proc -o nosuid,nodev,noexec proc /proc
  $bin mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
  $bin mkdir -p /dev/pts /dev/shm /dev/mqueue
  $bin mount -t devpts -o mode=620,gid=5,ptmxmode=666 devpts /dev/pts
  $bin mount -t tmpfs -o mode=1777 shm /dev/shm
  $bin mount -t mqueue mqueue /dev/mqueue
  $bin mount -t tmpfs -o mode=1777 tmp /tmp
  $bin mount -t tmpfs -o mode=1777 tmp /var/tmp
  $bin mount -t tmpfs -o mode=755 log /var/log
  # Container images are overlays, whose upper folder can be neither on virtiofs nor on the root,
  # which is an overlay itself. What dpkg knows stays visible.
  $bin mount -t tmpfs -o mode=755 lib /var/lib
  $bin mkdir -p /var/lib/dpkg /run/lock /run/netns
  $bin mount --bind $host/var/lib/dpkg /var/lib/dpkg
  # The checkout itself, wherever it is, straight from the host.
  $bin mkdir -p "$TREE"
  $bin mount --bind "$host$TREE" "$TREE"
  $bin ln -sf /proc/self/fd /dev/fd
  $bin ln -sf fd/0 /dev/stdin
  $bin ln -sf fd/1 /dev/stdout
  $bin ln -sf fd/2 /dev/stderr
}

# Modules load by themselves as on any host: the kernel calls /sbin/modprobe. Those that nothing
# asks for by name are loaded here.
load_modules() {
  $bin ln -sf /run/guest/busybox /usr/sbin/modprobe
  $bin mkdir -p /lib/modules
  $bin mount --bind "$host$KERNEL/lib/modules" /lib/modules
  for module in bridge veth vxlan nf_conntrack nf_tables nft_chain_nat br_netfilter \
    ip_vs ip_vs_rr ip_vs_wrr ip_vs_sh; do
    $bin modprobe $module
  done
}

in_controller() {  # CONTROLLERS FOLDER...: mounts one v1 hierarchy
  $bin mkdir -p /sys/fs/cgroup/$1
  $bin mount -t cgroup -o $1 cgroup /sys/fs/cgroup/$1
}

# The three layouts as systemd makes them, with the command in a service's cgroup, so that what must
# outlive a service has to leave it.
mount_cgroups() {
  service=system.slice/guest.service
  if [ $CGROUPS = v2 ]; then
    $bin mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
    echo '+memory +pids' >/sys/fs/cgroup/cgroup.subtree_control
    $bin mkdir -p /sys/fs/cgroup/$service
    return
  fi
  $bin mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  for controllers in cpu,cpuacct net_cls,net_prio cpuset blkio memory devices freezer pids \
    perf_event hugetlb rdma; do
    in_controller $controllers
  done
  for name in cpu cpuacct; do $bin ln -s cpu,cpuacct /sys/fs/cgroup/$name; done
  for name in net_cls net_prio; do $bin ln -s net_cls,net_prio /sys/fs/cgroup/$name; done
  $bin mkdir -p /sys/fs/cgroup/systemd
  $bin mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
  for name in systemd cpu,cpuacct blkio memory devices pids; do
    $bin mkdir -p /sys/fs/cgroup/$name/$service
  done
  if [ $CGROUPS = hybrid ]; then
    $bin mkdir /sys/fs/cgroup/unified
    $bin mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup/unified
    $bin mkdir -p /sys/fs/cgroup/unified/$service
  fi
}

join_service() {
  for procs in /sys/fs/cgroup/$service/cgroup.procs /sys/fs/cgroup/*/$service/cgroup.procs; do
    [ ! -e $procs ] || echo $1 >$procs
  done
}

exec </dev/null >/dev/console 2>&1
mount_base
mount_cgroups
load_modules
$bin hostname guest
$bin ip link set lo up

# The terminal forgets its settings whenever nobody has it open.
cat >/run/guest/start.sh <<'START'
. /run/guest/command
cd "$FOLDER"
if [ -z "$INTERACTIVE" ]; then
  stty raw -echo
  exec </dev/null
else
  stty sane -onlcr  # QEMU leaves that to the host's terminal
  [ "$SIZE" = '0 0' ] || stty rows ${SIZE% *} cols ${SIZE#* }
fi
measured=$("$TREE/tests/qemu/slowness.sh")
echo "slow $measured" >/dev/hvc1
export MUSTER_TEST_SLOW=${measured% *}
run
START
# The shell that joins the service's cgroup becomes the command; this one only reaps. The command is
# for the host's shell: busybox's takes its own tools for those of the same name.
(
  read -r self rest </proc/self/stat
  join_service $self
  exec $bin setsid $bin sh -c 'exec /bin/sh /run/guest/start.sh <>/dev/hvc0 >&0 2>&1'
) &
child=$!
code=0
wait $child || code=$?
trap - EXIT
finish $code
