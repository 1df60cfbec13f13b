"""The port of builders: from a git source to an artifact that the paired engine can run."""

from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec

from refloat.domain.revision import Artifact, LogSink
from refloat.domain.services import Commit, GitSource


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`timeout_seconds` bounds fetch and build together. Variables of the service are not an input:
    a changed variable must never cause a rebuild, and builds must never see secrets."""

    service_id: str
    environment_id: str
    deployment_id: str
    name: str
    source: GitSource
    commit_id: str
    dockerfile_path: str | None = None
    serves: bool = True
    """False: the service has an entrypoint of its own, so that none has to be found."""
    timeout_seconds: float = 1800


class KeptKind(StrEnum):
    """What builds leave on a disk, in the order in which it goes."""

    UNFINISHED = "unfinished build"
    RELEASE = "release"
    DEPENDENCIES = "dependencies"
    CACHE = "cache"
    CLONE = "clone"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One folder of a service, `path` below the node directory. `reason` says why it stays: "" when nothing
    needs it. `needs` are the keys of a release's dependencies."""

    service_id: str
    kind: KeptKind
    path: str
    used_at: datetime
    reason: str
    key: str = ""
    needs: tuple[str, ...] = ()
    bytes: int = 0
    goes: bool = False


class DiskUse(msgspec.Struct, frozen=True, kw_only=True):
    """What builds use of a disk, in bytes, and what of it goes; `budget` None: as much as there is."""

    used: int
    budget: int | None
    kept: tuple[Kept, ...]


class Builder(Protocol):
    """One way to make artifacts for one cluster."""

    async def resolve(self, service_id: str, source: GitSource, commit_id: str | None = None) -> Commit:
        """The head of the branch, or the named commit (full or abbreviated id).

        Raises BuildFailed naming what is wrong: unreachable URL, refused scheme, missing branch or
        commit, missing root path.
        """
        ...

    async def commits(self, service_id: str, source: GitSource, limit: int) -> tuple[Commit, ...]:
        """The newest commits of the branch, newest first."""
        ...

    async def build(self, request: BuildRequest, log: LogSink) -> Artifact:
        """Fetch and build; equal inputs return the cached artifact.

        Cancelling the call, and the deadline, end the whole process tree before it returns. A build
        that an earlier, killed control plane left running is ended first. Raises BuildFailed with the
        last lines of output.
        """
        ...

    async def forget(self, service_id: str) -> None:
        """Delete everything kept for the service."""
        ...

    async def disk(self) -> DiskUse:
        """Everything kept for services; `goes` marks what `clean` would delete now. Nothing is changed."""
        ...

    async def clean(self) -> DiskUse:
        """Delete what nothing needs; what was deleted, and what is used then."""
        ...
