#!/usr/bin/env bash
# A machine that systemd runs, on one that it does not: the same files under an overlay, which is thrown away, with
# processes, control groups and devices of its own. The network is this machine's.
#
#   setpriv --pdeathsig KILL unshare --mount --propagation private tests/e2e/systemd_boot.sh FOLDER [READABLE…]
#
# FOLDER/pid1 names its process 1, FOLDER/machine its first files. A reboot of it is one, any other end is the end.
# Everybody in it may read the READABLE folders.
set -euo pipefail

if [ "${1:-}" = --inside ]; then
  root=$2
  read -r pid _ </proc/self/stat
  mount -t proc proc "$root/proc"
  mount --bind "$root/proc/sys" "$root/proc/sys" && mount -o remount,bind,ro "$root/proc/sys"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs -o mode=755 dev "$root/dev"
  for device in null zero full random urandom tty; do
    touch "$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device"
  done
  mkdir "$root/dev/pts" "$root/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  for number in 0 1 2; do ln -s "/proc/self/fd/$number" "$root/dev/fd$number"; done
  ln -s /proc/self/fd "$root/dev/fd"
  mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
  mount -t tmpfs -o mode=755 run "$root/run"
  echo "$pid" >"$3/pid1"
  exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" /lib/systemd/systemd --system --unit=multi-user.target
fi

folder=$1
shift
mkdir "$folder/layers" "$folder/groups"
mount -t tmpfs -o mode=755 layers "$folder/layers"
mkdir "$folder/layers/upper" "$folder/layers/work" "$folder/layers/root"
root=$folder/layers/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/layers/upper,workdir=$folder/layers/work" "$root"
rm -rf "$root/etc/systemd/system"
mkdir "$root/etc/systemd/system"
ln -s /dev/null "$root/etc/systemd/system/getty.target"
for temporary in /tmp /var/tmp; do # what this machine has there would be deleted at the boot, file by file
  mount -t tmpfs -o mode=1777 temporary "$root$temporary"
done
for readable in "$@"; do
  if [ ! -e "$root$readable" ]; then
    mkdir -p "$root$readable"
    mount --bind "$readable" "$root$readable"
    mount -o remount,bind,ro "$root$readable"
  fi
  while readable=$(dirname "$readable") && [ "$readable" != / ]; do chmod a+x "$root$readable"; done
done
cp -a "$folder/machine/." "$root/"
chroot "$root" id -u newcomer >/dev/null 2>&1 ||
  chroot "$root" useradd --create-home --shell /bin/bash newcomer

mount -t cgroup2 cgroup2 "$folder/groups"
group=$folder/groups/refloat-machine.$$
mkdir "$group"
code=129
while [ "$code" = 129 ]; do # the first process of a pid namespace ends by SIGHUP when it asks for a reboot
  code=0
  (
    echo 0 >"$group/cgroup.procs"
    exec setpriv --pdeathsig KILL unshare --mount --pid --cgroup --uts --ipc --fork --kill-child "$0" --inside "$root" "$folder"
  ) || code=$?
  rm -f "$folder/pid1"
done
find "$group" -depth -type d -exec rmdir {} +
