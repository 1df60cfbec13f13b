"""Host names: one DNS label for each service, its own whatever the names are."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.domain.hosts import host_names, slug
from refloat.domain.ids import short

ENVIRONMENT = "01900000-0000-7000-8000-0000deadbeef"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_IDS = st.uuids(version=4).map(str)


def _hosts(*names: str) -> list[str]:
    """The labels of services made in this order."""
    ids = [str(uuid.UUID(int=i + 1)) for i in range(len(names))]
    found = host_names(ENVIRONMENT, dict(zip(ids, names, strict=True)), "localhost")
    return [found[i].removesuffix("-deadbeef.localhost") for i in ids]


@pytest.mark.property
@given(st.dictionaries(_IDS, st.text(min_size=1, max_size=128), max_size=6))
def test_every_host_is_a_dns_label_of_its_own(names: dict[str, str]) -> None:
    hosts = host_names(ENVIRONMENT, names, "apps.example")
    assert set(hosts) == set(names)
    assert len(set(hosts.values())) == len(names)
    for host in hosts.values():
        label, _, domain = host.partition(".")
        assert domain == "apps.example"
        assert _LABEL.fullmatch(label), label


@pytest.mark.property
@given(st.lists(st.text("ab- ", min_size=1, max_size=3), min_size=1, max_size=5), st.text("ab- ", max_size=3))
def test_a_newcomer_moves_nobody(names: list[str], newcomer: str) -> None:
    assert _hosts(*names, newcomer)[:-1] == _hosts(*names)


def test_names_that_read_the_same_are_told_apart() -> None:
    assert _hosts("My Shop", "my-shop", "api") == ["my-shop", "my-shop-00000002", "api"]


def test_a_name_that_reads_like_another_ones_mark_takes_nothing_away() -> None:
    assert _hosts("api", "API!", "api-00000002") == ["api", "api-00000002", "api-00000002-00000003"]


def test_a_shortened_name_carries_the_id_of_its_service() -> None:
    label = _hosts("x" * 128)[0]
    assert label.endswith("-00000001")
    assert len(f"{label}-deadbeef") == 63


def test_a_name_without_a_usable_letter_is_called_service() -> None:
    assert slug("日本", 20) == "service"
    assert _hosts("日本", "!!!") == ["service", "service-00000002"]
    assert short(ENVIRONMENT) == "deadbeef"
