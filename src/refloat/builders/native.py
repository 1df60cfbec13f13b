"""Building without containers: which commands install a recipe, and what the result runs with.

Dependencies live in a virtual environment of their own, keyed by what declares them, so that a new
commit with the same dependencies builds nothing. A repository that is itself a distribution is
installed beside it, per release, without its dependencies.
"""

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

import msgspec

from refloat.builders.detect import Install, Reader, Recipe, choose
from refloat.builders.environment import SYSTEM_PATH
from refloat.builders.node_project import NodeProject, direct
from refloat.builders.procfile import shell
from refloat.builders.tools import Interpreter

VERSION = 3
"""Part of every key: raised when the same inputs would give another result."""

PINS = "requirements.txt"
"""Beside a `venv` made from a poetry.lock: the pins read from it."""

Command = tuple[str, ...]


class Declared(msgspec.Struct, frozen=True):
    """What declares the dependencies. `local`: they include files of the repository itself, so each
    commit has its own."""

    texts: dict[str, str]
    local: bool


def declared(recipe: Recipe, files: Collection[str], read: Reader) -> Declared:
    """Every file that decides what gets installed, with its text."""
    settings = {name: read(name) for name in ("pyproject.toml", "uv.toml") if name in files}
    if recipe.install is Install.REQUIREMENTS:
        texts = _requirements("requirements.txt", files, read)
        return Declared(settings | texts, any(_is_local(text) for text in texts.values()))
    if recipe.install in (Install.UV_LOCK, Install.POETRY_LOCK):
        lock = read(recipe.install.value)
        return Declared(settings | {recipe.install.value: lock}, bool(_LOCAL_SOURCE.search(lock)))
    text = settings.get("pyproject.toml", "") if recipe.install else ""
    return Declared(settings, bool(re.search(r"dynamic\s*=\s*\[[^\]]*dependencies|file:|\bpath\s*=", text)))


def install_commands(recipe: Recipe, uv: str, python: Interpreter, venv: Path) -> tuple[Command, ...]:
    """Run in the repository's folder they leave a complete environment in `venv`."""
    create = (uv, "venv", "--quiet", "--no-project", "--clear", "--python", python.path, str(venv))
    pip = (uv, "pip", "install", "--python", str(venv / "bin" / "python"))
    match recipe.install:
        case Install.UV_LOCK:
            sync = (uv, "sync", "--frozen", "--no-dev", "--no-install-project", "--python", python.path)
            return create, ("env", f"UV_PROJECT_ENVIRONMENT={venv}", *sync)
        case Install.REQUIREMENTS:
            return create, (*pip, "-r", "requirements.txt")
        case Install.POETRY_LOCK:
            return create, (*pip, "--no-deps", "-r", str(venv.with_name(PINS)))
        case Install.PYPROJECT:
            return create, (*pip, "-r", "pyproject.toml")
        case _:
            return (create,)


SERVERS = {"gunicorn": "gunicorn>=23", "uvicorn": "uvicorn>=0.30"}
"""What is added for an application that comes without anything to serve it."""


def server_command(server: str, uv: str, venv: Path) -> Command:
    """Adds this server to a complete environment, leaving everything else of it as it is."""
    return (uv, "pip", "install", "--python", str(venv / "bin" / "python"), SERVERS[server])


def package_command(uv: str, venv: Path, site: Path) -> Command:
    """Installs the repository itself into `site`."""
    python = str(venv / "bin" / "python")
    return (uv, "pip", "install", "--python", python, "--no-deps", "--target", str(site), ".")


def runtime(venv: Path | None, site: Path | None, node: Collection[str] = ()) -> dict[str, str]:
    """What the processes of a release find in their environment. `node`: folders of its programs."""
    folders = [str(folder / "bin") for folder in (site, venv) if folder]
    own = {"PATH": ":".join([*folders, *node, SYSTEM_PATH])}
    if node:
        own["NODE_ENV"] = "production"
    if venv:
        own |= {"VIRTUAL_ENV": str(venv), "PYTHONUNBUFFERED": "1"}
    return own | ({"PYTHONPATH": str(site)} if site else {})


def commands(recipe: Recipe, installed: Collection[str]) -> tuple[Command, Command, str]:
    """Argv of the serving process and of the release command, and why this one."""
    if recipe.procfile:
        scripts = recipe.node.scripts if recipe.node else {}
        before = recipe.procfile.release
        release = shell(direct(before, scripts)) if before else ()
        return shell(direct(recipe.procfile.web, scripts)), release, "from the Procfile"
    if not recipe.serves:
        return (), (), "the service's own entrypoint"
    chosen = choose(recipe, installed)
    return shell(_without_control(chosen.command, installed)), (), chosen.reason


def _without_control(command: str, installed: Collection[str]) -> str:
    """A gunicorn that comes with `gunicornc` opens a socket for it in the home of its user, whose path is too
    long for that here: each start would log an error that has nothing to do with the application."""
    if "gunicornc" not in installed:
        return command
    return re.sub("^gunicorn ", "gunicorn --no-control-socket ", command)


def node_command(recipe: Recipe, node: NodeProject) -> str:
    """What serves a repository that only Node.js runs; "" when the service brings its own command."""
    if recipe.procfile:
        return direct(recipe.procfile.web, node.scripts)
    return node.command if recipe.serves else ""


_INCLUDE = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)", re.MULTILINE)
_LOCAL_LINE = re.compile(r"^\s*(?:-e\b|--editable\b|\.|/|file:)|@\s*(?:file:|\.)", re.MULTILINE)
_LOCAL_SOURCE = re.compile(
    r"(?:editable|directory|path|virtual)\s*=\s*\"(?!\.\")|type = \"(?:directory|file)\""
)


def _requirements(name: str, files: Collection[str], read: Reader) -> dict[str, str]:
    """The requirements file and everything it includes, in the order of inclusion."""
    texts: dict[str, str] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in texts or current not in files:
            continue
        texts[current] = read(current)
        parent = PurePosixPath(current).parent
        waiting += [_joined(parent, included) for included in _INCLUDE.findall(texts[current])]
    return texts


def _joined(folder: PurePosixPath, name: str) -> str:
    parts: list[str] = []
    for part in (folder / name).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def _is_local(text: str) -> bool:
    return bool(_LOCAL_LINE.search(text))
