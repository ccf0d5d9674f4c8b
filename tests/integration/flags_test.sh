#!/usr/bin/env bash
# What the options of `service create` and `update` say is looked for where it counts: in the
# container, in its cgroup and in /proc.
source tests/integration/lib.sh "$@"
export MUSTER_MONITOR=0s
start_registry
push_images busybox
start_node
image=$REGISTRY/busybox:1
loop='trap "exit 0" TERM USR1; while :; do sleep 86400 & wait; done'
pid_of() { pids_of "$1" | head -1; }
# label SERVICE KEY: of its container.
label() {
  local id
  id=$(muster ps --no-trunc --format '{{.ID}} {{.Names}}' | awk -v s="$1." 'index($2, s) == 1 {print $1}')
  jq -r --arg key "$2" '.annotations[$key]' "$NODE/data/agent/containers/$id/config.json"
}
in_it() { muster exec "$1.1" "${@:2}"; }
# status FIELD PID: of the process, without its name.
status() { awk -v f="$1:" '$1 == f {$1 = ""; print substr($0, 2)}' "/proc/$2/status"; }
# group CONTROLLER FILE-ON-V1 FILE-ON-V2 PID: what the process's cgroup says.
group() {
  local v1 v2
  v1=$(awk -F: -v c="$1" '$2 ~ "(^|,)" c "(,|$)" {print $3; exit}' "/proc/$4/cgroup")
  v2=$(awk -F: '$1 == 0 {print $3; exit}' "/proc/$4/cgroup")
  cat "/sys/fs/cgroup/$1$v1/$2" 2>/dev/null || cat "/sys/fs/cgroup$v2/$3" 2>/dev/null || echo absent
}
mkdir -p "$NODE/host/below"
echo host >"$NODE/host/file"
mount -t tmpfs tmpfs "$NODE/host/below"
trap 'status=$?; umount -l "$NODE/host/below" 2>/dev/null || true; set +e; (exit "$status"); cleanup' EXIT

note 'one service with everything'
muster network create back >/dev/null
printf 'FILE=f\n# no\n' >"$NODE/env"
muster service create --name all --network name=back,alias=everything --replicas 1 \
  --label tier=test --container-label purpose=flags --env A=1 --env-file "$NODE/env" \
  --env 'WHO={{.Service.Name}}.{{.Task.Slot}} on {{.Node.Hostname}}' --env PATH \
  --hostname 'h{{.Task.Slot}}' --workdir /tmp --group 4242 --group 4343 --tty --init --read-only \
  --stop-signal USR1 --stop-grace-period 60s \
  --limit-cpu 0.5 --limit-memory 64m --memory-swap 32m --limit-pids 77 --reserve-memory 32m \
  --oom-score-adj 321 --ulimit nofile=111:222 --ulimit core=0 \
  --sysctl net.core.somaxconn=777 --sysctl kernel.msgmax=9999 \
  --cap-add net_admin --cap-drop CHOWN --cap-drop mknod \
  --dns 10.9.8.7 --dns-search example.test --dns-option ndots:3 --host 'db:10.1.2.3' \
  --mount "type=bind,source=$NODE/host,target=/ro,readonly" \
  --mount "type=bind,source=$NODE/host,target=/half,readonly,bind-recursive=writable" \
  --mount type=tmpfs,target=/scratch,tmpfs-size=1m,tmpfs-mode=1770 \
  --mount 'source={{.Service.Name}}-{{.Task.Slot}},target=/data,volume-label=made=here' \
  --mount "type=image,source=$image,target=/image" \
  --mount "type=image,source=$image,target=/image-etc,image-subpath=etc" \
  --restart-condition none --entrypoint 'sh -c' "$image" "$loop" 'two words' >/dev/null
pid=$(pid_of all)

note 'who it is'
is "$(in_it all hostname)" h1 'hostname'
is "$(in_it all sh -c 'echo $WHO')" "all.1 on $(hostname)" 'templates in the environment'
is "$(in_it all sh -c 'echo $A$FILE')" 1f 'environment'
is "$(in_it all readlink /proc/1/cwd)" /tmp 'working directory'
is "$(label all purpose)" flags 'container label'
is "$(label all tier)" null 'a label of the service is none of its containers'
has "$(in_it all readlink /proc/1/fd/1)" /pts/ 'terminal'
is "$(in_it all readlink /proc/1/exe)" /sbin/docker-init 'init is process 1'
has "$(tr '\0' '\n' <"/proc/$pid/cmdline")" 'two words' 'arguments after the entrypoint'
has " $(status Groups "$pid") " ' 4242 ' 'additional group'
has " $(status Groups "$pid") " ' 4343 ' 'additional group'

note 'what it may'
bit() { echo $((16#$(status CapEff "$pid" | tr -d ' \t') >> $1 & 1)); }
is "$(bit 12)" 1 'CAP_NET_ADMIN'
is "$(bit 0)" 0 'CAP_CHOWN'
is "$(bit 27)" 0 'CAP_MKNOD'
is "$(bit 6)" 1 'CAP_SETGID, of the usual ones'
fails 'Read-only file system' in_it all touch /file
is "$(in_it all cat /proc/sys/net/core/somaxconn)" 777 'sysctl of the network'
is "$(in_it all cat /proc/sys/kernel/msgmax)" 9999 'sysctl of IPC'

note 'what it gets'
is "$(awk '/Max open files/ {print $4 ":" $5}' "/proc/$pid/limits")" 111:222 'open files'
is "$(awk '/Max core file/ {print $5 ":" $6}' "/proc/$pid/limits")" 0:0 'core files'
is "$(cat "/proc/$pid/oom_score_adj")" 321 'oom_score_adj'
is "$(group memory memory.limit_in_bytes memory.max "$pid")" $((64 << 20)) 'memory limit'
swap=$(group memory memory.memsw.limit_in_bytes memory.swap.max "$pid")
case $swap in
  absent) note "this kernel does not account for swap" ;;
  $((96 << 20)) | $((32 << 20))) checks=$((checks + 1)) ;;
  *) die "swap limit: got '$swap'" ;;
esac
is "$(group pids pids.max pids.max "$pid")" 77 'process limit'
quota=$(group cpu cpu.cfs_quota_us cpu.max "$pid")
is "${quota%% *}" 50000 'CPU limit'

note 'names'
has "$(in_it all cat /etc/resolv.conf)" 'search example.test' 'dns-search'
has "$(in_it all cat /etc/resolv.conf)" 'options ndots:3' 'dns-option'
has "$(in_it all cat /etc/hosts)" $'10.1.2.3\tdb' 'host'

note 'mounts'
is "$(in_it all cat /ro/file)" host 'bind'
fails 'Read-only file system' in_it all touch /ro/x
fails 'Read-only file system' in_it all touch /ro/below/x
fails 'Read-only file system' in_it all touch /half/x
in_it all touch /half/below/x || die 'bind-recursive=writable'
[[ -e $NODE/host/below/x ]] || die 'what is below a bind'
is "$(in_it all stat -c %a /scratch)" 1770 'tmpfs mode'
has "$(in_it all grep ' /scratch ' /proc/mounts)" size=1024k 'tmpfs size'
has "$(in_it all grep ' /dev/shm ' /proc/mounts)" size=65536k 'shared memory'
in_it all touch /data/x || die 'volume'
has "$(muster volume ls -q)" all-1 'template in a volume name'
is "$(muster volume inspect -f '{{index .Labels "made"}}' all-1)" here 'volume label'
[[ -n $(in_it all ls /image/bin) ]] || die 'image mount'
is "$(in_it all ls /image-etc)" "$(in_it all ls /image/etc)" 'image-subpath'
fails 'Read-only file system' in_it all touch /image/x

note 'updates add, change and take away'
muster service update --env-rm A --env-add B=2 --cap-drop NET_ADMIN --mount-rm /image \
  --mount-rm /image-etc --host-rm db --host-add web:10.1.2.4 --ulimit-rm nofile --group-rm 4343 \
  --dns-rm 10.9.8.7 --sysctl-rm net.core.somaxconn --tty=false --read-only=false --init=false \
  --container-label-add purpose=update --label-rm tier --limit-pids 0 --stop-signal TERM \
  --network-rm back --entrypoint 'sh -c' all >/dev/null
pid=$(pid_of all)
is "$(in_it all sh -c 'echo $A$B')" 2 'environment after the update'
is "$(bit 12)" 0 'CAP_NET_ADMIN after the update'
is "$(in_it all sh -c 'test -e /image && echo there || echo gone')" gone 'mount after the update'
hasnt "$(in_it all cat /etc/hosts)" db 'host after the update'
has "$(in_it all cat /etc/hosts)" $'10.1.2.4\tweb' 'host after the update'
hasnt " $(status Groups "$pid") " ' 4343 ' 'group after the update'
hasnt "$(in_it all cat /etc/resolv.conf)" 10.9.8.7 'dns after the update'
in_it all touch /file || die 'the root is writable after the update'
hasnt "$(in_it all readlink /proc/1/exe)" docker-init 'no init after the update'
is "$(label all purpose)" update 'container label after the update'
note 'a rollback brings all of it back'
muster service rollback all >/dev/null
pid=$(pid_of all)
is "$(bit 12)" 1 'CAP_NET_ADMIN after the rollback'
is "$(in_it all readlink /proc/1/exe)" /sbin/docker-init 'init after the rollback'
[[ -n $(in_it all ls /image/bin) ]] || die 'image mount after the rollback'

note 'the stop signal is the one asked for: its grace period is not used up'
muster service rm all >/dev/null
await 15 'it stopped by USR1' bash -c '[[ -z $(muster ps -q) ]]'
await 10 'the roots of the container and of its images are gone' \
  bash -c "! grep -q '$NODE/data/images/roots' /proc/self/mountinfo"

note 'local volumes: tmpfs, bind, options that fail, parts, no copy'
mkdir "$NODE/exported"
muster service create --name vols --network host --restart-condition none --dns 10.9.8.7 \
  --mount 'source=mem,target=/mem,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,"volume-opt=o=size=1m,uid=7"' \
  --mount "source=bound,target=/bound,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=$NODE/exported" \
  --mount 'source=bare,target=/etc,volume-nocopy' --mount 'source=full,target=/bin2' \
  "$image" sh -c "$loop" >/dev/null
is "$(in_it vols grep ^nameserver /etc/resolv.conf)" 'nameserver 10.9.8.7' 'dns'
has "$(in_it vols grep ' /mem ' /proc/mounts)" 'size=1024k' 'tmpfs volume'
is "$(in_it vols stat -c %u /mem)" 7 'options of a tmpfs volume'
in_it vols sh -c 'mkdir /bound/part && echo in >/bound/part/file' || die 'bind volume'
is "$(cat "$NODE/exported/part/file")" in 'what a bind volume leads to'
is "$(in_it vols ls /etc | grep -vE 'resolv.conf|hosts|hostname|mtab')" '' 'a volume without copy'
muster service create --name part --network host --restart-condition none \
  --mount 'source=bound,target=/part,volume-subpath=part' "$image" sh -c "$loop" >/dev/null
is "$(in_it part cat /part/file)" in 'a part of a volume'
muster service create --detach --name nopart --network host --restart-condition none \
  --mount 'source=bound,target=/part,volume-subpath=../..' "$image" true >/dev/null
await 15 'a part outside' bash -c "muster service ps --no-trunc nopart | grep -qE 'Rejected|Failed'"
muster service create --detach --name badvol --network host --restart-condition none \
  --mount 'source=bad,target=/bad,volume-opt=typ=nfs' "$image" true >/dev/null
await 15 'a bad option' bash -c "muster service ps --no-trunc badvol | grep -qF 'invalid option: \"typ\"'"
muster service create --detach --name nfs --network host --restart-condition none \
  --mount 'source=nfs,target=/n,volume-opt=type=nfs,volume-opt=device=:/x,"volume-opt=o=addr=127.0.0.1,nfsvers=4,soft,timeo=1,retrans=0,port=1"' \
  "$image" true >/dev/null
await 60 'no NFS server' bash -c "muster service ps --no-trunc nfs | grep -qF 'failed to mount local volume: mount :/x:'"
muster service rm vols part nopart badvol nfs >/dev/null
await 20 'all gone' bash -c '[[ -z $(muster ps -q) ]]'
[[ -e $NODE/exported/part/file ]] || die 'a bind volume was emptied'

note 'wrong combinations are told'
fails 'network nope not found' muster service create --network nope "$image"
fails "can't be used with dnsrr mode" muster service create --endpoint-mode dnsrr -p 80:80 "$image"
fails 'expanding hostname failed' muster service create --hostname '{{.Nope}}' "$image"
fails 'duplicate mount target' muster service create --mount src=aa,dst=/a --mount src=bb,dst=/a "$image"
fails 'is not a valid repository/tag' muster service create 'Not An Image'
fails "sysctl 'kernel.panic' is not allowed" muster service create --sysctl kernel.panic=1 "$image"
fails 'invalid ulimit type: files' muster service create --ulimit files=1 "$image"
muster service create --detach --name hostnet --network host --restart-condition none \
  --sysctl net.core.somaxconn=1 "$image" true >/dev/null
await 15 'a sysctl of the host' bash -c "muster service ps --no-trunc hostnet |
  grep -qF 'not allowed in host network namespace'"
fails 'does not have a previous spec' muster service rollback hostnet
fails 'does not have a previous spec' muster service update --rollback hostnet
fails 'other flags may not be combined with --rollback' muster service update --rollback --force hostnet
fails 'service nosuch not found' muster service update --force nosuch
muster service rm hostnet >/dev/null
muster network rm back >/dev/null

note 'an update during an update takes its place'
muster service create --name busy --network host --replicas 3 --update-delay 60s --env V=1 \
  --stop-grace-period 1s "$image" sh -c "$loop" >/dev/null
muster service update --detach --env-add V=2 busy >/dev/null
await 15 'the first update is at work' bash -c "for p in \$(muster ps --format '{{.Pid}}'); do
  tr '\\0' '\\n' <\"/proc/\$p/environ\"; done | grep -qx V=2"
muster service update --update-delay 0s --env-add V=3 busy >/dev/null
is "$(for p in $(pids_of busy); do tr '\0' '\n' <"/proc/$p/environ" | grep ^V=; done | sort | uniq -c |
  tr -s ' ')" ' 3 V=3' 'replicas after two updates'
muster service rm busy >/dev/null
await 20 'busy is gone' bash -c '[[ -z $(muster ps -q) ]]'
umount "$NODE/host/below"
finish
