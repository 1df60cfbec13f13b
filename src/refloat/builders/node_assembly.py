"""Installing and building a repository for Node.js.

Dependencies are installed once per lock and version of Node.js, in a folder that holds nothing else
of the repository. A release gets them by hard links when nothing of the repository runs at build
time; otherwise by copies, because a script may change them and the next release must not see that.
Scripts of the repository (what npm runs when it installs, and `build`) run for every commit, with the
dependencies for development present; those are removed before the release runs.
"""

import time
from pathlib import Path

import msgspec

from refloat.builders import native
from refloat.builders.node_project import OUTPUTS, NodeProject, lock_alone, out_of_step, program
from refloat.builders.node_tools import Node, check_engine, find_node
from refloat.builders.releases import content_key
from refloat.builders.workplace import Workplace
from refloat.domain.errors import BuildFailed
from refloat.domain.revision import Level

_QUIET = ("--no-audit", "--no-fund")
_NPMRC = ".npmrc"


class NodeBuilt(msgspec.Struct, frozen=True):
    """What a release runs with, and the key of its dependencies ("" when it shares none)."""

    node: Node
    deps: str
    folders: tuple[str, ...]


class NodeAssembly:
    """Builds a project in a workplace. `settings` is the text of its .npmrc, `lock` that of its lock.
    `site`: what the build leaves is served as files, so that no dependency is needed afterwards.
    `command` is what will serve otherwise, "" when that is not a matter of Node.js."""

    def __init__(
        self,
        place: Workplace,
        project: NodeProject,
        lock: str,
        settings: str,
        *,
        site: bool,
        command: str = "",
    ) -> None:
        self._place = place
        self._project = project
        self._site = site
        self._command = command
        self._files = {"package.json": project.manifest, _NPMRC: settings, project.lock: lock_alone(lock)}
        self._modules = place.app / "node_modules"

    async def make(self) -> NodeBuilt:
        node = await find_node(self._place.uid)
        self._place.log(Level.INFO, f"Using Node.js {node.version} ({node.path})")
        check_engine(node, self._project.engines, self._place.log)
        deps = ""
        commands: list[tuple[str, ...]] = []
        modules = self._modules
        if self._project.installs and self._project.local:
            await self._install(node, self._place.app)
            scripts = tuple(name for name in self._project.steps if name == "build")
        else:
            scripts = self._project.steps
            if self._project.installs:
                deps, modules = await self._dependencies(node)
                commands += self._take(modules)
        commands += [(node.require_npm(), "run", name) for name in scripts]
        commands += self._prune(node)
        brought = _programs(modules)
        if commands:
            await self._place.run(*commands, path=node.search_path)
        if not self._site and program(self._command) in brought - _programs(self._modules):
            raise BuildFailed(
                f"the start command runs `{program(self._command)}`, which only devDependencies bring,"
                " and a release runs without those",
                hint="move its package to `dependencies` in package.json",
            )
        return NodeBuilt(node, deps, (str(self._modules / ".bin"), *node.folders))

    async def _dependencies(self, node: Node) -> tuple[str, Path]:
        """The key and folder of the installed dependencies, installed unless they are there."""
        everything = bool(self._project.steps)
        key = content_key(native.VERSION, "npm", node.path, node.version, everything, self._files)
        folder = self._place.releases.dependencies(key)
        tree = folder / "tree"
        if (folder / "ready").exists():
            self._place.log(Level.INFO, "Dependencies are unchanged")
            return key, tree / "node_modules"
        self._place.releases.begin(folder)
        tree.mkdir(mode=0o700)
        for name, text in self._files.items():
            if name and text:
                (tree / name).write_text(text)
        self._place.releases.hand_over(tree)
        started = time.monotonic()
        await self._install(node, tree)
        (folder / "ready").touch()
        self._place.log(Level.INFO, f"Installed dependencies in {time.monotonic() - started:.1f} s")
        return key, tree / "node_modules"

    async def _install(self, node: Node, folder: Path) -> None:
        """Raises BuildFailed; what npm says of a lock that does not fit ends in pages of usage, so that
        is told in other words."""
        project = self._project
        which = "--include=dev" if project.steps else "--omit=dev"
        command = (node.require_npm(), "ci" if project.lock else "install", which, *_QUIET)
        try:
            await self._place.run(command, cwd=folder, path=node.search_path)
        except BuildFailed as error:
            differs = out_of_step(project.manifest, self._files[project.lock])
            if not project.lock or not differs:
                raise
            raise BuildFailed(
                f"npm could not install what is locked: {project.lock} and package.json disagree about"
                f" {differs!r}",
                hint="run `npm install` and commit both files",
                log=error.log,
            ) from error

    def _take(self, modules: Path) -> list[tuple[str, ...]]:
        """Commands that put the shared dependencies into the release."""
        if not modules.is_dir():
            return []
        how = "--reflink=auto" if self._project.steps else "--link"
        clear = ("rm", "-rf", str(self._modules))
        return [clear, ("cp", "-a", how, str(modules), str(self._modules))]

    def _prune(self, node: Node) -> list[tuple[str, ...]]:
        """Commands that leave only what the release runs with."""
        project = self._project
        if not (project.steps and project.installs):
            return []
        if self._site:
            return [("rm", "-rf", str(self._modules))]
        if not project.development_dependencies:
            return []
        return [(node.require_npm(), "prune", "--omit=dev", "--ignore-scripts", *_QUIET)]


def _programs(modules: Path) -> set[str]:
    return {path.name for path in modules.glob(".bin/*")}


def built_site(app: Path) -> Path:
    """The folder of the site that a build left; raises BuildFailed naming where it was looked for."""
    for name in OUTPUTS:
        if (app / name / "index.html").is_file():
            return app / name
    raise BuildFailed(
        "nothing to run: package.json has no start script, and the build left no index.html in "
        + ", ".join(name for name in OUTPUTS if name != "."),
        hint="add a start script or a Procfile with a `web:` line, or build into one of these folders",
    )
