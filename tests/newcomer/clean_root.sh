#!/usr/bin/env bash
# The README's commands, word by word, in a Debian root that has only what the README names: as root, and as a user.
#
#   tests/newcomer/clean_root.sh [TARGET…]     (default: demo; as root; needs debootstrap and unshare)
#
# The root has its own processes and mounts, which end with the script; nothing of this machine is changed.
set -euo pipefail

TARGETS=("${@:-demo}")
REPOSITORY=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
ROOT=$(mktemp -d /var/tmp/refloat-clean-root.XXXXXX)
chmod 755 "$ROOT"
trap 'rm -rf --one-file-system "$ROOT"' EXIT

. /etc/os-release
CODENAME=${VERSION_CODENAME:-bookworm}
debootstrap --variant=minbase --include=ca-certificates,git,make,python3,python3-venv "$CODENAME" "$ROOT" >"$ROOT.log" ||
  { tail -20 "$ROOT.log"; exit 1; }
rm -f "$ROOT.log"

# Only how to reach the package index comes from outside, as on a newcomer's own network.
cp /etc/resolv.conf "$ROOT/etc/resolv.conf"
cp /etc/ssl/certs/ca-certificates.crt "$ROOT/etc/ssl/certs/ca-certificates.crt"
NETWORK=()
for name in PIP_INDEX_URL PIP_CERT HTTPS_PROXY HTTP_PROXY NO_PROXY; do
  [ -z "${!name:-}" ] || NETWORK+=("$name=${!name}")
done

git clone -q --bare "$REPOSITORY" "$ROOT/srv/refloat.git"
chmod -R a+rX "$ROOT/srv/refloat.git"
chroot "$ROOT" git config --system safe.directory '*'
chroot "$ROOT" useradd --create-home --shell /bin/bash newcomer

inside() { # USER COMMAND: as that user after signing in, in namespaces of its own
  unshare --mount --pid --fork --kill-child -- bash -c '
    mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && shift 0
    exec chroot "$0" "$@"' "$ROOT" \
    env -i "${NETWORK[@]}" TERM=dumb setpriv --reuid="$1" --regid="$1" --init-groups --reset-env bash -lc "$2"
}

for user in root newcomer; do
  for target in "${TARGETS[@]}"; do
    echo "== make $target as $user, in a clean $PRETTY_NAME"
    inside "$user" "export ${NETWORK[*]:-A=}; cd && { [ -d refloat ] || git clone -q /srv/refloat.git refloat; } && cd refloat && make $target" |
      tee "$ROOT/out"
    if [ "$target" = demo ]; then
      grep -q 'failed: 0; steps redone: 0' "$ROOT/out"
    fi
  done
done
echo "== the clean root is done"
