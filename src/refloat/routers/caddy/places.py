"""The edge's files: what a request is routed by, each change one atomic rename.

    secret                         proves that a question is ours; 0600
    slots.json                     the layout
    slots/<n>/service              whose slot it is
    slots/<n>/current              -> <revision>-<sequence>, swapped by one rename
    slots/<n>/<revision>-<seq>/    up, revision, endpoints, u0 … u11
    hosts/<generation>/<n>/name    the host of an entry
    hosts/<generation>/<n>/plain   "1" when it is served without TLS
    hosts/<generation>/<n>/slot    -> ../../../slots/<n>
    a/, b/                         one per process: config.json, access.log, home
    storage/                       certificates and keys, of both processes

A request that resolved `current` before a switch may still read the directory it saw, so the one before
the current is kept and only older ones are removed.
"""

import os
import re
import secrets
import shutil
from pathlib import Path

import msgspec

from refloat.domain.errors import Unavailable
from refloat.routers.base import Serving
from refloat.routers.caddy.config import UPSTREAMS, Edge
from refloat.routers.caddy.layout import Entry, Layout

RUNNING, STOPPED, NOBODY = "1", "0", "-"
_NO_HOST = "no host"
"""Name of a free entry: with its space no request can carry it."""
_NOWHERE = ("127.0.0.1:0",)


def load_secret(root: Path) -> str:
    """The edge's secret, made at the first call."""
    path = root / "secret"
    if not path.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        _open_directory(root)
        _write(path, secrets.token_urlsafe(32), 0o600)
    return path.read_text()


class Places:
    """Reads and writes the files below `<node>/edge`."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def stamp(self) -> tuple[int, int]:
        """Differs when somebody stored another layout since; (0, 0) before the first start."""
        try:
            found = (self._edge.root / "slots.json").stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    def load(self) -> Layout | None:
        """The stored layout, None before the first start."""
        path = self._edge.root / "slots.json"
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=Layout)
        except msgspec.DecodeError as error:
            raise Unavailable(
                f"{path} cannot be read: {error}", hint="restore it from a backup of the node directory"
            ) from None

    def save(self, layout: Layout) -> None:
        """Store the layout. Files first, so that what it names is there."""
        data = msgspec.json.format(msgspec.json.encode(layout), indent=1)
        _write(self._edge.root / "slots.json", data.decode(), 0o600)

    def apply(self, layout: Layout, before: Layout | None) -> None:
        """Bring slots and entries to what the layout says, touching only what differs from `before`."""
        if before is None or before.generation != layout.generation:
            self._point(self._slot("none"), NOBODY, "", ())
        known = before.slots if before else ()
        for number, slot in enumerate(layout.slots):
            if number >= len(known) or known[number].service_id != slot.service_id:
                self._own(number, slot.service_id)
        same = before is not None and before.generation == layout.generation
        for number, entry in enumerate(layout.entries):
            if not (before and same) or before.entries[number] != entry:
                self._lead(layout.generation, number, entry)

    def forget_generations(self, layout: Layout) -> None:
        """Remove the entries of earlier configurations, which no process has any more."""
        for path in (self._edge.root / "hosts").glob("*"):
            if int(path.name) < layout.generation:
                shutil.rmtree(path, ignore_errors=True)

    def switch(self, slot: int, revision: str, endpoints: tuple[str, ...]) -> None:
        """Send new requests to the endpoints, or answer 503 when there are none."""
        self._point(self._slot(slot), RUNNING if endpoints else STOPPED, revision, endpoints)

    def serving(self, slot: int) -> Serving | None:
        """What the slot's files say now."""
        current = self._slot(slot) / "current"
        try:
            if (current / "up").read_text() != RUNNING:
                return None
            folder = current.resolve()
            endpoints = tuple((folder / "endpoints").read_text().split())
            return Serving(revision_key=(folder / "revision").read_text(), endpoints=endpoints)
        except FileNotFoundError:
            return None

    def _slot(self, number: int | str) -> Path:
        return self._edge.slot_dir(number)

    def _own(self, number: int, service_id: str) -> None:
        """Give a slot to a service, which does not run yet, or to nobody."""
        slot = self._slot(number)
        self._point(slot, NOBODY, "", ())
        _write(slot / "service", service_id, 0o644)
        if service_id:
            self._point(slot, STOPPED, "", ())

    def _lead(self, generation: int, number: int, entry: Entry) -> None:
        """Let an entry lead to its slot. The name comes last when given, and its target first when freed."""
        directory = self._edge.entry_dir(generation, number)
        _open_directory(directory)
        _link(directory / "slot", f"../../../slots/{entry.slot if entry.slot >= 0 else 'none'}")
        _write(directory / "plain", "1" if entry.plain else "0", 0o644)
        _write(directory / "name", entry.host or _NO_HOST, 0o644)

    def _point(self, slot: Path, up: str, revision: str, endpoints: tuple[str, ...]) -> None:
        """Write a fresh directory and rename `current` to it.

        A stopped slot keeps the upstreams it had: a request that saw it up a moment ago reads them still.
        """
        _open_directory(slot)
        before = _target(slot)
        folder = slot / f"{_safe(revision) or 'none'}-{_sequence(before) + 1}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o755)
        upstreams = endpoints or _upstreams(slot / before) or _NOWHERE
        folder.chmod(0o755)
        for number in range(UPSTREAMS):
            _create(folder / f"u{number}", upstreams[number % len(upstreams)], 0o644)
        _create(folder / "endpoints", "\n".join(endpoints), 0o644)
        _create(folder / "revision", revision, 0o644)
        _create(folder / "up", up, 0o644)
        _link(slot / "current", folder.name)
        _sweep(slot, {folder.name, before})


def _safe(revision: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", revision).lstrip(".")[:100]


def _target(slot: Path) -> str:
    current = slot / "current"
    return current.readlink().name if current.is_symlink() else ""


def _sequence(folder: str) -> int:
    digits = folder.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _upstreams(folder: Path) -> tuple[str, ...]:
    """Every upstream of a directory; none when it is not one."""
    try:
        return tuple((folder / f"u{number}").read_text() for number in range(UPSTREAMS))
    except FileNotFoundError:
        return ()


def _sweep(slot: Path, keep: set[str]) -> None:
    for path in slot.iterdir():
        if path.name not in keep and not path.is_symlink() and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _open_directory(path: Path) -> None:
    """A directory the edge may read, like every one between it and the edge's root."""
    if not path.is_dir():
        _open_directory(path.parent)
        path.mkdir()
        path.chmod(0o755)


def _write(path: Path, text: str, mode: int) -> None:
    """Replace a file atomically."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    _create(fresh, text, mode)
    fresh.replace(path)


def _create(path: Path, text: str, mode: int) -> None:
    """A new file with exactly this mode, whatever the umask is, and never with a wider one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    os.fchmod(descriptor, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _link(path: Path, target: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)
