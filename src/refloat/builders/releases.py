"""Where builds are kept: content-addressed folders of one service.

`<node>/services/<service>/releases/<key>/app` holds the files of a commit, `…/deps/<key>/venv` the
dependencies that releases share. A folder counts only once its record is there, which is written last
and renamed into place: the paths are final from the start, because environments contain their own
path. Folders and records belong to the server, what is inside to the service's user.
"""

import hashlib
import os
import shlex
from collections.abc import Collection
from pathlib import Path

import msgspec

from refloat.domain.errors import Unavailable
from refloat.domain.revision import Artifact
from refloat.supervisor.directories import make_passable, obstacle, own_directory
from refloat.supervisor.removal import remove

KEPT = 5
"""Releases kept per service, those used last."""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a finished release: the keys of its dependencies, the paths it cannot run without, and
    the programs it was built for: once one of these is another, the release is built again."""

    artifact: Artifact
    deps: str = ""
    node_deps: str = ""
    needs: tuple[str, ...] = ()
    built_for: dict[str, int] = {}


def content_key(*parts: object) -> str:
    """A short digest of everything that decides a result. 128 bits: paths stay short enough for `#!`."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


class Releases:
    """The builds of one service on a node. `uid` None: everything belongs to the server's own user."""

    def __init__(self, node_dir: Path, service_id: str, uid: int | None) -> None:
        self._node = node_dir
        self.folder = node_dir / "services" / service_id
        self.uid = uid

    def release(self, key: str) -> Path:
        return self.folder / "releases" / key

    def dependencies(self, key: str) -> Path:
        return self.folder / "deps" / key

    def workplace(self) -> Path:
        """Where build commands have `home`, `tmp` and `cache`: each the service's user's own, in a folder
        that user cannot change, so that nothing done here can be led elsewhere by a link."""
        place = self.folder / "build"
        for name in ("home", "tmp", "cache"):
            self.owned(place / name)
        return place

    def find(self, key: str) -> Release | None:
        """The finished release of this key, marked as used now; None when there is none that can run."""
        record = self.release(key) / "release.json"
        try:
            found = msgspec.json.decode(record.read_bytes(), type=Release)
        except (OSError, msgspec.DecodeError):
            return None
        if (
            not all(Path(path).exists() for path in found.needs)
            or identities(found.built_for) != found.built_for
        ):
            return None
        os.utime(record)
        return found

    def begin(self, folder: Path) -> Path:
        """An empty folder in place of whatever an interrupted build left there.

        Raises Unavailable when the service's user could not enter the folders that lead to it.
        """
        remove(folder)
        make_passable(folder, self._node)
        if self.uid is not None and (closed := obstacle(folder)):
            raise Unavailable(
                f"the users of services cannot enter {closed}",
                hint=f"chmod o+x {shlex.quote(str(closed))}, or choose another REFLOAT_NODE_DIR",
            )
        return folder

    def owned(self, folder: Path) -> Path:
        """The folder, made for the service's user, closed to others."""
        return own_directory(folder, self.uid, self._node)

    def hand_over(self, folder: Path) -> None:
        """Give a folder that only we could write to so far to the service's user: links unfollowed, and
        from the leaves up, so that nobody can add to a folder that is yet to be looked at."""
        if self.uid is not None:
            for _, folders, files, fd in os.fwalk(folder, topdown=False):
                for name in (*folders, *files):
                    os.chown(name, self.uid, self.uid, dir_fd=fd, follow_symlinks=False)
        self.owned(folder)

    def finish(self, key: str, release: Release) -> None:
        """From here on the release counts."""
        record = self.release(key) / "release.json"
        record.with_suffix(".new").write_bytes(msgspec.json.encode(release))
        record.with_suffix(".new").rename(record)

    def prune(self, keep: Collection[str], last: int = KEPT) -> tuple[str, ...]:
        """Delete all releases but those to keep, the ones used last and the ones a process is in; then the
        dependencies that no release is left for. Returns the deleted keys."""
        records = sorted(self.folder.glob("releases/*/release.json"), key=lambda p: p.stat().st_mtime_ns)
        old = {path.parent.name for path in records[: max(0, len(records) - last)]}
        doomed = old - set(keep) - (self.occupied() if old else set())
        for key in doomed:
            remove(self.release(key))
        used = [self.find_quietly(path.parent.name) for path in records]
        wanted = {key for release in used if release for key in (release.deps, release.node_deps)}
        stale = [path for path in self.folder.glob("deps/*") if path.name not in wanted]
        for path in stale:
            remove(path)
        if stale:
            remove(self.folder / "build" / "cache")
        return tuple(sorted(doomed))

    def find_quietly(self, key: str) -> Release | None:
        """The record of a release without marking it as used."""
        try:
            return msgspec.json.decode((self.release(key) / "release.json").read_bytes(), type=Release)
        except (OSError, msgspec.DecodeError):
            return None

    def occupied(self) -> set[str]:
        """Keys of releases that a process of this machine has as its working directory."""
        root = self.folder.resolve() / "releases"
        keys = set()
        for process in Path("/proc").glob("[0-9]*/cwd"):
            try:
                place = process.readlink()
            except OSError:
                continue
            if place.is_relative_to(root) and place != root:
                keys.add(place.relative_to(root).parts[0])
        return keys


def identities(paths: Collection[str]) -> dict[str, int]:
    """What tells each program from another at the same path; those that are gone are left out."""
    return {path: Path(path).stat().st_mtime_ns for path in paths if Path(path).exists()}
