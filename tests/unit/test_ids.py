"""Ids sort by creation, whatever the clock does."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.domain.ids import IdSequence, uuid7

_START = datetime(2026, 1, 1, tzinfo=UTC)

pytestmark = pytest.mark.property


@given(st.lists(st.tuples(st.integers(-3, 3), st.binary(min_size=10, max_size=10)), min_size=2))
def test_what_is_made_later_sorts_later_also_when_the_clock_goes_back(
    steps: list[tuple[int, bytes]],
) -> None:
    sequence, now, made = IdSequence(), _START, []
    for milliseconds, entropy in steps:
        now += timedelta(milliseconds=milliseconds)
        made.append(sequence.next(now, entropy))
    assert made == sorted(set(made))
    assert {(uuid.UUID(it).version, uuid.UUID(it).variant) for it in made} == {(7, uuid.RFC_4122)}


@given(st.binary(min_size=10, max_size=10))
def test_an_id_tells_its_millisecond(entropy: bytes) -> None:
    assert uuid.UUID(uuid7(_START, entropy)).int >> 80 == int(_START.timestamp() * 1000)
