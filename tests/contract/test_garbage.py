"""Cleaning up by ownership: what history can go back to stays, and nothing foreign is ever touched."""

import os
import tempfile
import time
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refloat.builders.local import LocalBuilder
from refloat.builders.releases import Release, Releases
from refloat.domain.revision import Artifact
from refloat.supervisor.accounts import Accounts
from refloat.supervisor.processes import LocalSupervisor

SERVICE = "0190f5fb-4b28-7000-8000-00000000000a"
UNKNOWN = "0190f5fb-4b28-7000-8000-00000000000b"
LONG_AGO = timedelta(days=2).total_seconds()


def key(number: int) -> str:
    return f"{number:032x}"


class Node:
    """A node directory with finished builds of a service, as the builder leaves them."""

    def __init__(self, folder: Path, budget: int | None = None) -> None:
        self.folder = folder
        self.pins: dict[str, Collection[str] | None] = {SERVICE: ()}
        self.builder = LocalBuilder(
            folder,
            LocalSupervisor(folder),
            Accounts(folder),
            local_sources=True,
            in_use=self._in_use,
            disk_budget=budget,
        )

    async def _in_use(self, service_id: str) -> Collection[str] | None:
        return self.pins.get(service_id)

    def release(self, number: int, *, deps: int = 0, age: float = LONG_AGO, service: str = SERVICE) -> Path:
        """100 kB of files, and as much of dependencies."""
        releases = Releases(self.folder, service, None)
        place = releases.begin(releases.release(key(number)))
        (place / "app").mkdir()
        (place / "app" / "file").write_bytes(b"x" * 100_000)
        needs = key(deps) if deps else ""
        if deps:
            (releases.dependencies(needs) / "venv").mkdir(parents=True, exist_ok=True)
            (releases.dependencies(needs) / "venv" / "file").write_bytes(b"x" * 100_000)
        artifact = Artifact(key=key(number), location=str(place / "app"), web=("x",))
        releases.finish(key(number), Release(artifact=artifact, deps=needs))
        then = time.time() - age - (1000 - number)
        os.utime(place / "release.json", (then, then))
        return place

    def unfinished(self, number: int, age: float) -> Path:
        place = self.folder / "services" / SERVICE / "releases" / key(number)
        (place / "app").mkdir(parents=True)
        os.utime(place, (time.time() - age,) * 2)
        return place


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "node")


def there(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


async def test_what_history_can_go_back_to_stays_and_the_rest_goes_with_its_dependencies(node: Node) -> None:
    pinned, old = node.release(1, deps=11), node.release(2, deps=12)
    shared = node.release(3, deps=11)
    node.pins[SERVICE] = (key(1),)
    cleaned = await node.builder.clean()
    assert pinned.exists() and not old.exists() and not shared.exists()
    services = node.folder / "services" / SERVICE
    assert [p.name for p in (services / "deps").iterdir()] == [key(11)]
    assert sorted(it.path.rpartition("/")[2] for it in cleaned.kept) == [key(2), key(3), key(12)]
    assert (await node.builder.disk()).used == cleaned.used


async def test_a_dry_run_names_exactly_what_a_clean_up_deletes_and_changes_nothing(node: Node) -> None:
    for number in range(1, 5):
        node.release(number, deps=number % 2 + 10)
    node.unfinished(9, LONG_AGO)
    node.pins[SERVICE] = (key(2),)
    before = there(node.folder)
    listed = {it.path for it in (await node.builder.disk()).kept if it.goes}
    assert there(node.folder) == before
    assert {it.path for it in (await node.builder.clean()).kept} == listed
    gone = before - there(node.folder)
    assert listed <= gone and all(any(path.startswith(place) for place in listed) for path in gone)


async def test_what_was_just_used_stays_and_so_does_all_of_a_service_that_is_built(node: Node) -> None:
    recent, old = node.release(1, age=-1000), node.release(2)
    await node.builder.clean()
    assert recent.exists() and not old.exists()
    building, older = node.unfinished(9, age=60), node.release(3)
    await node.builder.clean()
    assert building.exists() and older.exists()


async def test_the_budget_takes_the_oldest_first_then_caches_and_never_what_is_pinned(tmp_path: Path) -> None:
    node = Node(tmp_path / "node", budget=430_000)
    places = [node.release(number) for number in range(1, 6)]
    cache = node.folder / "services" / SERVICE / "build" / "cache"
    cache.mkdir(parents=True)
    (cache / "file").write_bytes(b"x" * 50_000)
    node.pins[SERVICE] = (key(1),)
    gone = await node.builder._cleaner.shrink()
    assert gone is not None and gone.used <= 430_000
    assert [place.exists() for place in places] == [True, False, False, True, True] and cache.exists()
    node.pins[SERVICE] = tuple(map(key, range(1, 6)))
    for number in (2, 3):
        node.release(number)
    await node.builder._cleaner.shrink()
    assert all(place.exists() for place in places) and not cache.exists()


async def test_nothing_of_a_service_that_the_database_does_not_know_goes(node: Node) -> None:
    """It may have been lost, and what it knew runs."""
    place = node.release(1, service=UNKNOWN)
    found = {it.service_id: it.reason for it in (await node.builder.disk()).kept}
    assert found == {UNKNOWN: "its service is not in this database"}
    await node.builder.clean()
    assert place.exists()


async def test_history_that_moved_on_after_the_look_is_asked_again(node: Node) -> None:
    place = node.release(1)
    use = await node.builder.disk()
    node.pins[SERVICE] = (key(1),)
    assert (await node.builder._cleaner._delete(use)).kept == () and place.exists()


@pytest.mark.parametrize("name", ["git", "build", "releases", "deps", "."])
async def test_a_place_that_leads_elsewhere_is_not_ours(name: str, tmp_path: Path) -> None:
    node, outside = Node(tmp_path / "node", budget=0), tmp_path / "outside"
    for inside in ("cache", key(1), key(2)):
        (outside / inside).mkdir(parents=True)
        (outside / inside / "precious").write_text("content")
        os.utime(outside / inside, (0, 0))
    service = node.folder / "services" / SERVICE
    service.parent.mkdir(parents=True)
    if name != ".":
        service.mkdir()
    (service / name if name != "." else service).symlink_to(outside)
    before = there(outside)
    await node.builder.clean()
    assert there(outside) == before


NAMES = st.sampled_from(
    ["releases", "deps", "build", "git", "cache", "services", "app", key(1), key(2), key(1)[:-1],
     "x" + key(1)[1:], "release.json", "home", "..a", ".hidden", "A" * 32, SERVICE, UNKNOWN,
     "not-a-service", "a\nb", "\udcff", "-rf"]
)  # fmt: skip
FOREIGN: st.SearchStrategy[object] = st.recursive(
    st.sampled_from(["file", "link to foreign", "link to ours"]),
    lambda below: st.dictionaries(NAMES, below, max_size=4),
    max_leaves=15,
)


def scatter(place: Path, tree: object, foreign: Path, ours: Path, made: set[Path]) -> None:
    """Put a tree of somebody else's into ours, beside what is there; what was made is remembered."""
    if os.path.lexists(place) and not (isinstance(tree, dict) and place.is_dir() and not place.is_symlink()):
        return
    if isinstance(tree, dict):
        place.mkdir(exist_ok=True)
        for name, below in tree.items():
            scatter(place / name, below, foreign, ours, made)
        os.utime(place, (0, 0))
        return
    if tree == "file":
        place.write_text("foreign")
    else:
        place.symlink_to(foreign if tree == "link to foreign" else ours)
    made.add(place)


@pytest.mark.property
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(at_top=FOREIGN, at_services=FOREIGN, at_service=FOREIGN, at_releases=FOREIGN)
def test_nothing_foreign_is_ever_touched(
    at_top: object, at_services: object, at_service: object, at_releases: object
) -> None:
    """Whatever lies in the node directory under whatever name; only inside of our own builds it may go."""
    import asyncio

    with tempfile.TemporaryDirectory(prefix="refloat-test-") as name:
        outside = Path(name) / "outside"
        (outside / key(1)).mkdir(parents=True)
        (outside / "cache").mkdir()
        for folder in (key(1), "cache"):
            (outside / folder / "precious").write_text("content")
        before = there(outside)
        node, made = Node(Path(name) / "node", budget=0), set[Path]()
        doomed = [node.release(number, deps=number + 10) for number in (3, 4)]
        service = node.folder / "services" / SERVICE
        for place, tree in (
            (node.folder, at_top),
            (node.folder / "services", at_services),
            (service, at_service),
            (service / "releases", at_releases),
        ):
            scatter(place, tree, outside, doomed[0], made)
        owned = (*doomed, service / "build" / "cache", service / "git" / "cache")
        unfinished = {p for p in (service / "releases").iterdir() if p.name in (key(1), key(2))}
        unused = {p for p in (service / "deps").iterdir() if p.name in (key(1), key(2))}
        asyncio.run(node.builder.clean())
        for place in made:
            inside = any(place != top and place.is_relative_to(top) for top in (*owned, *unfinished, *unused))
            assert inside or os.path.lexists(place), place
        assert there(outside) == before
