"""The Node.js and npm of this machine, as the user of a service can run them."""

import asyncio
import shutil
from pathlib import Path

import msgspec

from refloat.builders.environment import SYSTEM_PATH
from refloat.builders.node_versions import satisfies
from refloat.builders.tools import interpreter_path, run_as
from refloat.domain.errors import BuildFailed
from refloat.domain.revision import Level, LogSink
from refloat.supervisor.cancellation import to_the_end


class Node(msgspec.Struct, frozen=True):
    """Paths of the programs, and the version of `node`. `npm` is "" when there is none."""

    path: str
    version: str
    npm: str

    @property
    def search_path(self) -> str:
        """A PATH on which both are found."""
        return ":".join([*self.folders, SYSTEM_PATH])

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders to add to the system's."""
        own = dict.fromkeys(str(Path(path).parent) for path in (self.path, self.npm) if path)
        return tuple(folder for folder in own if folder not in SYSTEM_PATH.split(":"))

    def require_npm(self) -> str:
        if not self.npm:
            raise BuildFailed("there is no npm on this machine", hint="apt-get install npm")
        return self.npm


async def find_node(uid: int | None, search: str = "") -> Node:
    """The first `node` on the system's PATH, then on the server's, that this user can run.

    Raises BuildFailed naming the package that brings it.
    """
    found = await to_the_end(asyncio.to_thread(_find, uid, search or f"{SYSTEM_PATH}:{interpreter_path()}"))
    if found is None:
        raise BuildFailed(
            "there is no Node.js on this machine that the user of a service can run, and the repository"
            " needs it (package.json)",
            hint="apt-get install nodejs npm",
        )
    return found


def check_engine(node: Node, wanted: str, log: LogSink) -> None:
    """Raises BuildFailed when `engines.node` rules this machine's Node.js out."""
    try:
        fits = not wanted or satisfies(node.version, wanted)
    except ValueError:
        log(Level.WARNING, f"engines.node in package.json cannot be read and is ignored: {wanted[:80]!r}")
        return
    if not fits:
        raise BuildFailed(
            f"package.json asks for Node.js {wanted[:80]!r}, and this machine has {node.version}",
            hint="install a fitting Node.js where every user can run it, or change engines.node",
        )


def _find(uid: int | None, search: str) -> Node | None:
    for folder in dict.fromkeys(search.split(":")):
        node = shutil.which("node", path=folder)
        if node is None:
            continue
        code, output = run_as(uid, (node, "--version"), {"PATH": search})
        if code == 0:
            npm = shutil.which("npm", path=f"{folder}:{search}") or ""
            return Node(node, output.strip().removeprefix("v"), npm)
    return None
