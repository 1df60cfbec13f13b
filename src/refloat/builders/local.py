"""The builder of the local engine: git sources to folders that run on this machine.

Nothing of a repository runs as root: build commands run as the service's own user under the
supervisor, with an environment built from nothing. Equal inputs give the same folder, so a repeated
build costs a look at one file, and a new commit with the same dependencies costs its files only.
"""

import asyncio
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from refloat.builders import native
from refloat.builders.assembly import Assembly, reused
from refloat.builders.base import BuildRequest, DiskUse
from refloat.builders.checkout import Checkout, Tree
from refloat.builders.commands import end_leftovers
from refloat.builders.garbage import Cleaner, InUse
from refloat.builders.releases import KEPT, Releases, content_key
from refloat.builders.source import FULL_ID, SIZE_LIMIT, Sources
from refloat.builders.tools import Tools
from refloat.builders.workplace import Workplace
from refloat.domain.errors import BuildFailed, RefloatError
from refloat.domain.revision import Artifact, Level, LogSink
from refloat.domain.services import Commit, GitSource
from refloat.supervisor.base import Supervisor
from refloat.supervisor.cancellation import to_the_end
from refloat.supervisor.removal import remove


class Accounts(Protocol):
    """Which user a service's processes run as; None: the server's own."""

    def uid(self, service_id: str) -> int | None: ...


async def _known(service_id: str) -> Collection[str]:
    """Of a builder that nobody told what is in use: every service is one of ours."""
    return ()


class LocalBuilder:
    """Implements Builder for one node.

    `accounts` gives each service its user. `in_use` names the artifact keys of a service that must stay
    whatever their age; beyond those, the last `keep` and any that a process is in are kept. `disk_budget` is
    what all builds of the node may use, in bytes.
    """

    def __init__(
        self,
        node_dir: Path,
        supervisor: Supervisor,
        accounts: Accounts,
        *,
        local_sources: bool,
        in_use: InUse | None = None,
        keep: int = KEPT,
        disk_budget: int | None = None,
        size_limit: int = SIZE_LIMIT,
    ) -> None:
        self._node = node_dir
        self._supervisor = supervisor
        self._accounts = accounts
        self._local_sources = local_sources
        self._in_use = in_use or _known
        self._keep = keep
        self._sources = Sources(node_dir, local_sources=local_sources, size_limit=size_limit)
        self._tools = Tools(node_dir)
        self._turns: dict[str, asyncio.Lock] = {}
        self._cleaner = Cleaner(node_dir, self._turn, self._sources.renew, self._in_use, disk_budget)

    async def resolve(self, service_id: str, source: GitSource, commit_id: str | None = None) -> Commit:
        return await self._sources.resolve(service_id, source, commit_id)

    async def commits(self, service_id: str, source: GitSource, limit: int) -> tuple[Commit, ...]:
        return await self._sources.commits(service_id, source, limit)

    async def build(self, request: BuildRequest, log: LogSink) -> Artifact:
        """One build at a time per service: a second caller with the same inputs finds the first's result."""
        if request.dockerfile_path is not None:
            raise _no_docker(request.dockerfile_path)
        deadline = asyncio.timeout(request.timeout_seconds)
        try:
            async with deadline, self._turn(request.service_id):
                artifact = await self._build(request, log)
        except TimeoutError:
            if not deadline.expired():
                raise
            message = f"the build did not finish within {request.timeout_seconds:.0f} s"
            raise BuildFailed(message, hint="raise the timeout, or build less") from None
        await self._shrink(log)
        return artifact

    async def _shrink(self, log: LogSink) -> None:
        """Within the budget again, if there is one; the build is done whatever comes of it."""
        try:
            gone = await self._cleaner.shrink()
        except (OSError, RefloatError) as error:
            log(Level.WARNING, f"Old builds could not be deleted: {error}")
            return
        if gone and gone.kept:
            log(Level.INFO, f"Deleted {len(gone.kept)} folders of old builds: the disk budget is used up")

    async def prune(self, service_id: str, keep: Collection[str] = ()) -> tuple[str, ...]:
        """Delete what is neither in `keep` nor in use nor among those used last; the deleted keys."""
        kept = {*keep, *(await self._in_use(service_id) or ())}
        return await asyncio.to_thread(self._releases(service_id).prune, kept, self._keep)

    async def disk(self) -> DiskUse:
        return await self._cleaner.look()

    async def clean(self) -> DiskUse:
        return await self._cleaner.clean()

    def _turn(self, service_id: str) -> asyncio.Lock:
        return self._turns.setdefault(service_id, asyncio.Lock())

    async def forget(self, service_id: str) -> None:
        async with self._turn(service_id):
            await end_leftovers(self._supervisor, service_id, lambda level, line: None)
            self._sources.forget(service_id)
            for name in ("git", "releases", "deps", "build"):
                await asyncio.to_thread(remove, self._node / "services" / service_id / name)
        self._turns.pop(service_id, None)

    async def _build(self, request: BuildRequest, log: LogSink) -> Artifact:
        await end_leftovers(self._supervisor, request.service_id, log)
        commit = await self._commit(request)
        releases = self._releases(request.service_id)
        facts = (native.VERSION, commit, _root(request.source), sys.version, sys.base_prefix)
        key = content_key(*facts, *(() if request.serves else ("brings its own command",)))
        if found := releases.find(key):
            log(Level.INFO, f"Commit {commit[:12]} is built already")
            return reused(found.artifact)
        folder = releases.begin(releases.release(key))
        (folder / "app").mkdir(mode=0o700)
        try:
            files = await self._write(request, commit, folder / "app", log)
            id = f"build.{request.service_id}.{key[:12]}"
            place = Workplace(releases, key, self._supervisor, id, log)
            artifact = await Assembly(place, key, self._tools).make(files, commit, serves=request.serves)
        except BaseException:
            await to_the_end(asyncio.to_thread(remove, folder))
            raise
        await self.prune(request.service_id, (key,))
        return artifact

    async def _commit(self, request: BuildRequest) -> str:
        if FULL_ID.fullmatch(request.commit_id):
            return request.commit_id
        return (await self._sources.resolve(request.service_id, request.source, request.commit_id)).id

    async def _write(self, request: BuildRequest, commit: str, app: Path, log: LogSink) -> tuple[str, ...]:
        """The files of the commit, written by us into a folder nobody else can write to."""
        async with self._sources.opened(request.service_id, request.source) as (git, remote):
            await self._sources.require(git, remote, commit)
            checkout = Checkout(self._sources, git, local_sources=self._local_sources)
            files = await checkout.write(Tree(remote, commit, request.source.root_path, app))
        log(Level.INFO, f"Fetched commit {commit[:12]} of {remote.shown}: {len(files)} files")
        return files

    def _releases(self, service_id: str) -> Releases:
        return Releases(self._node, service_id, self._accounts.uid(service_id))


def _root(source: GitSource) -> str:
    return "/".join(part for part in source.root_path.split("/") if part not in ("", "."))


def _no_docker(path: str) -> BuildFailed:
    return BuildFailed(
        f"this cluster runs without Docker and cannot build the Dockerfile {path!r}",
        hint="set dockerfile_path to null and add a Procfile, or deploy to a cluster with Docker",
    )
