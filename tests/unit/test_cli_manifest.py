"""The parts of environment files: what YAML means here, what counts as the same, and names of services."""

from typing import Any

import pytest

from refloat.cli.manifest.compare import differences, same, with_ids
from refloat.cli.manifest.document import Reader
from refloat.cli.manifest.references import Names, UnknownReference, named_services
from refloat.cli.problems import Problem


def read(text: str, **given: str) -> Any:
    return Reader("f.yaml", given).read(text)


def test_words_are_texts_and_only_jsons_words_are_more() -> None:
    words = "yes", "on", "2026-01-01", "0x10", "1_000", "true", "null", "8", "1.5", "~", "", "'8'", "012"
    text = "".join(f"{key}: {word}\n" for key, word in zip("abcdefghijklm", words, strict=True))
    assert read(text) == {
        "a": "yes", "b": "on", "c": "2026-01-01", "d": "0x10", "e": "1_000", "f": True, "g": None,
        "h": 8, "i": 1.5, "j": None, "k": None, "l": "8", "m": "012",
    }  # fmt: skip


def test_values_of_variables_are_texts_as_they_are_written() -> None:
    assert [read(f"value: {it}")["value"] for it in ("8080", "true", "1.50", "on")] == [
        "8080",
        "true",
        "1.50",
        "on",
    ]
    assert read("value: null")["value"] is None and read("value: 'null'")["value"] == "null"


def test_only_what_is_given_is_filled_in_and_nothing_given_is_left_unused() -> None:
    filled = read("a: ${ONE}/$TWO/${TWO}\nvalue: ${ONE}", ONE="1: x")
    assert filled == {"a": "1: x/$TWO/${TWO}", "value": "1: x"}
    with pytest.raises(Problem, match=r"has no \$\{OTHER\}"):
        read("a: b", OTHER="x")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2", "line 2: 'a' is given twice, first in line 1"),
        ("a: 1\n? [b]\n: 2", "line 2: a key is a word"),
        ("- a", "line 1: a mapping is expected"),
        ("a: {", "line 1"),
        ("a: &x\n  b: *x", "line 1: the document contains itself"),
        ("[" * 5000, "line 1: the document is nested too deeply"),
        ("a: \x00", "line 1"),
        ("a: 1\n---\nb: 2", "line 2"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text: str, words: str) -> None:
    with pytest.raises(Problem) as caught:
        read(text)
    assert f"f.yaml, {words}" in caught.value.message


def test_a_small_file_cannot_mean_a_huge_document() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    with pytest.raises(Problem, match="more than"):
        read("\n".join(rows))


@pytest.mark.parametrize(
    ("wanted", "there", "is_same"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, True),
        ({"a": None}, {}, True),
        ({"a": None}, {"a": ""}, True),
        ({"a": ""}, {"a": "x"}, False),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "id": 7}]}, True),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1}, {"b": 2}]}, False),
        ({"a": {}}, {"a": {"b": None}}, True),
        ({"a": {"b": 1}}, {}, False),
        ({"a": False}, {"a": True}, False),
    ],
)
def test_only_what_the_file_says_counts(wanted: Any, there: Any, is_same: bool) -> None:
    assert same(wanted, there) is is_same
    assert bool(differences(wanted, there)) is not is_same


def test_items_that_stay_keep_their_ids_in_an_edit() -> None:
    there = {"ports": [{"internal_port": 1, "id": "a"}, {"internal_port": 2, "id": "b"}], "args": ["x"]}
    wanted = {"ports": [{"internal_port": 2, "name": "n"}, {"internal_port": 3}], "args": ["y"]}
    assert with_ids(wanted, there) == {
        "ports": [{"internal_port": 2, "name": "n", "id": "b"}, {"internal_port": 3}],
        "args": ["y"],
    }


API = {"id": "00000000-0000-0000-0000-0000aaaa0001", "name": "My.Api", "service_type": "APPLICATION"}
JOB = {"id": "00000000-0000-0000-0000-0000aaaa0002", "name": "seed", "service_type": "JOB"}
KEY = "QOVERY_APPLICATION_ZAAAA0001_URL_INTERNAL"
NAMES = Names({"my.api": API, "seed": JOB}, [KEY, "QOVERY_ENVIRONMENT_ID"])


def test_names_of_services_and_their_keys_lead_to_each_other() -> None:
    assert NAMES.key("services.My.Api.URL_INTERNAL") == KEY
    assert NAMES.name(KEY) == "services.My.Api.URL_INTERNAL"
    value = "http {{ services.my.api.URL_INTERNAL }} and {{OTHER}} and services.my.api.URL_INTERNAL"
    with_keys = f"http {{{{{KEY}}}}} and {{{{OTHER}}}} and services.my.api.URL_INTERNAL"
    assert NAMES.with_keys(value) == with_keys
    assert NAMES.with_names(with_keys).startswith("http {{services.My.Api.URL_INTERNAL}} and {{OTHER}}")
    assert NAMES.key("PLAIN") == "PLAIN" and NAMES.name("QOVERY_ENVIRONMENT_ID") == "QOVERY_ENVIRONMENT_ID"
    assert NAMES.key("services.seed.RESULT") == "QOVERY_OUTPUT_JOB_ZAAAA0002_RESULT"
    assert NAMES.name("QOVERY_OUTPUT_JOB_ZAAAA0002_RESULT") == "services.seed.RESULT"
    assert named_services(value) == ["my.api"]


def test_a_reference_that_leads_nowhere_is_told_with_what_there_is() -> None:
    with pytest.raises(UnknownReference) as caught:
        NAMES.key("services.nope.URL")
    assert "no service 'nope'" in caught.value.args[0] and "My.Api" in caught.value.args[1]
    with pytest.raises(UnknownReference) as caught:
        NAMES.key("services.my.api.COLOUR")
    assert "no built-in COLOUR" in caught.value.args[0] and "URL_INTERNAL" in caught.value.args[1]
