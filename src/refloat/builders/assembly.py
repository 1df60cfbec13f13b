"""One build, from the written files of a commit to a finished release."""

import shutil
import time
from pathlib import Path

import msgspec

from refloat.builders import native, poetry, static_server
from refloat.builders.compiling import compile_sources
from refloat.builders.detect import Install, Recipe, detect, missing_server
from refloat.builders.node_assembly import NodeAssembly, NodeBuilt, built_site
from refloat.builders.releases import Release, content_key, identities
from refloat.builders.tools import Interpreter, Tools
from refloat.builders.workplace import Workplace
from refloat.domain.errors import BuildFailed
from refloat.domain.revision import Artifact, Level

TEXT_LIMIT = 32 * 1024**2
"""Bytes of a file that decides how to build; larger ones are refused."""


class Assembly:
    """Builds the release `key`, whose files lie in its `app` folder and still belong to the server."""

    def __init__(self, place: Workplace, key: str, tools: Tools) -> None:
        self._place = place
        self._key = key
        self._tools = tools
        self._releases = place.releases
        self._app = place.app
        self._log = place.log

    async def make(self, files: tuple[str, ...], commit: str, *, serves: bool) -> Artifact:
        """Detect, install, compile, record. Without `serves` no command has to be found."""
        recipe = detect(files, self._read, serves=serves)
        declared = native.declared(recipe, files, self._read)
        for reason in recipe.reasons:
            self._log(Level.INFO, f"Detected {reason}")
        for warning in recipe.warnings:
            self._log(Level.WARNING, warning)
        node = self._node_assembly(recipe)
        self._releases.hand_over(self._app)
        built = await node.make() if node else None
        release = await self._release(recipe, declared, commit, files, built)
        if built:
            programs = identities((built.node.path,))
            release = msgspec.structs.replace(release, node_deps=built.deps, built_for=programs)
        if release.artifact.web:
            self._log(Level.INFO, f"Will run {release.artifact.web[-1]}")
        self._releases.finish(self._key, release)
        return release.artifact

    async def _release(
        self,
        recipe: Recipe,
        declared: native.Declared,
        commit: str,
        files: tuple[str, ...],
        built: NodeBuilt | None,
    ) -> Release:
        if recipe.static or recipe.site:
            return await self._static(built_site(self._app) if recipe.site else self._app)
        folders = built.folders if built else ()
        if recipe.python:
            return await self._python(recipe, declared, commit, files, folders)
        web, before, reason = native.commands(recipe, ())
        if not recipe.procfile:
            self._log(Level.INFO, f"Chose {reason}")
        return Release(artifact=self._artifact(web, before, native.runtime(None, None, folders)))

    def _node_assembly(self, recipe: Recipe) -> NodeAssembly | None:
        """What builds for Node.js; the files it reads are read before they are handed over."""
        if recipe.node is None:
            return None
        lock = self._read(recipe.node.lock) if recipe.node.lock else ""
        command = "" if recipe.python else native.node_command(recipe, recipe.node)
        settings = self._read(".npmrc")
        return NodeAssembly(self._place, recipe.node, lock, settings, site=recipe.site, command=command)

    async def _static(self, folder: Path) -> Release:
        python = await self._tools.interpreter(self._place.uid, "", self._place.environment)
        server = self._place.folder / "static_server.py"
        shutil.copyfile(static_server.__file__, server)
        server.chmod(0o644)
        web = (python.path, "-I", "-S", str(server), str(folder))
        return Release(artifact=self._artifact(web, (), native.runtime(None, None)), needs=(python.path,))

    async def _python(
        self,
        recipe: Recipe,
        declared: native.Declared,
        commit: str,
        files: tuple[str, ...],
        folders: tuple[str, ...],
    ) -> Release:
        wanted = recipe.interpreter
        python = await self._tools.interpreter(self._place.uid, wanted, self._place.environment)
        self._log(Level.INFO, f"Using Python {python.version} ({python.path})")
        key, venv = await self._dependencies(recipe, declared, python, commit)
        site = await self._package(venv) if recipe.package else None
        web, before, reason = native.commands(recipe, _programs(venv, site))
        if not recipe.procfile:
            self._log(Level.INFO, f"Chose {reason}")
        if any(path.endswith(".py") for path in files):
            await compile_sources(python.path, self._app, self._place.uid)
        artifact = self._artifact(web, before, native.runtime(venv, site, folders))
        return Release(artifact=artifact, deps=key, needs=(python.path, str(venv / "bin" / "python")))

    async def _dependencies(
        self, recipe: Recipe, declared: native.Declared, python: Interpreter, commit: str
    ) -> tuple[str, Path]:
        """The key and environment of what the repository declares, installed unless it is there."""
        servers = sorted({candidate.needs for candidate in recipe.candidates if candidate.addable})
        texts = sorted(declared.texts.items())
        facts = (native.VERSION, recipe.install, python.path, python.version, texts, servers)
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
        uv = await self._tools.uv(self._place.uid)
        await self._place.run(*native.install_commands(recipe, uv, python, venv))
        if server := missing_server(recipe, _programs(venv)):
            said = f"Adding {server}, which is not among the dependencies; name it there to pin it"
            self._log(Level.WARNING, said)
            await self._place.run(native.server_command(server, uv, venv))
        (folder / "ready").touch()
        self._log(Level.INFO, f"Installed dependencies in {time.monotonic() - started:.1f} s")
        return key, venv

    async def _package(self, venv: Path) -> Path:
        """Install the repository itself, which is a distribution, for this release only."""
        site = self._releases.owned(self._place.folder / "site")
        self._log(Level.INFO, "Installing the project itself")
        await self._place.run(native.package_command(await self._tools.uv(self._place.uid), venv, site))
        return site

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


def _programs(*folders: Path | None) -> set[str]:
    """Names of the executables in these environments."""
    return {path.name for folder in folders if folder for path in folder.glob("bin/*")}


def reused(artifact: Artifact) -> Artifact:
    """The artifact, saying that nothing was built for it."""
    return msgspec.structs.replace(artifact, cached=True)
