"""Addresses: stable, never shared, and freed ones given out last."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.domain.errors import Conflict
from refloat.routers.caddy.layout import CANARY, CANARY_HOST, Entry, Layout, NoRoom, Slot

SERVICES = st.sampled_from(["a", "b", "c", "d"])
HOSTS = st.lists(st.sampled_from(["one", "two", "three", "four"]), max_size=2, unique=True).map(tuple)
CHANGES = st.one_of(
    st.tuples(st.just("reserve"), SERVICES, HOSTS),
    st.tuples(st.just("forget"), SERVICES, st.just(())),
    st.tuples(st.just("grow"), st.just(""), st.just(())),
)


def empty(spare: int = 2) -> Layout:
    canary = Slot(port=100, service_id=CANARY, hosts=(CANARY_HOST,))
    layout = Layout(
        control_ports={"a": 1, "b": 2}, slots=(canary,), entries=(Entry(host=CANARY_HOST, slot=0),)
    )
    return layout.grown(spare, count(101))


def change(layout: Layout, what: str, service: str, hosts: tuple[str, ...]) -> Layout:
    if what == "grow":
        return layout.grown(2, count(1000 * (layout.generation + 1)))
    return layout.without_service(service) if what == "forget" else layout.with_service(service, hosts)


@pytest.mark.property
@given(st.lists(CHANGES, max_size=30))
def test_no_address_is_ever_shared_and_none_changes_while_it_is_in_use(
    changes: list[tuple[str, str, tuple[str, ...]]],
) -> None:
    layout = empty()
    for what, service, hosts in changes:
        before = layout
        try:
            layout = change(layout, what, service, hosts)
        except (NoRoom, Conflict):
            continue
        ports = [slot.port for slot in layout.slots]
        owners = [slot.service_id for slot in layout.slots if slot.service_id]
        taken = [entry.host for entry in layout.entries if entry.slot >= 0]
        assert len(set(ports)) == len(ports)
        assert len(set(owners)) == len(owners)
        assert len(set(taken)) == len(taken)
        for number, slot in enumerate(layout.slots):
            leading = {entry.host for entry in layout.entries if entry.slot == number}
            assert leading == set(slot.hosts)
        for slot in before.slots:
            kept = layout.slot_of(slot.service_id) if slot.service_id else None
            assert kept is None or layout.slots[kept].port == slot.port


@pytest.mark.property
@given(SERVICES, HOSTS)
def test_reserving_again_changes_nothing(service: str, hosts: tuple[str, ...]) -> None:
    layout = empty().with_service(service, hosts)
    assert layout.with_service(service, hosts) == layout


def test_the_address_that_was_freed_last_is_given_out_last() -> None:
    layout = empty().with_service("a", ()).with_service("b", ())
    layout = layout.without_service("b").without_service("a")
    assert layout.with_service("c", ()).slot_of("c") == 2
    assert layout.with_service("c", ()).with_service("d", ()).slot_of("d") == 1


def test_a_full_layout_says_so_and_a_larger_one_has_room() -> None:
    layout = empty().with_service("a", ("one", "two"))
    with pytest.raises(NoRoom):
        layout.with_service("b", ("three",))
    grown = layout.grown(2, count(500))
    assert grown.with_service("b", ("three",)).slot_of("a") == layout.slot_of("a")
    assert [entry.static for entry in grown.entries] == [True, True, True, False, False]


def test_a_host_of_another_service_is_refused() -> None:
    with pytest.raises(Conflict, match="one already belongs to another service"):
        empty().with_service("a", ("one",)).with_service("b", ("one",))


def test_a_freed_static_host_can_be_given_to_another_service_only_by_its_own_name() -> None:
    layout = empty().with_service("a", ("one",)).grown(2, count(500)).without_service("a")
    assert layout.entries[1] == Entry(host="one", slot=-1, static=True)
    again = layout.with_service("b", ("one",))
    assert again.entries[1].slot == again.slot_of("b")
