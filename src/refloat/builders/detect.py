"""How a repository is built and run, decided from its file names and a few of its texts. Pure.

The order is: Procfile, Python, Node.js, static files. Each decision carries its reason, which the build log
shows, and each refusal names what was looked for and what to add.
"""

import re
import tomllib
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Any

import msgspec

from refloat.builders.node_project import NodeProject, read_node
from refloat.builders.procfile import Procfile, parse_procfile
from refloat.domain.errors import BuildFailed


class Install(StrEnum):
    """Where Python dependencies come from, the most exact first."""

    UV_LOCK = "uv.lock"
    REQUIREMENTS = "requirements.txt"
    POETRY_LOCK = "poetry.lock"
    PYPROJECT = "pyproject.toml"
    NOTHING = ""


class Candidate(msgspec.Struct, frozen=True):
    """A web command that is right when `needs` is among the installed executables.

    `addable`: where nothing that serves is installed, the package of this name may be added.
    """

    command: str
    needs: str
    reason: str
    addable: bool = False


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. `static` serves files; `python` asks for an interpreter and `install`; `node` for npm, and
    `site` serves the files that its build leaves.

    `interpreter` is a version or specifier for it, "" when any will do. `package` says that the
    repository is itself a distribution to install. Without a Procfile the first of `candidates` whose
    need is installed is run.
    """

    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    procfile: Procfile | None = None
    static: bool = False
    site: bool = False
    node: NodeProject | None = None
    python: bool = False
    install: Install = Install.NOTHING
    interpreter: str = ""
    package: bool = False
    serves: bool = True
    """False: the service brings its own command, none has to be found."""
    candidates: tuple[Candidate, ...] = ()


Reader = Callable[[str], str]
"""Text of a file at the root path, "" when it is not there."""


def detect(files: Collection[str], read: Reader, *, serves: bool = True) -> Recipe:
    """The recipe for these files; raises BuildFailed when nothing here can be run.

    With `serves` False the service brings its own command, so that files alone are enough.
    """
    top = {path for path in files if "/" not in path}
    recipe = _with_node(_python(files, top, read), files, read, led="Procfile" in top or not serves)
    if "Procfile" in top:
        procfile = parse_procfile(read("Procfile"))
        return msgspec.structs.replace(
            recipe,
            procfile=procfile,
            reasons=_told(procfile) + recipe.reasons,
            warnings=_left_out(procfile) + recipe.warnings,
        )
    if not serves:
        return msgspec.structs.replace(recipe, serves=False, candidates=())
    if recipe.candidates:
        return recipe
    if recipe.node and recipe.node.builds:
        return msgspec.structs.replace(recipe, site=True)
    if "index.html" in top:
        return Recipe(static=True, reasons=("static files: there is an index.html and nothing to run",))
    raise _nothing_to_run(top, recipe)


def choose(recipe: Recipe, installed: Collection[str]) -> Candidate:
    """The command to run, now that the executables are known; raises BuildFailed naming what is missing."""
    for candidate in recipe.candidates:
        if not candidate.needs or candidate.needs in installed:
            return candidate
    needs = " or ".join(dict.fromkeys(candidate.needs for candidate in recipe.candidates))
    first = recipe.candidates[0]
    raise BuildFailed(
        f"nothing to serve with: {first.reason}, but {needs} is not among the dependencies",
        hint=f"add {first.needs} to the dependencies, or a Procfile with a `web:` line",
    )


def missing_server(recipe: Recipe, installed: Collection[str]) -> str:
    """The server to add, where an application is defined and nothing installed serves one; "" if none.

    A file that starts its application by itself is run as it is, and a Procfile or an entrypoint is obeyed.
    """
    served = any(candidate.needs in installed for candidate in recipe.candidates)
    if served or recipe.procfile or not recipe.install:
        return ""
    first = next(iter(recipe.candidates), None)
    return first.needs if first and first.addable else ""


def _told(procfile: Procfile) -> tuple[str, ...]:
    reasons = [f"Procfile: running its `{procfile.process}` process"]
    if procfile.release:
        reasons.append("Procfile: its `release` command runs before each new version starts")
    return tuple(reasons)


def _left_out(procfile: Procfile) -> tuple[str, ...]:
    """What of a Procfile does not run, and how it would."""
    return tuple(
        f"Procfile: `{name}` is not run, one application runs one process; to run it, add a second"
        f" application of this repository with the entrypoint: {command}"
        for name, command in procfile.ignored.items()
    )


def _with_node(recipe: Recipe, files: Collection[str], read: Reader, *, led: bool) -> Recipe:
    """The recipe with what package.json adds. `led`: the command comes from elsewhere.

    Python that is only a few scripts gives way to a package.json; Python with dependencies, or a
    manage.py, keeps its command, and Node.js installs and builds for it.
    """
    node = read_node(files, read, scripts_count=led and not recipe.python)
    if node is None:
        return recipe
    added = msgspec.structs.replace(
        recipe, node=node, reasons=(*recipe.reasons, node.reason), warnings=node.warnings
    )
    if led or (recipe.candidates and (recipe.install or "manage.py" in files)):
        return added if led or node.installs or node.steps else recipe
    candidate = Candidate(node.command, "", "what package.json starts")
    if not recipe.install:
        added = Recipe(node=node, reasons=(node.reason,), warnings=node.warnings)
    return msgspec.structs.replace(added, candidates=(candidate,) if node.command else ())


def _python(files: Collection[str], top: set[str], read: Reader) -> Recipe:
    project = _toml(read, "pyproject.toml") if "pyproject.toml" in top else {}
    install = _install(top, project)
    scripts = sorted(path for path in top if path.endswith(".py"))
    if not install and not scripts:
        return Recipe(reasons=())
    source = f"dependencies from {install.value}" if install else "no dependencies"
    return Recipe(
        reasons=(f"Python: {source}",),
        python=True,
        install=install,
        interpreter=_interpreter(read(".python-version"), project),
        package=_is_package(project) and install not in (Install.REQUIREMENTS, Install.NOTHING),
        candidates=(*_django(files, top, read), *_frameworks(top, read), *_scripts(top)),
    )


def _install(top: set[str], project: dict[str, Any]) -> Install:
    declared = "project" in project or "poetry" in project.get("tool", {})
    if declared and "uv.lock" in top:
        return Install.UV_LOCK
    if "requirements.txt" in top:
        return Install.REQUIREMENTS
    if declared and "poetry.lock" in top:
        return Install.POETRY_LOCK
    return Install.PYPROJECT if declared else Install.NOTHING


def _is_package(project: dict[str, Any]) -> bool:
    tools = project.get("tool", {})
    refused = (tools.get("uv", {}).get("package"), tools.get("poetry", {}).get("package-mode"))
    return "build-system" in project and False not in refused


def _interpreter(pinned: str, project: dict[str, Any]) -> str:
    """What `.python-version` says, else `requires-python`, else Poetry's `python`; "" for any."""
    lines = [line.strip() for line in pinned.splitlines() if line.strip() and not line.startswith("#")]
    wanted = lines[0] if lines else str(project.get("project", {}).get("requires-python", ""))
    if not re.fullmatch(r"[\w.,<>=!~* +-]{0,80}", wanted) or wanted.startswith("-"):
        raise BuildFailed(f"the Python version {wanted[:80]!r} cannot be read")
    return wanted.removeprefix("python-").strip()


def _django(files: Collection[str], top: set[str], read: Reader) -> tuple[Candidate, ...]:
    if "manage.py" not in top:
        return ()
    named = re.search(r"['\"]([\w.]+)\.settings[\w.]*['\"]", read("manage.py"))
    packages = [path.split("/")[0] for path in sorted(files) if re.fullmatch(r"\w+/[aw]sgi\.py", path)]
    package = named[1] if named else next(iter(packages), "")
    folder = package.replace(".", "/")
    reason = f"Django: manage.py and {folder}/"
    found = []
    if f"{folder}/wsgi.py" in files:
        command = f"gunicorn --bind 127.0.0.1:$PORT {package}.wsgi"
        found.append(Candidate(command, "gunicorn", reason + "wsgi.py", addable=True))
    if f"{folder}/asgi.py" in files:
        command = f"uvicorn --host 127.0.0.1 --port $PORT {package}.asgi:application"
        found.append(Candidate(command, "uvicorn", reason + "asgi.py", addable=True))
    return tuple(found)


_ASGI = re.compile(r"^\s*(?:from|import)\s+(?:fastapi|starlette|litestar|quart|blacksheep)\b", re.MULTILINE)
_WSGI = re.compile(r"^\s*(?:from|import)\s+(?:flask|bottle|falcon|pyramid|werkzeug)\b", re.MULTILINE)
_APP = re.compile(r"^app\s*(?::[^=\n]+)?=[^=]", re.MULTILINE)
_STARTS = re.compile(r"__main__|^\s*[\w.]*\b(?:run|serve|serve_forever)\(", re.MULTILINE)


def _frameworks(top: set[str], read: Reader) -> tuple[Candidate, ...]:
    """An object named `app` at the top level of app.py, main.py or server.py."""
    found = []
    for name in ("app", "main", "server"):
        text = read(f"{name}.py") if f"{name}.py" in top else ""
        if not _APP.search(text):
            continue
        idle = not _STARTS.search(text)
        if _ASGI.search(text):
            command = f"uvicorn --host 127.0.0.1 --port $PORT {name}:app"
            found.append(Candidate(command, "uvicorn", f"ASGI: {name}.py defines `app`", addable=idle))
        else:
            command = f"gunicorn --bind 127.0.0.1:$PORT {name}:app"
            addable = idle and bool(_WSGI.search(text))
            found.append(Candidate(command, "gunicorn", f"WSGI: {name}.py defines `app`", addable=addable))
    return tuple(found)


def _scripts(top: set[str]) -> tuple[Candidate, ...]:
    if "manage.py" in top:
        return ()
    names = [name for name in ("main.py", "app.py", "server.py") if name in top]
    return tuple(Candidate(f"python {name}", "", f"running {name} itself") for name in names)


def _toml(read: Reader, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(read(name))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BuildFailed(f"{name} cannot be read: {error}") from error


def _nothing_to_run(top: set[str], recipe: Recipe) -> BuildFailed:
    dockerfiles = sorted(name for name in top if name.lower().startswith("dockerfile"))
    if dockerfiles:
        return BuildFailed(
            f"this cluster runs without Docker, and {dockerfiles[0]} is all there is to build from",
            hint="add a Procfile (and set dockerfile_path to null), or deploy to a cluster with Docker",
        )
    looked = (
        "Procfile, manage.py with a wsgi.py, main.py, app.py, server.py, package.json with a start script,"
        " index.html"
    )
    found = ["Python"] * recipe.python + ["Node.js"] * bool(recipe.node)
    known = f"{' and '.join(found)} dependencies were found, but " if found else ""
    return BuildFailed(
        f"nothing to run: {known}none of {looked} is at the root path",
        hint="add a Procfile with a line like `web: python server.py`, or set root_path to the right folder",
    )
