"""What builds keep on the disk of a node: which of it may go, which goes first, and its deletion.

Ours is what has a place and a name that only we give; everything else in the node directory is not even
looked into. Of a service that the database does not know nothing goes: the database may be a new one.
What history can go back to is pinned, and so is what runs, what was just used, and all of a service that
is being built.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from refloat.builders.base import DiskUse, Kept, KeptKind
from refloat.builders.releases import Releases
from refloat.supervisor.removal import remove, size

InUse = Callable[[str], Awaitable[Collection[str] | None]]
"""Keys of the artifacts of a service that must stay; None for a service that nobody knows."""
RECENT_SECONDS = 3600.0
"""What was used since then stays: another server of the node may be about to start it."""
_SERVICE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY = re.compile(r"[0-9a-f]{32}")
_ORDER = tuple(KeptKind)
NEEDED = "a release needs it"


class Cleaner:
    """Looks through one node. `budget` is in bytes; `cleared` empties the clone of a service."""

    def __init__(
        self,
        node_dir: Path,
        turn: Callable[[str], asyncio.Lock],
        cleared: Callable[[str], Awaitable[None]],
        in_use: InUse,
        budget: int | None,
    ) -> None:
        self._node = node_dir
        self._turn = turn
        self._cleared = cleared
        self._in_use = in_use
        self._budget = budget
        self._sizes: dict[str, tuple[datetime, int]] = {}

    async def look(self) -> DiskUse:
        """All that is kept; `goes` marks what `clean` would delete now."""
        kept: list[Kept] = []
        for service_id in _names(self._node / "services", _SERVICE):
            pins = await self._in_use(service_id)
            kept += await asyncio.to_thread(self._measured, self._of(service_id, pins))
        return _decided(kept, self._budget, thorough=True)

    async def clean(self) -> DiskUse:
        """Delete what nothing needs, and if that leaves more than the budget, caches and clones too."""
        return await self._delete(await self.look())

    async def shrink(self) -> DiskUse | None:
        """Delete as much as the budget asks for, the oldest first; None without one."""
        if self._budget is None:
            return None
        found = await self.look()
        return await self._delete(_decided(found.kept, self._budget, thorough=False))

    async def _delete(self, use: DiskUse) -> DiskUse:
        """What was really deleted; a service that is being built, or whose history moved on, is spared."""
        gone = [it for it in use.kept if it.goes and await self._deleted(it)]
        return DiskUse(used=use.used - sum(it.bytes for it in gone), budget=use.budget, kept=tuple(gone))

    async def _deleted(self, it: Kept) -> bool:
        turn = self._turn(it.service_id)
        if turn.locked():
            return False
        async with turn:
            pins = await self._in_use(it.service_id)
            now = {k.path: k for k in self._of(it.service_id, pins)}
            if it.path not in now or now[it.path].reason:
                return False
            if it.kind is KeptKind.CLONE:
                await self._cleared(it.service_id)
            else:
                await asyncio.to_thread(remove, self._node / it.path)
        return True

    # -- looking

    def _of(self, service_id: str, pins: Collection[str] | None) -> list[Kept]:
        """Everything of one service, without sizes."""
        releases, now = Releases(self._node, service_id, None), time.time()
        found = [*self._built(releases, pins or (), now), *self._fetched(releases)]
        why = "its service is not in this database" if pins is None else ""
        if any(it.kind is KeptKind.UNFINISHED and it.reason for it in found):
            why = why or "a build of its service may be under way"
        return [msgspec.structs.replace(it, reason=it.reason or why) for it in found]

    def _built(self, releases: Releases, pins: Collection[str], now: float) -> Iterable[Kept]:
        occupied = releases.occupied()
        needed: dict[str, str] = {}
        for key in _names(releases.folder / "releases", _KEY):
            record = releases.find_quietly(key)
            place = releases.release(key)
            if record is None:
                reason = "it may be under way" if _is_recent(place, now) else ""
                yield self._kept(releases, KeptKind.UNFINISHED, place, place, reason)
                continue
            reason = _why_kept(key, pins, occupied, _is_recent(place / "release.json", now))
            needs = tuple(filter(None, (record.deps, record.node_deps)))
            needed |= dict.fromkeys(needs, NEEDED)
            yield self._kept(
                releases, KeptKind.RELEASE, place, place / "release.json", reason, key=key, needs=needs
            )
        for key in _names(releases.folder / "deps", _KEY):
            place = releases.dependencies(key)
            yield self._kept(releases, KeptKind.DEPENDENCIES, place, place, needed.get(key, ""), key=key)

    def _fetched(self, releases: Releases) -> Iterable[Kept]:
        for kind, above in ((KeptKind.CACHE, "build"), (KeptKind.CLONE, "git")):
            place = releases.folder / above / "cache"
            if _is_folder(place.parent) and _is_folder(place):
                yield self._kept(releases, kind, place, place, "")

    def _kept(
        self, releases: Releases, kind: KeptKind, place: Path, used: Path, reason: str, **more: object
    ) -> Kept:
        facts = {"key": "", "needs": (), **more}
        return Kept(
            service_id=releases.folder.name,
            kind=kind,
            path=str(place.relative_to(self._node)),
            used_at=_used_at(used),
            reason=reason,
            **facts,  # type: ignore[arg-type]
        )

    def _measured(self, kept: Sequence[Kept]) -> list[Kept]:
        """With their sizes; a finished folder is measured once for each time it was used."""
        found = []
        for it in kept:
            known = self._sizes.get(it.path)
            if known is None or known[0] != it.used_at or it.kind in (KeptKind.CACHE, KeptKind.CLONE):
                known = self._sizes[it.path] = (it.used_at, size(self._node / it.path))
            found.append(msgspec.structs.replace(it, bytes=known[1]))
        return found


def _decided(kept: Sequence[Kept], budget: int | None, *, thorough: bool) -> DiskUse:
    """Which of these go. Without `thorough`, only as many as the budget asks for."""
    used = left = sum(it.bytes for it in kept)
    going: set[str] = set()
    for kind in _ORDER:
        always = thorough and kind not in (KeptKind.CACHE, KeptKind.CLONE)
        for it in sorted((k for k in kept if k.kind is kind), key=lambda k: (k.used_at, k.path)):
            if not (always or (budget is not None and left > budget)) or not _may_go(it, kept, going):
                continue
            going.add(it.path)
            left -= it.bytes
    decided = tuple(msgspec.structs.replace(it, goes=it.path in going) for it in kept)
    return DiskUse(used=used, budget=budget, kept=decided)


def _may_go(it: Kept, kept: Sequence[Kept], going: Collection[str]) -> bool:
    """Dependencies go with the last release that needs them."""
    if it.kind is not KeptKind.DEPENDENCIES:
        return not it.reason
    stay = (k for k in kept if k.service_id == it.service_id and k.path not in going)
    return not any(it.key in k.needs for k in stay) and it.reason in ("", NEEDED)


def _why_kept(key: str, pins: Collection[str], occupied: Collection[str], recent: bool) -> str:
    if key in pins:
        return "it runs, or history can go back to it"
    if key in occupied:
        return "a process is in it"
    return "it was used within the hour" if recent else ""


def _names(folder: Path, pattern: re.Pattern[str]) -> list[str]:
    """Of our folders in one of ours; links and other names are somebody else's."""
    if not _is_folder(folder):
        return []
    return sorted(p.name for p in folder.iterdir() if pattern.fullmatch(p.name) and _is_folder(p))


def _is_folder(path: Path) -> bool:
    return not path.is_symlink() and path.is_dir()


def _used_at(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except OSError:
        return datetime.fromtimestamp(0, UTC)


def _is_recent(path: Path, now: float) -> bool:
    return now - _used_at(path).timestamp() < RECENT_SECONDS
