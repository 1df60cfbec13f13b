"""The files of one commit in a folder of their own, without a link back to the repository.

The listing is checked before anything is written: sizes, number, names. Files are written by
`git read-tree -u`: like a checkout it honours line-ending attributes and never writes through a
symbolic link, and unlike `git archive` it ignores `export-ignore`, which speaks of release tarballs
and would silently drop files from deployments. Links that lead out of the folder are refused.
"""

from pathlib import Path

import msgspec

from refloat.builders.git import Git, TooMuchOutput
from refloat.builders.remotes import Remote, relative_remote
from refloat.builders.source import Sources, require_folder
from refloat.domain.errors import BuildFailed

FILES = 200_000
DEPTH = 5
"""How deep submodules may nest."""
LINK, SUBMODULE = "120000", "160000"


class Entry(msgspec.Struct, frozen=True):
    """A file, link or submodule of a commit. `path` is relative to the root path."""

    mode: str
    id: str
    size: int
    path: str


class Tree(msgspec.Struct, frozen=True):
    """Where to write what: a folder of a commit of a repository."""

    remote: Remote
    commit: str
    root_path: str
    folder: Path
    prefix: str = ""
    depth: int = 0


class Checkout:
    """Writes commits into folders, submodules included, within one bound for everything."""

    def __init__(self, sources: Sources, git: Git, *, local_sources: bool) -> None:
        self._sources = sources
        self._git = git
        self._local_sources = local_sources
        self._left = sources.size_limit
        self._files = 0
        self._links: list[str] = []

    async def write(self, tree: Tree) -> tuple[str, ...]:
        """The paths of all files written, sorted by git. Raises BuildFailed for anything unsafe."""
        tree.folder.mkdir(parents=True, exist_ok=True)
        id = await require_folder(self._git, tree.commit, tree.root_path)
        entries = await self._listed(id, tree.prefix)
        index = tree.folder.with_name(f"{tree.folder.name}.index")
        options = ("--work-tree", str(tree.folder), "read-tree", "--reset", "-u", id)
        done = await self._git.run(*options, deadline=600, index=index)
        index.unlink(missing_ok=True)
        if done.code:
            raise BuildFailed(
                "the files of the commit could not be written", log=tuple(done.error.splitlines())
            )
        paths = [tree.prefix + entry.path for entry in entries if entry.mode != SUBMODULE]
        self._links += [tree.prefix + entry.path for entry in entries if entry.mode == LINK]
        for entry in entries:
            if entry.mode == SUBMODULE:
                paths += await self._submodule(tree, entry)
        if not tree.depth:
            _check_links(tree.folder, self._links)
        return tuple(paths)

    async def _listed(self, id: str, prefix: str) -> list[Entry]:
        try:
            listed = await self._git.run("ls-tree", "-r", "-l", "-z", "--full-tree", id, deadline=300)
        except TooMuchOutput:
            raise self._too_large() from None
        if listed.code:
            raise BuildFailed("the files of the commit could not be listed", log=(listed.error,))
        entries = [_entry(line, prefix) for line in listed.output.split(b"\0") if line]
        self._left -= sum(entry.size for entry in entries)
        self._files += len(entries)
        if self._left < 0 or self._files > FILES:
            raise self._too_large()
        _refuse_two_of_a_name(entries, prefix)
        return entries

    def _too_large(self) -> BuildFailed:
        limit = f"{self._sources.size_limit / 1024**3:.3g} GB in {FILES} files"
        return BuildFailed(f"the commit is larger than this server accepts ({limit})")

    async def _submodule(self, tree: Tree, entry: Entry) -> tuple[str, ...]:
        """Fetch and write the pinned commit of a submodule."""
        name = f"{tree.root_path.strip('/')}/{entry.path}".strip("/")
        if tree.depth >= DEPTH:
            raise BuildFailed(f"the submodule {name!r} is nested more than {DEPTH} deep")
        url = (await self._submodule_urls(tree.commit)).get(name)
        if url is None:
            raise BuildFailed(f"the submodule {name!r} has no URL in .gitmodules", hint="commit .gitmodules")
        try:
            local = self._local_sources and bool(tree.remote.path)  # what a stranger's file may name
            remote = relative_remote(tree.remote, url, local_sources=local)
            commit = await self._sources.require(self._git, remote, entry.id)
        except BuildFailed as error:
            raise BuildFailed(f"the submodule {name!r}: {error.message}", hint=error.hint) from error
        inner = Tree(
            remote, commit, "/", tree.folder / entry.path, f"{tree.prefix}{entry.path}/", tree.depth + 1
        )
        return await self.write(inner)

    async def _submodule_urls(self, commit: str) -> dict[str, str]:
        """URLs by path, as the commit itself pins them."""
        read = await self._git.run("config", "--blob", f"{commit}:.gitmodules", "--list", "-z")
        values = dict(item.split("\n", 1) for item in read.text.split("\0") if "\n" in item)
        names = [
            key[: -len(".path")] for key in values if key.startswith("submodule.") and key.endswith(".path")
        ]
        return {values[f"{name}.path"]: values[f"{name}.url"] for name in names if f"{name}.url" in values}


def _entry(line: bytes, prefix: str) -> Entry:
    """Raises BuildFailed for a name that no file of a deployment should have."""
    facts, raw = line.split(b"\t", 1)
    mode, _, id, size = facts.decode("ascii").split()
    try:
        path = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BuildFailed(f"the file name {raw!r} is not UTF-8") from None
    parts = path.split("/")
    unsafe = any(
        part in ("", ".", "..") or part.lower() == ".git" or len(part.encode()) > 255 for part in parts
    )
    if unsafe or any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise BuildFailed(f"the file name {prefix + path!r} is refused")
    return Entry(mode, id, int(size) if size.isdigit() else 0, path)


def _refuse_two_of_a_name(entries: list[Entry], prefix: str) -> None:
    """A tree that no git writes can have a name as a link and as a folder: what is written into the folder
    would go where the link leads."""
    taken: set[str] = set()
    folders: set[str] = set()
    for entry in entries:
        if entry.path in taken:
            raise BuildFailed(f"the commit has {prefix + entry.path!r} twice")
        taken.add(entry.path)
        folder = entry.path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    if doubled := taken & folders:
        raise BuildFailed(f"the commit has {prefix + min(doubled)!r} as a folder and as something else")


def _check_links(folder: Path, links: list[str]) -> None:
    """Refuse links that leave the folder; looked at on disk, where chains of links show their end."""
    root = folder.resolve()
    for link in links:
        target = str((root / link).readlink())
        if target.startswith("/") or not (root / link).resolve().is_relative_to(root):
            raise BuildFailed(
                f"the symbolic link {link!r} leads out of the root path (to {target!r})",
                hint="deploy from a root path that holds its target, or replace the link by the file",
            )
