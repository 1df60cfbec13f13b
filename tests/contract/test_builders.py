"""Guarantees of the builder port, shown on real repositories, dependencies and processes."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builder_support import SERVICE, World
from tests.programs import for_others

from refloat.builders.tools import Tools
from refloat.domain.errors import BuildFailed
from refloat.supervisor.processes import LocalSupervisor

ROOT = os.geteuid() == 0
APPLICATION = {"requirements.txt": "six==1.17.0\n", "main.py": "import six\nprint(six.__version__)\n"}
PACKAGE = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "greeter"
version = "1"
dependencies = ["six"]
[project.scripts]
greet = "greeter:main"
"""
HOSTILE = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(999)"
child = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
with open({pids!r}, "w") as file: file.write(f"{{os.getpid()}} {{child.pid}}")
time.sleep(999)
"""
BACKEND = """
import os
def _work():
    {work}
def get_requires_for_build_wheel(config_settings=None): return []
def prepare_metadata_for_build_wheel(directory, config_settings=None): _work()
def build_wheel(directory, config_settings=None, metadata_directory=None): _work()
"""
HOOKED = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "hooked"
version = "1"
"""


@pytest.fixture
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="refloat-builders-"))
    folder.chmod(0o755)
    yield World(folder)
    shutil.rmtree(folder)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_a_build_runs_with_its_dependencies_and_says_why(world: World) -> None:
    artifact = await world.build(world.commit(APPLICATION))
    assert not artifact.cached
    assert world.run(artifact) == "1.17.0"
    assert world.said("Detected Python: dependencies from requirements.txt")
    assert world.said("six==1.17.0")
    assert artifact.environment["PYTHONUNBUFFERED"] == "1"
    first = artifact.environment["PATH"].split(":")[0]
    assert first == artifact.environment["VIRTUAL_ENV"] + "/bin"


async def test_the_same_commit_is_built_once(world: World) -> None:
    commit = world.commit(APPLICATION)
    first = await world.build(commit)
    again = await world.build(commit)
    assert again.cached
    assert (again.key, again.location, again.web) == (first.key, first.location, first.web)
    world.builder = world.new_builder()
    assert (await world.build(commit)).cached


async def test_a_new_commit_with_the_same_dependencies_installs_nothing(world: World) -> None:
    first = await world.build(world.commit(APPLICATION))
    second = await world.build(world.commit({"main.py": "import six\nprint('second')\n"}))
    assert not second.cached
    assert second.key != first.key
    assert world.said("Dependencies are unchanged")
    assert second.environment == first.environment
    assert world.run(second) == "second"
    assert world.run(first) == "1.17.0"
    third = await world.build(
        world.commit({"requirements.txt": "six==1.16.0\n", "main.py": APPLICATION["main.py"]})
    )
    assert world.run(third) == "1.16.0"


async def test_an_application_that_brings_no_server_gets_one(world: World) -> None:
    app = "import bottle\n\napp = bottle.Bottle()\n"
    artifact = await world.build(world.commit({"app.py": app, "requirements.txt": "bottle==0.13.4\n"}))
    assert artifact.web[-1] == "exec gunicorn --no-control-socket --bind 127.0.0.1:$PORT app:app"
    assert world.said("Adding gunicorn, which is not among the dependencies")
    world.run(artifact, ("sh", "-c", "gunicorn --no-control-socket --check-config app:app"))
    assert world.run(artifact, ("python", "-c", "import bottle; print(bottle.__version__)")) == "0.13.4"


async def test_concurrent_builds_of_one_commit_are_one_build(world: World) -> None:
    commit = world.commit(APPLICATION)
    results = await asyncio.gather(*(world.build(commit) for _ in range(4)))
    assert sorted(result.cached for result in results) == [False, True, True, True]


async def test_a_procfile_gives_the_web_and_the_release_command(world: World) -> None:
    artifact = await world.build(
        world.commit({**APPLICATION, "Procfile": "web: python main.py\nrelease: echo done"})
    )
    assert world.run(artifact) == "1.17.0"
    assert world.run(artifact, artifact.release) == "done"


async def test_a_distribution_is_installed_with_its_scripts(world: World) -> None:
    code = "import six\ndef main(): print('hello', six.__version__ != '')\n"
    files = {"pyproject.toml": PACKAGE, "src/greeter/__init__.py": code, "Procfile": "web: greet"}
    artifact = await world.build(world.commit(files))
    assert world.run(artifact) == "hello True"
    artifact = await world.build(world.commit({"src/greeter/__init__.py": "def main(): print('second')\n"}))
    assert world.said("Dependencies are unchanged")
    assert world.run(artifact) == "second"


async def test_a_lock_of_uv_is_installed_exactly(world: World) -> None:
    project = (
        "[project]\nname = 'locked'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = ['six<1.17']\n"
    )
    world.commit({"pyproject.toml": project, "main.py": APPLICATION["main.py"]})
    uv = await Tools(world.node).uv(None)
    locked = await asyncio.create_subprocess_exec(uv, "lock", "--quiet", cwd=world.repository)
    assert await locked.wait() == 0
    artifact = await world.build(world.commit({}))
    assert world.run(artifact) == "1.16.0"


async def test_static_files_are_served_by_a_server_of_ours(world: World) -> None:
    artifact = await world.build(world.commit({"index.html": "hi"}))
    assert artifact.web[-1] == artifact.location
    assert Path(artifact.web[-2]).name == "static_server.py"


async def test_own_sources_are_compiled(world: World) -> None:
    artifact = await world.build(world.commit({"main.py": "", "pkg/mod.py": "", "bad.py": "(("}))
    assert list(Path(artifact.location).glob("pkg/__pycache__/mod.*.pyc"))


async def test_a_root_path_is_built_alone(world: World) -> None:
    commit = world.commit({"api/main.py": "print('api')", "web/index.html": "hi"})
    artifact = await world.build(commit, source=world.source("/api"))
    assert world.run(artifact) == "api"
    assert not (Path(artifact.location) / "web").exists()


async def test_a_failing_build_carries_its_last_lines_and_leaves_no_release(world: World) -> None:
    commit = world.commit({"main.py": "", "requirements.txt": "six==0.0.99\n"})
    for _ in range(2):
        with pytest.raises(BuildFailed, match="exit code 1") as caught:
            await world.build(commit)
        assert any("six==0.0.99" in line for line in caught.value.log)
    assert not list(world.node.glob("services/*/releases/*"))


@pytest.mark.parametrize(
    ("files", "more", "words"),
    [
        ({"README": ""}, {}, "nothing to run"),
        ({"Dockerfile": "FROM x"}, {}, "without Docker"),
        ({"main.py": ""}, {"dockerfile_path": "Dockerfile"}, "without Docker.*dockerfile_path to null"),
        ({"main.py": "", ".python-version": "3.99"}, {}, "no Python 3.99 on this machine"),
        ({"manage.py": "'shop.settings'", "shop/wsgi.py": ""}, {}, "gunicorn is not among the dependencies"),
    ],
)
async def test_what_cannot_be_built_is_refused_with_what_to_do(
    world: World, files: dict[str, str], more: dict[str, object], words: str
) -> None:
    commit = world.commit(files)
    with pytest.raises(BuildFailed, match=words):
        await world.build(commit, **more)


async def test_the_servers_secrets_are_not_visible_in_builds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLOAT_ADMIN_TOKEN", "hunter2")
    work = "print('SEEN', sorted(os.environ.items()), os.getuid(), flush=True); raise SystemExit(3)"
    commit = world.commit({"pyproject.toml": HOOKED, "backend.py": BACKEND.format(work=work), "main.py": ""})
    with pytest.raises(BuildFailed):
        await world.build(commit)
    (seen,) = {line for line in world.lines if "SEEN" in line}
    assert "hunter2" not in seen
    assert "UV_CACHE_DIR" in seen
    if ROOT:
        assert not seen.rstrip().endswith(" 0")


def hostile(world: World) -> str:
    """A commit whose build never ends, ignores TERM and has a child in a session of its own."""
    program = HOSTILE.format(pids=str(world.shared / "pids"))
    backend = BACKEND.format(work=f"exec({program!r}, globals())")
    return world.commit({"pyproject.toml": HOOKED, "backend.py": backend, "main.py": ""})


async def pids_of(world: World) -> list[int]:
    file = world.shared / "pids"
    await until(lambda: file.exists() and len(file.read_text().split()) == 2)
    pids = [int(word) for word in file.read_text().split()]
    assert all(alive(pid) for pid in pids)
    return pids


async def test_a_cancelled_build_leaves_nothing_behind(world: World) -> None:
    building = asyncio.ensure_future(world.build(hostile(world)))
    pids = await pids_of(world)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert not any(alive(pid) for pid in pids)
    assert not list(world.node.glob("services/*/releases/*"))
    assert await LocalSupervisor(world.node).states("build.") == ()


async def test_a_build_ends_at_its_deadline(world: World) -> None:
    building = asyncio.ensure_future(world.build(hostile(world), timeout_seconds=8))
    pids = await pids_of(world)
    with pytest.raises(BuildFailed, match="did not finish within 8 s"):
        await building
    assert not any(alive(pid) for pid in pids)


async def test_a_build_left_by_a_killed_control_plane_is_ended_first(world: World) -> None:
    commit = hostile(world)
    program = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import builder_support
world = builder_support.World.__new__(builder_support.World)
world.folder, world.node = Path({str(world.folder)!r}), Path({str(world.node)!r})
world.repository, world.lines = world.folder / "repository", []
world.builder = world.new_builder()
asyncio.run(world.build({commit!r}))
"""
    former = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    pids = await pids_of(world)
    former.kill()
    await former.wait()
    assert all(alive(pid) for pid in pids)
    good = world.commit({**APPLICATION, "pyproject.toml": ""})
    await world.build(good)
    assert world.said("Ending a build that was interrupted")
    assert not any(alive(pid) for pid in pids)


async def test_old_releases_go_and_those_asked_for_stay(world: World) -> None:
    built = [await world.build(world.commit({"main.py": f"print({n})"})) for n in range(3)]
    built += [
        await world.build(world.commit({"main.py": f"print({n})", "requirements.txt": ""})) for n in (4, 5, 6)
    ]
    kept = {path.parent.name for path in world.node.glob("services/*/releases/*/release.json")}
    assert kept == {artifact.key for artifact in built[1:]}
    for n in (7, 8):
        await world.build(world.commit({"main.py": f"print({n})"}))
    assert len(list(world.node.glob("services/*/deps/*"))) == 1
    assert world.run(built[-1]) == "6"


async def test_a_release_that_a_process_is_in_stays(world: World) -> None:
    first = await world.build(world.commit({"main.py": "print(0)"}))
    inside = await asyncio.create_subprocess_exec("sleep", "999", cwd=first.location)
    for n in range(1, 7):
        await world.build(world.commit({"main.py": f"print({n})"}))
    assert Path(first.location).exists()
    inside.kill()
    await inside.wait()
    assert first.key in await world.builder.prune(SERVICE)


async def test_forgetting_a_service_deletes_what_was_kept(world: World) -> None:
    commit = world.commit(APPLICATION)
    await world.build(commit)
    await world.builder.forget(SERVICE)
    assert not list((world.node / "services" / SERVICE).glob("*"))
    await world.builder.forget(SERVICE)
    assert not (await world.build(commit)).cached


@pytest.mark.skipif(not ROOT, reason="the other tests show it")
@for_others
async def test_a_build_works_without_root(world: World) -> None:
    """The same build by a server that is not root, as an ordinary user."""
    uid = 65534
    commit = world.commit(APPLICATION)
    python = await Tools(world.node).interpreter(uid, "3.11", {"HOME": "/", "UV_NO_CACHE": "1"})
    mine = world.folder / "mine"
    mine.mkdir()
    for path in (mine, world.repository, *world.repository.rglob("*")):
        os.chown(path, uid, uid)
    program = f"""
import asyncio
from pathlib import Path
from refloat.builders.base import BuildRequest
from refloat.builders.local import LocalBuilder
from refloat.domain.services import GitSource
from refloat.supervisor.accounts import Accounts
from refloat.supervisor.processes import LocalSupervisor
node = Path({str(mine)!r}) / "node"
builder = LocalBuilder(node, LocalSupervisor(node), Accounts(node), local_sources=True)
request = BuildRequest(service_id="s", environment_id="e", deployment_id="d", name="web",
    source=GitSource(url={str(world.repository)!r}), commit_id={commit!r})
artifact = asyncio.run(builder.build(request, lambda level, line: print(line)))
print("WEB", artifact.location)
"""
    source = Path(__file__).parents[2] / "src"
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {**os.environ, "HOME": str(mine), "PYTHONPATH": f"{source}:{libraries}"}
    done = await asyncio.create_subprocess_exec(
        python.path, "-c", program, env=environment, cwd="/", user=uid, group=uid, extra_groups=(),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await done.communicate()
    assert done.returncode == 0
    place = Path(output.decode().split("WEB ")[1].strip())
    assert place.stat().st_uid == uid
