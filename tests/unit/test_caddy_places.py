"""The edge's files: every change one rename, nothing secret readable, nothing needed removed too early."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from refloat.domain.errors import Unavailable
from refloat.routers.base import Serving
from refloat.routers.caddy.config import UPSTREAMS, Edge, digest, ports, render
from refloat.routers.caddy.layout import CANARY, Entry, Layout, Slot
from refloat.routers.caddy.places import Places, load_secret


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    """Made under the strictest umask: the edge may be another user and must read its files all the same."""
    before = os.umask(0o077)
    root = tmp_path / "edge"
    yield Edge(root=root, listen=("127.0.0.1:8000",), secret=load_secret(root), hold_seconds=2)
    os.umask(before)


@pytest.fixture
def layout() -> Layout:
    slots = (Slot(port=100, service_id=CANARY), Slot(port=101, service_id="a", hosts=("a.localhost",)))
    entries = (Entry(host="a.localhost", slot=1),)
    return Layout(control_ports={"a": 1, "b": 2}, slots=slots, entries=entries).grown(1, itertools.count(200))


@pytest.fixture
def places(edge: Edge, layout: Layout) -> Places:
    places = Places(edge)
    places.apply(layout, None)
    places.save(layout)
    return places


def upstreams(edge: Edge) -> list[str]:
    current = edge.slot_dir(1) / "current"
    return [(current / f"u{number}").read_text() for number in range(UPSTREAMS)]


def test_a_switch_fills_every_upstream_evenly(places: Places, edge: Edge) -> None:
    places.switch(1, "a.1", ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"))
    assert [upstreams(edge).count(f"127.0.0.1:{number}") for number in (1, 2, 3)] == [4, 4, 4]
    assert places.serving(1) == Serving(
        revision_key="a.1", endpoints=("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
    )


def test_what_a_request_may_still_read_is_kept_and_what_is_older_is_removed(
    places: Places, edge: Edge
) -> None:
    for number in range(1, 6):
        places.switch(1, f"a.{number}", (f"127.0.0.1:{number}",))
    kept = sorted(path.name for path in edge.slot_dir(1).iterdir() if not path.is_symlink() and path.is_dir())
    assert [name.rpartition("-")[0] for name in kept] == ["a.4", "a.5"]


def test_a_stopped_service_keeps_the_upstreams_a_late_request_may_read(places: Places, edge: Edge) -> None:
    places.switch(1, "a.1", ("127.0.0.1:1",))
    places.switch(1, "", ())
    assert places.serving(1) is None
    assert (edge.slot_dir(1) / "current" / "up").read_text() == "0"
    assert set(upstreams(edge)) == {"127.0.0.1:1"}


def test_a_revision_key_cannot_leave_its_directory(places: Places, edge: Edge) -> None:
    places.switch(1, "../../etc/passwd", ("127.0.0.1:1",))
    assert (edge.slot_dir(1) / "current").resolve().parent == edge.slot_dir(1).resolve()
    serving = places.serving(1)
    assert serving is not None and serving.revision_key == "../../etc/passwd"


def test_only_the_secret_and_the_layout_are_private(places: Places, edge: Edge) -> None:
    places.switch(1, "a.1", ("127.0.0.1:1",))
    private = {path.name for path in edge.root.rglob("*") if not path.stat().st_mode & 0o004}
    assert private == {"secret", "slots.json"}
    assert load_secret(edge.root) == edge.secret


def test_a_layout_is_read_as_it_was_stored_and_a_broken_one_is_named(
    places: Places, edge: Edge, layout: Layout
) -> None:
    assert places.load() == layout
    (edge.root / "slots.json").write_text("{")
    with pytest.raises(Unavailable, match=r"slots\.json cannot be read"):
        places.load()


def test_applying_a_layout_again_leaves_routes_alone(places: Places, edge: Edge, layout: Layout) -> None:
    places.switch(1, "a.1", ("127.0.0.1:1",))
    grown = layout.with_service("b", ("b.localhost",))
    places.apply(grown, layout)
    places.apply(grown.grown(5, itertools.count(300)), grown)
    assert places.serving(1) == Serving(revision_key="a.1", endpoints=("127.0.0.1:1",))
    assert (edge.slot_dir(2) / "service").read_text() == "b"


def test_a_new_host_or_endpoint_does_not_change_the_configuration(edge: Edge, layout: Layout) -> None:
    before = digest(render(edge, layout, "a"))
    assert digest(render(edge, layout.with_service("b", ("b.localhost",)), "a")) == before
    assert digest(render(edge, layout.without_service("a"), "a")) == before
    assert digest(render(edge, layout.grown(3, itertools.count(300)), "a")) != before


def test_the_configuration_holds_a_request_only_if_asked_to(edge: Edge, layout: Layout) -> None:
    assert b"try_duration" in render(edge, layout, "a")
    assert b"try_duration" not in render(msgspec.structs.replace(edge, hold_seconds=0.0), layout, "a")


def test_the_ports_of_a_process_are_those_of_its_configuration(edge: Edge, layout: Layout) -> None:
    assert ports(edge, layout, "b") == {8000, 100, 101, 200, 2}
