#!/usr/bin/env bash
# Runs a command inside a QEMU machine with Debian 12's cloud kernel and this host's files:
#   tests/qemu/guest.sh [--cgroups v1|hybrid|v2] [--no-ipv6] [--memory MIB] [--cpus N] \
#     [--timeout SECONDS] [--] COMMAND [ARGUMENT...]
# The command starts in the same folder, sees the same programs and checkout, writes to memory only,
# and its output and exit code are this script's. Without terminal its input is empty; on a terminal
# `guest.sh -- bash` is a shell to look around in. README.md beside this file says more.
# Exit codes of its own: 2 wrong usage, 124 time limit, 125 the machine failed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)
readonly here tree VIRTIOFSD=/usr/lib/qemu/virtiofsd
readonly USAGE="usage: $0 [--cgroups v1|hybrid|v2] [--no-ipv6] [--memory MIB] [--cpus N] [--timeout SECONDS] [--] COMMAND..."

die() { echo "guest.sh: $*" >&2; exit 125; }
usage() { echo "$USAGE" >&2; exit 2; }
number() { [[ $2 =~ ^[1-9][0-9]*$ ]] || { echo "guest.sh: $1: '$2' is not a number" >&2; usage; }; }

# Two emulated processors burn twice the time on waking and waiting for each other.
cgroups=v2 memory=2048 cpus=1 limit=300 boot=
while (($#)); do
  case $1 in
    --cgroups | --memory | --cpus | --timeout)
      (($# >= 2)) || usage
      case $1 in
        --cgroups) cgroups=$2 ;;
        --memory) number "$1" "$2"; memory=$2 ;;
        --cpus) number "$1" "$2"; cpus=$2 ;;
        --timeout) number "$1" "$2"; limit=$2 ;;
      esac
      shift 2
      ;;
    --no-ipv6) boot=' ipv6.disable=1'; shift ;;
    -h | --help) echo "$USAGE"; exit 0 ;;
    --) shift; break ;;
    -*) echo "guest.sh: unknown option '$1'" >&2; usage ;;
    *) break ;;
  esac
done
(($#)) || usage
case $cgroups in
  v1 | hybrid | v2) ;;
  *) echo "guest.sh: --cgroups: '$cgroups' is none of v1, hybrid, v2" >&2; usage ;;
esac
((EUID == 0)) || die 'needs root: it shares the whole root file system with the machine'
for need in qemu-system-x86_64:qemu-system-x86 "$VIRTIOFSD:qemu-system-common" cpio:cpio \
  busybox:busybox-static; do
  command -v "${need%%:*}" >/dev/null || die "missing Debian package: ${need#*:}"
done
kernel=$("$here/fetch_kernel.sh") || exit 125
release=$(basename "$kernel"/lib/modules/*)

# The folder of a run that was killed has nobody's lock on it any more.
for work in "${TMPDIR:-/tmp}"/muster-guest.*; do
  [[ ! -e $work/lock ]] || flock -n "$work/lock" rm -rf "$work" || true
done
work=$(mktemp -d "${TMPDIR:-/tmp}/muster-guest.XXXXXX")
exec 8>"$work/lock.new"
flock 8
mv "$work/lock.new" "$work/lock"
mkdir "$work/share" "$work/boot"
children=()
cleanup() {
  local status=$?
  trap - EXIT
  # Every program here ends with its parent too, however that one ends (setpriv --pdeathsig).
  ((${#children[@]} == 0)) || kill "${children[@]}" 2>/dev/null || true
  wait
  [[ -z ${terminal:-} ]] || stty "$terminal" 2>/dev/null || true
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# ---------------------------------------------------------------- the first file system

# What it takes to reach the shared root: modules, each after those it needs.
boot_modules() {
  awk -v wanted='virtio_pci virtio_console virtiofs overlay' '
    { sub(":", "", $1); name = $1; sub(/.*\//, "", name); sub(/\.ko$/, "", name)
      path[name] = $1; needs[name] = ""
      for (i = NF; i > 1; i--) needs[name] = needs[name] $i "\n" }
    END {
      count = split(wanted, names, " ")
      for (n = 1; n <= count; n++) printf "%s%s\n", needs[names[n]], path[names[n]]
    }' "$kernel/lib/modules/$release/modules.dep" | awk 'NF && !seen[$0]++'
}

# For the guest's sh, which does not know bash's $'...'.
quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }
assign() { printf '%s=%s\n' "$1" "$(quoted "$2")"; }

make_initramfs() {
  local root=$work/boot module word n=100
  mkdir -p "$root"/{bin,dev,proc,modules,guest}
  cp -L "$(command -v busybox)" "$root/bin/busybox"
  cp "$here/guest_boot.sh" "$root/init"
  cp "$here/guest_init.sh" "$root/guest/init.sh"
  chmod 755 "$root/init" "$root/guest/init.sh"
  for module in $(boot_modules); do
    cp "$kernel/lib/modules/$release/$module" "$root/modules/$n-$(basename "$module")"
    n=$((n + 1))
  done
  {
    assign CGROUPS "$cgroups"
    assign TREE "$tree"
    assign KERNEL "$kernel"
    assign FOLDER "$PWD"
    assign INTERACTIVE "$interactive"
    assign SIZE "$([[ -z $interactive ]] || stty size)"
    assign TERM "${TERM:-dumb}"
    # Background processes of a shell ignore Ctrl-C, and so would whatever they start.
    printf 'run() { exec env --default-signal=INT,QUIT --'
    for word; do printf ' %s' "$(quoted "$word")"; done
    printf '; }\n'
  } >"$root/guest/command"
  (cd "$root" && find . | cpio --quiet -o -H newc >"$work/initramfs")
}

# ---------------------------------------------------------------- the shared root

# Serves a read-only view of the host's disks, made in a mount namespace of its own: whatever the
# guest does, the host's files stay as they are. /run is where virtiofsd leaves a lock file.
serve_root() {
  local mount
  for mount in / $(findmnt --real -rno TARGET | grep -v '^/$') "$(findmnt -no TARGET -T "$tree")"; do
    [[ $mount != "$share"/* && -d $share$mount ]] || continue
    # Of other tests on the host, which may have gone by now.
    mount --bind "$mount" "$share$mount" || ! findmnt "$mount" >/dev/null || exit 1
    mount -o remount,bind,ro "$share$mount" || ! mountpoint -q "$share$mount" || exit 1
  done
  mount -t tmpfs tmpfs /run
  # It holds a descriptor for every file the guest knows.
  ulimit -n "$(ulimit -Hn)"
  exec "$VIRTIOFSD" --socket-path="$socket" --rlimit-nofile=0 \
    -o "source=$share,cache=always,log_level=warn"
}
export -f serve_root

interactive=
[[ -t 0 && -t 1 ]] && interactive=yes
make_initramfs "$@"

export share=$work/share socket=$work/root.sock VIRTIOFSD tree
setpriv --pdeathsig TERM unshare --mount bash -euc serve_root >"$work/virtiofsd.log" 2>&1 8>&- &
children+=($!)
until [[ -S $socket ]]; do
  kill -0 "${children[0]}" 2>/dev/null || die "virtiofsd: $(tail -3 "$work/virtiofsd.log")"
  sleep 0.02
done

# ---------------------------------------------------------------- the machine

# hvc0 carries the command's output, hvc1 how slow the machine is and the exit code: what is written there
# has reached the host when write(2) returns. The kernel's own messages go to the serial line.
machine=(
  qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot
  -M q35 -accel tcg,thread=multi -cpu max,-erms,-fsrm -smp "$cpus" -m "$memory"
  -object "memory-backend-memfd,id=ram,size=${memory}M,share=on" -numa node,memdev=ram
  -chardev "socket,id=root,path=$socket" -device vhost-user-fs-pci,chardev=root,tag=root
  -device virtio-serial-pci
  -chardev stdio,id=output,signal=off -device virtconsole,chardev=output
  -chardev "file,id=status,path=$work/status" -device virtconsole,chardev=status
  -serial "file:$work/kernel.log"
  -kernel "$kernel/vmlinuz" -initrd "$work/initramfs"
  # Emulation is slow enough without guarding against the host's processor.
  -append "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable$boot"
)
if [[ -n $interactive ]]; then
  terminal=$(stty -g)
  exec 3<&0
else
  exec 3</dev/null
fi
setpriv --pdeathsig TERM timeout --foreground --kill-after=2 "$limit" \
  setpriv --pdeathsig KILL "${machine[@]}" <&3 2>"$work/qemu.log" 8>&- &
children+=($!)
status=0
wait "${children[1]}" || status=$?
tr -d '\r' <"$work/status" >"$work/said" 2>/dev/null || true
read -r factor took <<<"$(sed -n 's/^slow //p' "$work/said")"
[[ -z $factor ]] || echo "guest.sh: MUSTER_TEST_SLOW=$factor (slowness.sh took $took ms)" >&2
code=$(grep -x '[0-9]*' "$work/said") || code=  # "failed" when init was
if [[ -n $code ]]; then exit "$code"; fi
if ((status == 124 || status == 137)); then
  echo "guest.sh: the machine was stopped after $limit seconds" >&2
  exit 124
fi
for log in virtiofsd qemu kernel; do
  echo "---- end of $log's log" >&2
  tail -n 30 "$work/$log.log" >&2 || true
done
die "the machine ended without an exit code (QEMU: $status)"
