#!/bin/busybox sh
# First program of the test machine (tests/qemu/guest.sh): makes the root out of the host's files
# below and memory above, then goes there.
set -e
busybox=/bin/busybox
$busybox mount -t devtmpfs dev /dev
$busybox mount -t proc proc /proc
for module in /modules/*; do $busybox insmod "$module"; done

$busybox mkdir -p /host /memory /root
$busybox mount -t virtiofs -o ro root /host
$busybox mount -t tmpfs -o mode=755 tmpfs /memory
$busybox mkdir -p /memory/upper /memory/work
# Mount points that the host lacks are made here, above its files.
$busybox mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root
for folder in dev proc sys run tmp var/tmp var/lib var/log; do $busybox mkdir -p /root/$folder; done
$busybox mount -t tmpfs -o mode=755 run /root/run
$busybox cp -a /guest /root/run/guest
$busybox cp $busybox /root/run/guest/busybox
$busybox mkdir /root/run/guest/host
$busybox mount --move /host /root/run/guest/host
$busybox mount --move /dev /root/dev
$busybox umount /proc
# Not chroot: in one, the kernel refuses new user namespaces.
exec $busybox switch_root /root /run/guest/busybox sh /run/guest/init.sh
