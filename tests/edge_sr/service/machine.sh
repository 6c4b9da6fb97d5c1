#!/bin/bash
# Boots the systemd of this machine over a copy-on-write view of its root, in namespaces of its own: nothing that
# happens in there is seen out here, and all of it is gone with this process. Needs root.
#
#   machine.sh FOLDER SITE SOURCE [CGROUP]
#     FOLDER  to work in; SITE  site-packages of the tests; SOURCE  the checkout; CGROUP  a cgroup2 to make one in
set -euo pipefail
folder=$1 site=$2 source=$3

if [ "${4-}" ]; then
    mkdir "$4/edge-sr-test-$$"
    echo $$ >"$4/edge-sr-test-$$/cgroup.procs"
    exec unshare --mount --pid --fork --uts --ipc --net --cgroup --kill-child "$0" "$folder" "$site" "$source"
fi

mount --make-rprivate /
mount -t tmpfs tmpfs "$folder"
root=$folder/root
mkdir "$folder/upper" "$folder/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" overlay "$root"

# What the hardened service may see: nothing of /home, /root or /tmp.
mkdir -p "$root/opt/site" "$root/opt/source"
mount --bind "$site" "$root/opt/site"
mount --bind "$source" "$root/opt/source"
for at in run tmp dev; do mount -t tmpfs tmpfs "$root/$at"; done
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
    read -r name major minor <<<"$node"
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

# Nothing but the manager, its journal and its bus.
rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/systemd/system/edge-sr* "$root/etc/edge-sr"
echo >"$root/etc/fstab"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
for unit in systemd-{udevd,udev-trigger,networkd,resolved,logind,binfmt,timesyncd,modules-load,sysctl}.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
hostname edge-sr-test
ip link set lo up || true

cd "$root"
mkdir old
pivot_root . old
umount -l /old
mount --make-rshared /
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=edge-sr-test \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal </dev/null
