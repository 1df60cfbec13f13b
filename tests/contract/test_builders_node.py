"""Guarantees of the builder port for Node.js, shown with the npm of this machine."""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builder_support import World
from tests.programs import needs

from refloat.builders.node_tools import find_node
from refloat.domain.errors import BuildFailed

pytestmark = needs("node", "npm")

MS = {"dependencies": {"ms": "2.1.3"}}
MS_LOCK = {
    "lockfileVersion": 3,
    "requires": True,
    "packages": {
        "": MS,
        "node_modules/ms": {
            "version": "2.1.3",
            "resolved": "https://registry.npmjs.org/ms/-/ms-2.1.3.tgz",
            "integrity": "sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/"
            "tXtF3WRTlA==",
        },
    },
}
SAYS = "console.log(require('ms')('2 days'))\n"
SPY = """
const all = JSON.stringify(process.env)
console.log('SEEN', all.includes('hunter2'), 'UV_CACHE_DIR' in process.env, process.getuid() === 0)
"""


@pytest.fixture
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="refloat-node-"))
    folder.chmod(0o755)
    yield World(folder)
    shutil.rmtree(folder)


def project(package: dict[str, Any], **files: str) -> dict[str, str]:
    """The files of a project that depends on `ms`, locked."""
    return {
        "package.json": json.dumps({"name": "app", "version": "1.0.0", **MS, **package}),
        "package-lock.json": json.dumps(MS_LOCK),
        "server.js": SAYS,
        **{name.replace("_", "."): text for name, text in files.items()},
    }


async def test_a_project_runs_with_its_locked_dependencies_and_the_log_says_why(world: World) -> None:
    artifact = await world.build(world.commit(project({})))
    assert world.run(artifact) == "172800000"
    assert world.said("Detected Node.js: dependencies from package-lock.json")
    assert world.said("Using Node.js ")
    assert world.said("Will run exec node server.js")
    assert artifact.environment["NODE_ENV"] == "production"


async def test_a_new_commit_with_the_same_dependencies_installs_nothing(world: World) -> None:
    first = await world.build(world.commit(project({})))
    assert world.said("Installed dependencies")
    commit = world.commit(project({"version": "1.0.1", "description": "new"}, server_js="console.log('two')"))
    second = await world.build(commit)
    assert world.said("Dependencies are unchanged")
    assert not world.said("Installed dependencies")
    assert (world.run(first), world.run(second)) == ("172800000", "two")
    inodes = {Path(a.location, "node_modules/ms/index.js").stat().st_ino for a in (first, second)}
    assert len(inodes) == 1
    assert len(list(world.node.glob("services/*/deps/*"))) == 1


async def test_a_new_version_of_the_repository_itself_installs_nothing(world: World) -> None:
    """npm writes that version into the lock, twice."""
    for version in ("1.0.0", "1.0.1"):
        own = {"": {"name": "app", "version": version, "license": "MIT", **MS}}
        lock = {"name": "app", "version": version, **MS_LOCK, "packages": {**MS_LOCK["packages"], **own}}
        files = project({"version": version}) | {"package-lock.json": json.dumps(lock)}
        artifact = await world.build(world.commit(files))
    assert world.said("Dependencies are unchanged")
    assert world.run(artifact) == "172800000"


async def test_what_a_script_of_one_commit_does_to_dependencies_is_not_seen_by_the_next(world: World) -> None:
    patch = (
        "require('fs').appendFileSync('node_modules/ms/index.js', ';module.exports = () => \\'patched\\'')"
    )
    first = await world.build(world.commit(project({"scripts": {"postinstall": f'node -e "{patch}"'}})))
    second = await world.build(world.commit(project({"scripts": {"postinstall": "true"}})))
    assert world.said("Dependencies are unchanged")
    assert (world.run(first), world.run(second)) == ("patched", "172800000")


async def test_a_build_has_what_is_for_development_and_the_release_has_not(world: World) -> None:
    scripts = {"build": "node build.js", "start": "node out.js"}
    package = {"scripts": scripts, "dependencies": {}, "devDependencies": MS["dependencies"]}
    build = "require('fs').writeFileSync('out.js', 'console.log(' + require('ms')('1s') + ')')"
    lock = json.loads(json.dumps(MS_LOCK))
    lock["packages"][""] = {"devDependencies": MS["dependencies"]}
    lock["packages"]["node_modules/ms"]["dev"] = True
    files = project(package) | {"build.js": build, "package-lock.json": json.dumps(lock)}
    artifact = await world.build(world.commit(files))
    assert world.run(artifact) == "1000"
    assert not Path(artifact.location, "node_modules/ms").exists()
    del files["package-lock.json"]
    world.git("rm", "--quiet", "package-lock.json")
    artifact = await world.build(world.commit(files))
    assert world.said("There is no package-lock.json")
    assert world.run(artifact) == "1000"
    assert not Path(artifact.location, "node_modules/ms").exists()


async def test_a_site_is_served_from_where_its_build_leaves_it(world: World) -> None:
    write = "const fs = require('fs'); fs.mkdirSync('dist'); fs.writeFileSync('dist/index.html', 'built')"
    files = project({"scripts": {"build": "node build.js"}}) | {"build.js": write, "index.html": "source"}
    del files["server.js"]
    artifact = await world.build(world.commit(files))
    assert artifact.web[-1] == f"{artifact.location}/dist"
    assert not Path(artifact.location, "node_modules").exists()
    with pytest.raises(BuildFailed, match="build left no index"):
        world.git("rm", "--quiet", "index.html")
        await world.build(world.commit({"build.js": "1"}))


async def test_python_and_node_in_one_repository_are_both_there(world: World) -> None:
    files = project({"scripts": {"build": "node server.js > built"}})
    files |= {"requirements.txt": "six==1.17.0", "main.py": "import six; print(open('built').read(), end='')"}
    files["Procfile"] = "web: python main.py && node server.js"
    assert world.run(await world.build(world.commit(files))) == "172800000\n172800000"


async def test_a_workspace_is_installed_in_place_for_each_commit(world: World) -> None:
    package = {"workspaces": ["lib"], "scripts": {"start": "node server.js"}}
    files = project(package, server_js="console.log(require('lib'))")
    lock = json.loads(json.dumps(MS_LOCK))
    lock["packages"][""]["workspaces"] = ["lib"]
    lock["packages"] |= {"node_modules/lib": {"resolved": "lib", "link": True}, "lib": {"version": "1.0.0"}}
    files |= {
        "package-lock.json": json.dumps(lock),
        "lib/package.json": '{"name": "lib", "version": "1.0.0"}',
    }
    first = await world.build(world.commit({**files, "lib/index.js": "module.exports = 'one'"}))
    second = await world.build(world.commit({"lib/index.js": "module.exports = 'two'"}))
    assert (world.run(first), world.run(second)) == ("one", "two")


async def test_a_folder_of_a_repository_is_built_alone(world: World) -> None:
    files = {f"api/{name}": text for name, text in project({}).items()} | {"package.json": "{broken"}
    artifact = await world.build(world.commit(files), source=world.source("/api"))
    assert world.run(artifact) == "172800000"


@pytest.mark.parametrize("in_place", [False, True], ids=["shared", "in place"])
async def test_lifecycle_scripts_see_none_of_the_servers_secrets_and_are_not_root(
    world: World, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    monkeypatch.setenv("REFLOAT_ADMIN_TOKEN", "hunter2")
    monkeypatch.setenv("NPM_TOKEN", "hunter2")
    monkeypatch.setenv("npm_config__auth", "hunter2")  # what npm itself would take as a token
    package: dict[str, Any] = {"scripts": {name: f"node spy.js {name}" for name in ("postinstall", "build")}}
    lock = json.loads(json.dumps(MS_LOCK))
    if in_place:
        package["workspaces"] = ["lib"]
        lock["packages"][""]["workspaces"] = ["lib"]
    files = project(package) | {"package-lock.json": json.dumps(lock)}
    await world.build(world.commit({**files, "spy.js": SPY}))
    seen = [line for line in world.lines if line.startswith("SEEN")]
    assert seen == ["SEEN false true false"] * 2
    assert not any("hunter2" in line for line in world.lines)


async def test_a_failing_build_script_is_a_failed_build_with_its_words(world: World) -> None:
    scripts = {"build": "echo last words && exit 3"}
    commit = world.commit(project({"scripts": scripts}))
    with pytest.raises(BuildFailed, match="exit code 3") as caught:
        await world.build(commit)
    assert "last words" in caught.value.log
    assert not list(world.node.glob("services/*/releases/*"))


async def test_a_lock_that_does_not_fit_is_a_failed_build_that_names_the_dependency(world: World) -> None:
    commit = world.commit(project({"dependencies": {"ms": "2.1.2"}}))
    with pytest.raises(BuildFailed, match=r"package-lock\.json and package\.json disagree about 'ms'"):
        await world.build(commit)


async def test_an_engine_that_is_not_here_is_a_failed_build(world: World) -> None:
    commit = world.commit(project({"engines": {"node": "^4.0.0"}}))
    with pytest.raises(BuildFailed, match=r"asks for Node\.js '\^4\.0\.0'"):
        await world.build(commit)


async def test_another_node_at_the_same_path_builds_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = world.folder / "bin"
    folder.mkdir()
    real = await find_node(None)
    for name, path in (("node", real.path), ("npm", real.npm)):
        (folder / name).write_text(f'#!/bin/sh\nexec {path} "$@"\n')
        (folder / name).chmod(0o755)
    monkeypatch.setattr("refloat.builders.node_tools.SYSTEM_PATH", f"{folder}:/usr/bin:/bin")
    commit = world.commit(project({}))
    await world.build(commit)
    assert (await world.build(commit)).cached
    os.utime(folder / "node", (1, 1))
    assert not (await world.build(commit)).cached


@pytest.mark.parametrize("before", ["echo first # a remark", "echo first;", "true && echo first &"])
async def test_a_script_that_goes_before_the_start_runs_first_whatever_it_ends_with(
    world: World, before: str
) -> None:
    scripts = {"prestart": before, "start": "node server.js"}
    files = {"package.json": json.dumps({"scripts": scripts}), "server.js": "console.log('second')"}
    artifact = await world.build(world.commit(files))
    assert sorted(world.run(artifact).split()) == ["first", "second"]


async def test_a_start_does_not_happen_when_the_script_before_it_fails(world: World) -> None:
    scripts = {"prestart": "exit 7", "start": "node server.js"}
    files = {"package.json": json.dumps({"scripts": scripts}), "server.js": "console.log('second')"}
    artifact = await world.build(world.commit(files))
    with pytest.raises(subprocess.CalledProcessError) as caught:
        world.run(artifact)
    assert (caught.value.returncode, caught.value.stdout) == (7, "")


async def test_a_start_command_from_a_dev_dependency_is_refused_when_it_is_built(world: World) -> None:
    tool = {"name": "tool", "version": "1.0.0", "bin": {"serve-it": "tool.js"}}
    package = {
        "devDependencies": {"tool": "file:tool"},
        "scripts": {"build": "serve-it", "start": "PORT=1 serve-it"},
    }
    files = {
        "package.json": json.dumps(package),
        "tool/package.json": json.dumps(tool),
        "tool/tool.js": "#!/usr/bin/env node\n",
    }
    with pytest.raises(BuildFailed, match=r"`serve-it`.*devDependencies.*move its package"):
        await world.build(world.commit(files))


async def test_a_release_command_of_a_procfile_is_run_without_npm_in_between(world: World) -> None:
    files = project({"scripts": {"migrate": "node -p process.ppid"}}, Procfile="web: node server.js")
    files["Procfile"] += "\nrelease: npm run migrate\n"
    artifact = await world.build(world.commit(files))
    assert world.run(artifact, artifact.release) == str(os.getpid())


async def test_a_procfile_runs_a_script_of_a_package_json_that_says_nothing_else(world: World) -> None:
    package = json.dumps({"name": "app", "scripts": {"serve": "node x.mjs"}})
    files = {"package.json": package, "Procfile": "web: npm run serve", "x.mjs": "console.log('served')\n"}
    artifact = await world.build(world.commit(files))
    assert world.said("Detected Node.js") and world.said("Will run exec node x.mjs")
    assert world.run(artifact) == "served"


async def test_dependencies_of_releases_that_are_kept_stay(world: World) -> None:
    built = [await world.build(world.commit(project({"version": f"1.0.{n}"}))) for n in range(7)]
    assert not Path(built[0].location).exists()
    assert len(list(world.node.glob("services/*/deps/*"))) == 1
    assert world.run(built[-1]) == "172800000"


async def test_a_start_script_gets_the_signal_itself(world: World) -> None:
    serve = "process.on('SIGTERM', () => { console.log('bye'); process.exit(0) });"
    serve += "setInterval(() => {}, 1000); console.log('up')"
    scripts = {"start": "npm run serve", "serve": "node server.js"}
    artifact = await world.build(world.commit(project({"scripts": scripts}, server_js=serve)))
    process = await asyncio.create_subprocess_exec(
        *artifact.web, env=artifact.environment, cwd=artifact.location, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    process.terminate()
    assert await process.stdout.read() == b"bye\n"
    assert await process.wait() == 0
