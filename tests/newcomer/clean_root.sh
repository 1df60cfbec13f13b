#!/usr/bin/env bash
# What the README says, word by word, in a Debian root that has only what the README names: as root, and as a user.
#
#   tests/newcomer/clean_root.sh [TARGET…]     (as root; needs debootstrap and unshare)
#
# Without a TARGET the README's console blocks are typed, then `refloat down`; else `make TARGET…` is. CLEAN_ROOT names a
# root that debootstrap made before; it is not written to. WHO is one of the two users. Processes and mounts end with the script.
set -euo pipefail

if [ "${1:-}" != --apart ]; then
  exec unshare --mount --propagation private "$0" --apart "$@"
fi
shift
REPOSITORY=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
FOLDER=$(mktemp -d /var/tmp/refloat-clean-root.XXXXXX)
chmod 755 "$FOLDER"
ROOT=$FOLDER/root
trap 'umount --recursive --lazy "$ROOT" || true; rm -rf --one-file-system "$FOLDER"' EXIT
mkdir "$ROOT" "$FOLDER/upper" "$FOLDER/work"

timed() { # WHAT COMMAND…: what it took, where that is read
  local began=$SECONDS
  "${@:2}"
  echo "== $((SECONDS - began)) s: $1"
}

debian() {
  . /etc/os-release
  debootstrap --variant=minbase --include=ca-certificates,git,make,python3,python3-venv,curl \
    "${VERSION_CODENAME:-bookworm}" "$1" >"$FOLDER/log" || { tail -20 "$FOLDER/log"; exit 1; }
}

if [ -z "${CLEAN_ROOT:-}" ]; then
  CLEAN_ROOT=$FOLDER/debian
  timed debootstrap debian "$CLEAN_ROOT"
fi
mount -t overlay overlay -o "lowerdir=$CLEAN_ROOT,upperdir=$FOLDER/upper,workdir=$FOLDER/work" "$ROOT"
mount --rbind /dev "$ROOT/dev"
mount --rbind /sys "$ROOT/sys"

# Only how to reach the package index comes from outside, as on a newcomer's own network.
cp /etc/resolv.conf "$ROOT/etc/resolv.conf"
cp /etc/ssl/certs/ca-certificates.crt "$ROOT/etc/ssl/certs/ca-certificates.crt"
echo "127.0.0.1 localhost" >"$ROOT/etc/hosts" # an installed Debian has one
NETWORK=()
for name in PIP_INDEX_URL PIP_CERT SSL_CERT_FILE HTTPS_PROXY HTTP_PROXY NO_PROXY; do
  [ -z "${!name:-}" ] || NETWORK+=("$name=${!name}")
done

git clone -q --bare "$REPOSITORY" "$ROOT/srv/refloat.git"
chmod -R a+rX "$ROOT/srv/refloat.git"
chroot "$ROOT" git config --system safe.directory '*'
chroot "$ROOT" useradd --create-home --shell /bin/bash newcomer
mv "$ROOT/usr/bin/curl" "$ROOT/usr/bin/curl.aside" # the README uses it in one block, and does not ask for it before

inside() { # USER COMMAND [NAMESPACE…]: as that user after signing in, in namespaces of its own
  unshare --mount --pid --fork --kill-child "${@:3}" -- bash -c '
    mount -t proc proc "$0/proc"
    if [ "$(readlink /proc/self/ns/net)" != "$1" ]; then
      python3 -c "import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack(\"16sh14x\", b\"lo\", 1))  # SIOCSIFFLAGS: up"
    fi
    exec chroot "$0" "${@:2}"' "$ROOT" "$(readlink /proc/self/ns/net)" \
    env -i "${NETWORK[@]}" TERM=dumb setpriv --reuid="$1" --regid="$1" --init-groups --reset-env bash -lc "$2"
}

clone() { # USER: and keep how to reach the package index
  inside "$1" "cd && git clone -q /srv/refloat.git refloat"
}

block() { # NUMBER: the commands of the README's console block with this number
  awk -v want="$1" '
    /^```console$/ { number++; inside = 1; next }
    /^```/ { inside = 0 }
    inside && number == want && (/^\$ / || more) { sub(/^\$ /, ""); print; more = /\\$/ }' "$REPOSITORY/README.md"
}

grep -qx 'make demo' <(block 1) && grep -q 'refloat up' <(block 2) && grep -q curl <(block 3) ||
  { echo "the README's console blocks are other ones than this script expects"; exit 1; }

demo() { # USER
  inside "$1" "export ${NETWORK[*]:-A=}; set -ex; cd ~/refloat; $(block 1)" | tee "$FOLDER/out"
  grep -q 'failed: 0; steps redone: 0' "$FOLDER/out"
}

APPLICATION='import os
from http.server import ThreadingHTTPServer, SimpleHTTPRequestHandler
ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), SimpleHTTPRequestHandler).serve_forever()'

first_hour() { # USER: the rest of the README, on a network of its own, where every port is free
  local data='~/.local/share/refloat' curl
  [ "$1" != root ] || data=/var/lib/refloat
  mkdir "$ROOT/$(home "$1")/your-application"
  echo "$APPLICATION" >"$ROOT/$(home "$1")/your-application/app.py"
  chroot "$ROOT" chown -R "$1:" "$(home "$1")/your-application"
  curl=$(block 3 | sed "s#~/.local/share/refloat#$data#; s#<environment id>#\$(refloat env list --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0][\"id\"])')#")
  inside "$1" "set -ex
    cd ~/refloat
    $(block 2 | grep -v '^make demo') # typed already: it needs the package index
    curl() { /usr/bin/curl.aside --fail --silent --show-error \"\$@\"; }
    $curl
    refloat logs --follow
    refloat status
    refloat down
    refloat up --detach
    refloat down --purge --yes
    [ ! -e $data ]
    { set +x; } 2>/dev/null
    for process in /proc/[0-9]*; do
      [ \$process = /proc/\$\$ ] || ! IFS= read -r -d '' word 2>/dev/null <\$process/cmdline ||
        { echo \"still running: \$word\"; exit 1; }
    done" --net
}

home() { chroot "$ROOT" sh -c "echo ~$1"; }

for user in ${WHO:-root newcomer}; do
  timed "git clone, as $user" clone "$user"
  if [ $# = 0 ]; then
    timed "$(block 1), as $user" demo "$user"
    timed "the rest of the README, as $user" first_hour "$user"
  fi
  for target in "$@"; do
    timed "make $target, as $user" inside "$user" "export ${NETWORK[*]:-A=}; cd ~/refloat && make $target"
  done
done
echo "== the clean root is done"
