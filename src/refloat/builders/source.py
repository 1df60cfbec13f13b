"""Git sources: which commit is meant, what it says, and getting its objects.

Each service has a bare cache that holds only what was asked for: `--depth=1` of the branch head or of
the exact commit. A server that refuses bare commit ids, or knows no shallow fetch, is asked for more.
`refs/refloat/<commit>` is written last by a fetch: where it exists, the commit is here completely.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from refloat.builders.complaints import explain, known, refuses_depth
from refloat.builders.git import Git, Result
from refloat.builders.remotes import Remote, check_branch, parse_remote
from refloat.domain.errors import BuildFailed, Unavailable
from refloat.domain.services import Commit, GitSource

SIZE_LIMIT = 5 * 1024**3
"""Bytes: of a fetched pack, and of the files of one commit."""
PACKS = 50
"""A cache with more packs is made anew: every fetch adds one, and nothing else would remove them."""
ASK, FETCH = 30.0, 900.0
"""Deadlines in seconds: for a question to a remote, for a transfer."""
FULL_ID = re.compile(r"[0-9a-f]{40}")
SHORT_ID = re.compile(r"[0-9a-f]{4,39}")


class Sources:
    """The git sources of all services of a node."""

    def __init__(self, node_dir: Path, *, local_sources: bool, size_limit: int = SIZE_LIMIT) -> None:
        self._services = node_dir / "services"
        self._local_sources = local_sources
        self.size_limit = size_limit
        self._caches: dict[str, Git] = {}

    async def resolve(self, service_id: str, source: GitSource, commit_id: str | None = None) -> Commit:
        """See Builder.resolve. The commit is fetched, so that a build of it needs no network."""
        async with self.opened(service_id, source) as (git, remote):
            if commit_id:
                commit, tag = await self._named(git, remote, commit_id)
            else:
                commit, tag = await self._head(git, remote, source.branch)
            await self._fetch(git, remote, commit)
            await require_folder(git, commit, source.root_path)
            (found,) = await _describe(git, commit, 1)
        return Commit(
            id=found.id, created_at=found.created_at, author=found.author, message=found.message, tag=tag
        )

    async def commits(self, service_id: str, source: GitSource, limit: int) -> tuple[Commit, ...]:
        """See Builder.commits. Nothing keeps the service from being removed meanwhile."""
        try:
            async with self.opened(service_id, source) as (git, remote):
                head, _ = await self._head(git, remote, source.branch)
                await self._fetch(git, remote, head, depth=max(1, limit))
                return await _describe(git, head, max(1, limit))
        except FileNotFoundError:
            raise Unavailable(
                "what was fetched of this repository was removed meanwhile", hint="ask again"
            ) from None

    @asynccontextmanager
    async def opened(self, service_id: str, source: GitSource) -> AsyncIterator[tuple[Git, Remote]]:
        """The service's cache, alone, with the checked address."""
        remote = parse_remote(source.url, local_sources=self._local_sources)
        git = self._cache(service_id)
        async with git.exclusive():
            yield git, remote

    def _cache(self, service_id: str) -> Git:
        if service_id not in self._caches:
            home = self._services / service_id / "git"
            self._caches[service_id] = Git(
                home, local_sources=self._local_sources, size_limit=self.size_limit
            )
        return self._caches[service_id]

    async def require(self, git: Git, remote: Remote, commit: str) -> str:
        """The full id of the commit, its objects in the cache. Only inside `opened`."""
        full, _ = await self._named(git, remote, commit)
        await self._fetch(git, remote, full)
        return full

    async def renew(self, service_id: str) -> None:
        """An empty cache in place of the one of this service."""
        git = self._cache(service_id)
        async with git.exclusive():
            await git.renew()

    def forget(self, service_id: str) -> None:
        self._caches.pop(service_id, None)

    async def _head(self, git: Git, remote: Remote, branch: str | None) -> tuple[str, str]:
        """Commit and tag name of a branch, or of a tag when no branch has this name."""
        if branch is None:
            found = await _ask(git, remote, "HEAD")
            if "HEAD" in found:
                return found["HEAD"], ""
            raise await _no_branch(git, remote, None)
        head, tag = f"refs/heads/{check_branch(branch)}", f"refs/tags/{branch}"
        found = await _ask(git, remote, head, tag, tag + "^{}")
        if head in found:
            return found[head], ""
        if tag in found:
            return found.get(tag + "^{}", found[tag]), branch
        raise await _no_branch(git, remote, branch)

    async def _named(self, git: Git, remote: Remote, name: str) -> tuple[str, str]:
        """Full id and tag name of what a user called a commit: a full id, a short one, a tag."""
        if FULL_ID.fullmatch(name.lower()):
            return name.lower(), ""
        if SHORT_ID.fullmatch(name.lower()) and (full := await self._expand(git, remote, name.lower())):
            return full, ""
        tag = f"refs/tags/{check_branch(name)}"
        found = await _ask(git, remote, tag, tag + "^{}")
        if tag not in found:
            raise _no_commit(remote, name)
        return found.get(tag + "^{}", found[tag]), name

    async def _expand(self, git: Git, remote: Remote, short: str) -> str:
        """The full id, "" when no commit begins so. Needs the history, unless the commit is here already."""
        here = [path.name for path in git.cache.glob(f"refs/refloat/{short}*")]
        if len(here) == 1 and len(short) >= 7:
            return here[0]
        await self._fetch_all(git, remote)
        found = await git.run("rev-parse", "--verify", short + "^{commit}")
        if "ambiguous" in found.error:
            raise BuildFailed(
                f"{short!r} stands for more than one commit", hint="give more of its characters"
            )
        return found.text.strip() if found.code == 0 else ""

    async def _fetch(self, git: Git, remote: Remote, commit: str, depth: int = 1) -> None:
        """Get one commit, and `depth` - 1 before it, unless they are here."""
        mark = f"refs/refloat/{commit}"
        if await _has(git, mark, depth):
            return
        if len(list(git.cache.glob("objects/pack/*.pack"))) > PACKS:
            await git.renew()
        done = await _transfer(git, remote, f"--depth={depth}", f"+{commit}:{mark}")
        if done.code and refuses_depth(done.error):
            await self._fetch_all(git, remote)
            done = await git.run("update-ref", mark, commit)
            if done.code:
                raise _no_commit(remote, commit)
        if done.code:
            raise explain(remote, done.error, commit)

    async def _fetch_all(self, git: Git, remote: Remote) -> None:
        deep = ["--unshallow"] if (git.cache / "shallow").exists() else []
        every = ("+refs/heads/*:refs/all/heads/*", "+refs/tags/*:refs/all/tags/*")
        done = await _transfer(git, remote, *deep, "--prune", *every)
        if done.code:
            raise explain(remote, done.error)


async def require_folder(git: Git, commit: str, root_path: str) -> str:
    """The tree id of the root path; raises BuildFailed naming it, and what is there instead."""
    parts = [part for part in root_path.split("/") if part not in ("", ".")]
    found = await git.run("rev-parse", "--verify", f"{commit}:{'/'.join(parts)}")
    kind = await git.run("cat-file", "-t", found.text.strip()) if found.code == 0 else found
    if ".." in parts or kind.text.strip() != "tree":
        listed = await git.run("ls-tree", "-d", "--name-only", "-z", commit)
        folders = [name for name in listed.text.split("\0") if name][:5]
        there = "its folders are " + ", ".join(folders) if folders else "it has no folders"
        raise BuildFailed(f"the root path {root_path!r} is not a folder of commit {commit[:12]}", hint=there)
    return found.text.strip()


def _no_commit(remote: Remote, name: str) -> BuildFailed:
    return BuildFailed(
        f"the commit {name!r} is not in {remote.shown}", hint="push it, or choose another commit"
    )


async def _ask(git: Git, remote: Remote, *patterns: str) -> dict[str, str]:
    """Names and ids of the remote's references that match."""
    answer = await git.run("ls-remote", "--quiet", "--", remote.url, *patterns, remote=remote, deadline=ASK)
    if answer.code:
        raise explain(remote, answer.error)
    pairs = (line.split("\t", 1) for line in answer.text.splitlines() if "\t" in line)
    return {name: id for id, name in pairs}


async def _no_branch(git: Git, remote: Remote, branch: str | None) -> BuildFailed:
    """The error that says which branches there are instead."""
    names = [name.removeprefix("refs/heads/") for name in await _ask(git, remote, "refs/heads/*")]
    if not names:
        return BuildFailed(f"the repository {remote.shown} is empty", hint="push a commit to it")
    there = "it has " + ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    what = "no default branch" if branch is None else f"no branch {branch!r}"
    return BuildFailed(f"{remote.shown} has {what}", hint=there)


async def _has(git: Git, mark: str, depth: int) -> bool:
    if depth == 1:
        return (git.cache / mark).exists()
    counted = await git.run("rev-list", "--count", f"--max-count={depth}", mark)
    return counted.code == 0 and int(counted.text) == depth


async def _transfer(git: Git, remote: Remote, *args: str) -> Result:
    """One fetch; when it failed for no reason of the remote, once more into a new cache."""
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc")
    revisions = [arg for arg in args if not arg.startswith("--")]
    flags = [arg for arg in args if arg.startswith("--")]
    for attempt in (1, 2):
        call = ("fetch", *options, *flags, "--", remote.url, *revisions)
        done = await git.run(*call, remote=remote, deadline=FETCH)
        if done.code == 0 or known(done.error) or refuses_depth(done.error) or attempt == 2:
            break
        await git.renew()
        flags = [flag for flag in flags if flag != "--unshallow"]
    return done


async def _describe(git: Git, commit: str, limit: int) -> tuple[Commit, ...]:
    shown = await git.run("log", "-z", f"--max-count={limit}", "--format=%H%x00%cI%x00%an%x00%B", commit)
    fields = shown.text.removesuffix("\0").split("\0")
    if shown.code or len(fields) < 4:
        raise BuildFailed(f"{commit[:12]} is not a commit")
    rows = zip(*(fields[column::4] for column in range(4)), strict=False)
    return tuple(
        Commit(id=id, created_at=datetime.fromisoformat(at), author=who, message=text.strip()[:5000])
        for id, at, who, text in rows
    )
