"""One build, from the written files of a commit to a finished release."""

import shutil
import time
from pathlib import Path

import msgspec

from refloat.builders import native, poetry, static_server
from refloat.builders.commands import run_build_command
from refloat.builders.compiling import compile_sources
from refloat.builders.detect import Install, Recipe, detect
from refloat.builders.environment import build_environment, script, share_uv_config
from refloat.builders.releases import Release, Releases, content_key
from refloat.builders.tools import Interpreter, Tools
from refloat.domain.errors import BuildFailed
from refloat.domain.revision import Artifact, Level, LogSink
from refloat.supervisor.base import Supervisor

TEXT_LIMIT = 32 * 1024**2
"""Bytes of a file that decides how to build; larger ones are refused."""


class Assembly:
    """Builds the release `key`, whose files lie in its `app` folder and still belong to the server."""

    def __init__(
        self, releases: Releases, key: str, tools: Tools, supervisor: Supervisor, id: str, log: LogSink
    ) -> None:
        self._releases = releases
        self._key = key
        self._tools = tools
        self._supervisor = supervisor
        self._id = id
        self._log = log
        self._uid = releases.uid
        self._folder = releases.release(key)
        self._app = self._folder / "app"
        self._place = releases.workplace()
        share_uv_config(self._place)
        self._environment = build_environment(self._place)

    async def make(self, files: tuple[str, ...], commit: str, *, serves: bool) -> Artifact:
        """Detect, install, compile, record. Without `serves` no command has to be found."""
        recipe = detect(files, self._read, serves=serves)
        declared = native.declared(recipe, files, self._read)
        for reason in recipe.reasons:
            self._log(Level.INFO, f"Detected {reason}")
        self._releases.hand_over(self._app)
        if recipe.static:
            release = await self._static()
        elif recipe.python:
            release = await self._python(recipe, declared, commit, files)
        else:
            web, before, _ = native.commands(recipe, ())
            artifact = self._artifact(web, before, native.runtime(None, None))
            release = Release(artifact=artifact)
        if release.artifact.web:
            self._log(Level.INFO, f"Will run {release.artifact.web[-1]}")
        self._releases.finish(self._key, release)
        return release.artifact

    async def _static(self) -> Release:
        python = await self._tools.interpreter(self._uid, "", self._environment)
        server = self._folder / "static_server.py"
        shutil.copyfile(static_server.__file__, server)
        server.chmod(0o644)
        web = (python.path, "-I", "-S", str(server), str(self._app))
        return Release(artifact=self._artifact(web, (), native.runtime(None, None)), needs=(python.path,))

    async def _python(
        self, recipe: Recipe, declared: native.Declared, commit: str, files: tuple[str, ...]
    ) -> Release:
        python = await self._tools.interpreter(self._uid, recipe.interpreter, self._environment)
        self._log(Level.INFO, f"Using Python {python.version} ({python.path})")
        key, venv = await self._dependencies(recipe, declared, python, commit)
        site = await self._package(venv) if recipe.package else None
        installed = {path.name for folder in (venv, site) if folder for path in folder.glob("bin/*")}
        web, before, reason = native.commands(recipe, installed)
        if not recipe.procfile:
            self._log(Level.INFO, f"Chose {reason}")
        if any(path.endswith(".py") for path in files):
            await compile_sources(python.path, self._app, self._uid)
        artifact = self._artifact(web, before, native.runtime(venv, site))
        return Release(artifact=artifact, deps=key, needs=(python.path, str(venv / "bin" / "python")))

    async def _dependencies(
        self, recipe: Recipe, declared: native.Declared, python: Interpreter, commit: str
    ) -> tuple[str, Path]:
        """The key and environment of what the repository declares, installed unless it is there."""
        facts = (native.VERSION, recipe.install, python.path, python.version, sorted(declared.texts.items()))
        key = content_key(*facts, commit if declared.local else "")
        folder = self._releases.dependencies(key)
        if (folder / "ready").exists():
            self._log(Level.INFO, "Dependencies are unchanged")
            return key, folder / "venv"
        self._releases.begin(folder)
        venv = self._releases.owned(folder / "venv")
        if recipe.install is Install.POETRY_LOCK:
            pins = folder / native.PINS
            pins.write_text(poetry.pinned(declared.texts["poetry.lock"]))
            pins.chmod(0o644)
        started = time.monotonic()
        uv = await self._tools.uv(self._uid)
        await self._run(script(*native.install_commands(recipe, uv, python, venv)))
        (folder / "ready").touch()
        self._log(Level.INFO, f"Installed dependencies in {time.monotonic() - started:.1f} s")
        return key, venv

    async def _package(self, venv: Path) -> Path:
        """Install the repository itself, which is a distribution, for this release only."""
        site = self._releases.owned(self._folder / "site")
        self._log(Level.INFO, "Installing the project itself")
        await self._run(script(native.package_command(await self._tools.uv(self._uid), venv, site)))
        return site

    async def _run(self, argv: tuple[str, ...]) -> None:
        await run_build_command(
            self._supervisor,
            self._id,
            argv,
            cwd=self._app,
            environment=self._environment,
            uid=self._uid,
            log=self._log,
        )

    def _artifact(
        self, web: tuple[str, ...], before: tuple[str, ...], environment: dict[str, str]
    ) -> Artifact:
        return Artifact(
            key=self._key, location=str(self._app), web=web, release=before, environment=environment
        )

    def _read(self, name: str) -> str:
        """Text of a file of the release, "" when it is not there. Only before it is handed over."""
        path = self._app / name
        if not path.is_file():
            return ""
        if path.stat().st_size > TEXT_LIMIT:
            raise BuildFailed(f"{name} is too large")
        return path.read_text("utf-8", "replace")


def reused(artifact: Artifact) -> Artifact:
    """The artifact, saying that nothing was built for it."""
    return msgspec.structs.replace(artifact, cached=True)
