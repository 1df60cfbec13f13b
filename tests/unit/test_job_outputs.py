"""What a job leaves must be something that services of later stages can be started with."""

import json

import pytest

from refloat.domain.errors import StepFailed
from refloat.execution.outputs import parse_outputs

JOB = "0190f5fb-4b28-7000-8000-00000000000a"


def test_values_of_every_simple_type_are_taken() -> None:
    text = json.dumps({"url": {"value": "x", "sensitive": False}, "n": {"value": 5}, "on": {"value": True}})
    found = parse_outputs(text, JOB)
    assert {name.removeprefix("QOVERY_OUTPUT_JOB_Z0000000A_"): it.value for name, it in found.items()} == {
        "URL": "x",
        "N": 5,
        "ON": True,
    }


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("a b", "1", "'a b' is not a variable name"),
        ("a", "x\0y", "the value of a has the character NUL"),
        ("a", "x" * 200_000, "the value of a has 200000 bytes"),
    ],
)
def test_what_no_process_can_be_given_fails_the_job_and_not_who_comes_after(
    name: str, value: str, words: str
) -> None:
    with pytest.raises(StepFailed, match=words):
        parse_outputs(json.dumps({name: {"value": value}}), JOB)
