"""The simulated builder: any URL is a repository, its commits are hashes of its words."""

import hashlib

from refloat.builders.base import BuildRequest, DiskUse
from refloat.builders.remotes import redact
from refloat.clock import Clock
from refloat.domain.errors import BuildFailed
from refloat.domain.revision import Artifact, Level, LogSink
from refloat.domain.services import Commit, GitSource
from refloat.simulated.script import VARIABLE, Script, of_url
from refloat.simulated.world import World

_FOREVER = 10**9


class SimulatedBuilder:
    """Implements the builder port on a `World`."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock

    async def resolve(self, service_id: str, source: GitSource, commit_id: str | None = None) -> Commit:
        script = self._world.behaves(service_id, of_url(source.url))
        if script.word("resolve", self._world.turn(service_id, "resolve")) == "fail":
            raise BuildFailed(
                f"branch {source.branch or 'main'} of {redact(source.url)} cannot be read: scripted to fail"
            )
        identifier = commit_id or _hash(f"{source.url} {source.branch}")
        return Commit(
            id=identifier, created_at=self._clock.now(), author="simulated", message="simulated commit"
        )

    async def commits(self, service_id: str, source: GitSource, limit: int) -> tuple[Commit, ...]:
        return (await self.resolve(service_id, source),)[:limit]

    async def build(self, request: BuildRequest, log: LogSink) -> Artifact:
        configured = of_url(request.source.url)
        script = self._world.behaves(request.service_id, configured)
        key = _hash(
            f"{request.service_id} {request.source.url} {request.source.root_path} {request.commit_id}"
        )
        cached = key in self._world.artifacts and script.word("build") == "ok"
        if not cached:
            log(Level.INFO, f"building commit {request.commit_id[:8]}")
            await self._work(request, script)
            self._world.artifacts.add(key)
        return Artifact(
            key=key,
            location="",
            web=("simulated",),
            release=() if script.word("release") == "none" else ("release",),
            environment={VARIABLE: configured.text},
            cached=cached,
        )

    async def _work(self, request: BuildRequest, script: Script) -> None:
        seconds = script.seconds("build_seconds")
        word = script.word("build", self._world.turn(request.service_id, "build"))
        self._world.building.add(request.service_id)
        try:
            await self._clock.sleep(min(_FOREVER if word == "hang" else seconds, request.timeout_seconds))
        finally:
            self._world.building.discard(request.service_id)
        if word == "fail":
            raise BuildFailed(
                "the build failed: scripted to fail", log=("step 1 of 1", "error: scripted to fail")
            )
        if word == "hang":
            raise BuildFailed(f"the build did not end within {request.timeout_seconds:.0f} s")

    async def forget(self, service_id: str) -> None:
        """Artifacts are hashes; nothing is kept."""

    async def disk(self) -> DiskUse:
        return DiskUse(used=0, budget=None, kept=())

    async def clean(self) -> DiskUse:
        return await self.disk()


def _hash(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
