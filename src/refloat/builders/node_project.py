"""What a package.json says about installing, building and running. Pure.

Only npm is known: its lock, its scripts. What other package managers lock is refused by name, because
installing something else than what was locked would be worse than not installing.
"""

import json
import re
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from refloat.builders.procfile import shell
from refloat.domain.errors import BuildFailed

LOCKS = ("npm-shrinkwrap.json", "package-lock.json")
OUTPUTS = ("dist", "build", "out", "_site", "public", ".")
"""Where a build leaves a site, the usual places first; "." is the root path itself."""
_FOREIGN = {"yarn.lock": "Yarn", "pnpm-lock.yaml": "pnpm", "bun.lock": "Bun", "bun.lockb": "Bun"}
_INSTALLING = ("preinstall", "install", "postinstall", "prepare")
"""Scripts that npm runs for the repository itself when it installs, in this order."""
_IRRELEVANT = frozenset(
    ("name", "version", "description", "keywords", "author", "contributors", "license", "repository", "bugs",
     "homepage", "funding", "main", "module", "browser", "types", "typings", "exports", "imports", "files",
     "bin", "man", "scripts", "type", "sideEffects")
)  # fmt: skip
_NPM = re.compile(r"npm\s+(?:(start)|run(?:-script)?\s+(?:(?:-s|--silent)\s+)?([\w:.-]+))")
_LOCAL_SPEC = re.compile(r"(?:file|link|portal|workspace):|\.{0,2}/")
_LOCAL_LOCK = re.compile(r"\"link\"\s*:\s*true|\"(?:resolved|version)\"\s*:\s*\"file:")


class NodeProject(msgspec.Struct, frozen=True, kw_only=True):
    """A repository for Node.js.

    `manifest` is package.json without what has no part in installing. `local`: dependencies include
    folders of the repository, so they are installed in place. `vendored`: they are committed.
    `command` is what serves, "" when nothing does.
    """

    lock: str = ""
    engines: str = ""
    manifest: str = "{}"
    scripts: dict[str, str] = {}
    runtime_dependencies: bool = False
    development_dependencies: bool = False
    local: bool = False
    vendored: bool = False
    command: str = ""

    @property
    def steps(self) -> tuple[str, ...]:
        """Scripts to run for each commit once the dependencies are there."""
        return tuple(name for name in (*_INSTALLING, "build") if name in self.scripts)

    @property
    def installs(self) -> bool:
        """Whether npm has something to install. Only steps need what is for development."""
        wanted = self.runtime_dependencies or (self.development_dependencies and bool(self.steps))
        return wanted and not self.vendored

    @property
    def builds(self) -> bool:
        return "build" in self.scripts

    @property
    def reason(self) -> str:
        if self.vendored:
            return "Node.js: node_modules is part of the repository"
        if not self.installs:
            return "Node.js: no dependencies"
        return f"Node.js: dependencies from {self.lock or 'package.json'}"

    @property
    def warnings(self) -> tuple[str, ...]:
        if not self.installs or self.lock:
            return ()
        return (
            "There is no package-lock.json: npm chooses versions at the first build of these"
            " dependencies; commit the file that `npm install` writes",
        )


def read_node(
    files: Collection[str], read: Callable[[str], str], *, scripts_count: bool = False
) -> NodeProject | None:
    """The project, None when package.json is missing or says nothing to install, build or run.

    `scripts_count`: the command comes from elsewhere, and may be one of the scripts.
    """
    if "package.json" not in files:
        return None
    package = _package(read("package.json"))
    scripts = {name: text for name, text in _table(package, "scripts").items() if isinstance(text, str)}
    lock = next((name for name in LOCKS if name in files), "")
    vendored = not lock and any(path.startswith("node_modules/") for path in files)
    project = NodeProject(
        lock=lock,
        engines=str(_table(package, "engines").get("node", "")),
        manifest=json.dumps({name: package[name] for name in package if name not in _IRRELEVANT}),
        scripts=scripts,
        runtime_dependencies=any(_table(package, f"{kind}ependencies") for kind in ("d", "optionalD")),
        development_dependencies=bool(_table(package, "devDependencies")),
        local=_is_local(package, read(lock) if lock else ""),
        vendored=vendored,
        command=_command(files, package, scripts),
    )
    if project.installs:
        _refuse_foreign(files, lock)
    says_something = project.installs or vendored or project.steps or project.command
    return project if says_something or (scripts_count and scripts) else None


def direct(command: str, scripts: dict[str, str]) -> str:
    """The command with `npm start` and `npm run x` replaced by what they stand for, so that a signal
    reaches the application instead of npm."""
    for _ in range(5):
        match = _NPM.fullmatch(command.strip())
        name = (match[1] or match[2]) if match else ""
        if name not in scripts or f"post{name}" in scripts:
            break
        if f"pre{name}" in scripts:
            before = f"(\n{scripts[f'pre{name}']}\n) || exit\n"  # whatever it ends with, it ends there
            return before + shell(direct(scripts[name], scripts))[-1]
        command = scripts[name]
    return command


def _command(files: Collection[str], package: dict[str, Any], scripts: dict[str, str]) -> str:
    """The start script, else what `npm start` runs without one, else the main module.

    A main module beside an index.html is what browsers load, not a server. One that is not there yet is
    left by the build, unless it has the name that npm writes unasked.
    """
    if "start" in scripts:
        return direct("npm start", scripts)
    if "server.js" in files:
        return "node server.js"
    main = package.get("main")
    named = main.removeprefix("./") if isinstance(main, str) else ""
    if "index.html" in files:
        return ""
    module = next((name for name in (named, f"{named}.js", "index.js") if name in files), "")
    if not module and "build" in scripts and named != "index.js":
        module = named
    return _running(module) if module else ""


def lock_alone(text: str) -> str:
    """A lock without what it repeats of the repository itself, such as its version: a release of that
    installs nothing else. A lock that cannot be read is left as it is, for npm to say so."""
    try:
        lock = json.loads(text)
        packages = dict(_table(lock, "packages"))
        own = _table(packages, "")
    except (ValueError, RecursionError, AttributeError):
        return text
    if packages:
        packages[""] = {name: own[name] for name in own if name not in _IRRELEVANT}
        lock["packages"] = packages
    return json.dumps({name: value for name, value in lock.items() if name not in ("name", "version")})


def program(command: str) -> str:
    """The first word of a shell line that is no assignment."""
    words = (word for word in command.split() if not re.match(r"[A-Za-z_]\w*=", word))
    return next(words, "")


def out_of_step(manifest: str, lock: str) -> str:
    """The first dependency that package.json and its lock describe differently, "" when there is none."""
    try:
        locked = _table(_table(json.loads(lock), "packages"), "")
    except (ValueError, RecursionError, AttributeError):
        return ""
    package = json.loads(manifest)
    for kind in ("dependencies", "devDependencies", "optionalDependencies"):
        ours, theirs = _table(package, kind), _table(locked, kind)
        for name in sorted({*ours, *theirs}):
            if ours.get(name) != theirs.get(name):
                return name
    return ""


def _running(module: str) -> str:
    if not re.fullmatch(r"[\w@./+-]+", module) or module.startswith("-"):
        raise BuildFailed(
            f"the main module {module[:80]!r} in package.json cannot be run", hint="add a start script"
        )
    return f"node {module}"


def _refuse_foreign(files: Collection[str], lock: str) -> None:
    foreign = next((name for name in _FOREIGN if name in files), "")
    if foreign and not lock:
        raise BuildFailed(
            f"the dependencies are locked by {_FOREIGN[foreign]} ({foreign}), and this cluster installs"
            " with npm",
            hint=f"commit a package-lock.json (`npm install --package-lock-only`) beside {foreign}",
        )


def _is_local(package: dict[str, Any], lock: str) -> bool:
    kinds = ("dependencies", "devDependencies", "optionalDependencies")
    specs = [spec for kind in kinds for spec in _table(package, kind).values()]
    named = any(_LOCAL_SPEC.match(spec) for spec in specs if isinstance(spec, str))
    return named or bool(package.get("workspaces")) or bool(_LOCAL_LOCK.search(lock))


def _package(text: str) -> dict[str, Any]:
    try:
        package = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BuildFailed(f"package.json cannot be read: {error}") from error
    if not isinstance(package, dict):
        raise BuildFailed("package.json cannot be read: it is not an object")
    return package


def _table(package: dict[str, Any], name: str) -> dict[str, Any]:
    value = package.get(name)
    return value if isinstance(value, dict) else {}
