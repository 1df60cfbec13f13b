"""Which values a service gets: properties of the resolution, for any set of variables."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refloat.domain.errors import Invalid
from refloat.domain.resources import Environment, Variable, VariableScope, VariableType
from refloat.domain.revision import DatabaseServer
from refloat.domain.services import Database, DatabaseMode, DatabaseType
from refloat.domain.variables import (
    OUTPUT_PREFIX,
    Effective,
    Place,
    builtins,
    check_key,
    check_value,
    effective,
)
from refloat.execution.revisions import with_outputs

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_SCOPES = (VariableScope.PROJECT, VariableScope.ENVIRONMENT, VariableScope.APPLICATION)
_KEYS = st.sampled_from(["A", "B", "C", "D"])
_PLAIN = st.text(st.characters(exclude_characters="{}\0", exclude_categories=["Cs"]), max_size=8)
_count = itertools.count()


def variable(
    name: str, value: str = "", scope: VariableScope = VariableScope.PROJECT, **more: Any
) -> Variable:
    """A variable whose value is stored as it is."""
    return Variable(
        id=f"id-{next(_count)}",
        parent="p",
        name=name,
        sealed=value,
        scope=scope,
        created_at=_AT,
        updated_at=_AT,
        **more,
    )


def resolve(*scopes: Sequence[Variable], provided: dict[str, str] | None = None) -> dict[str, str]:
    given_ = {k: Effective(value=v, scope=VariableScope.BUILT_IN) for k, v in (provided or {}).items()}
    return {key: found.value for key, found in effective(given_, scopes, str).items()}


@pytest.mark.property
@given(st.lists(st.dictionaries(_KEYS, _PLAIN), min_size=3, max_size=3), st.dictionaries(_KEYS, _PLAIN))
def test_the_narrowest_scope_wins_and_nothing_is_invented(
    values: list[dict[str, str]], provided: dict[str, str]
) -> None:
    scopes = [[variable(k, v, s) for k, v in of.items()] for s, of in zip(_SCOPES, values, strict=True)]
    merged = dict(provided)
    for of in values:
        merged |= of
    assert resolve(*scopes, provided=provided) == merged


@pytest.mark.property
@given(st.dictionaries(_KEYS, _PLAIN, min_size=1), st.permutations(["A", "B", "C", "D"]))
def test_the_order_of_variables_in_a_scope_means_nothing(values: dict[str, str], order: list[str]) -> None:
    made = [
        variable(k, f"{v}{{{{{next(iter(values))}}}}}" if i else v) for i, (k, v) in enumerate(values.items())
    ]
    shuffled = sorted(made, key=lambda v: order.index(v.name))
    assert resolve(made) == resolve(shuffled)


@pytest.mark.property
@given(st.lists(_PLAIN, min_size=1, max_size=30))
def test_a_chain_of_references_is_replaced_whole(parts: list[str]) -> None:
    chain = [variable("V0", parts[0])]
    chain += [variable(f"V{i}", f"{part}{{{{V{i - 1}}}}}") for i, part in enumerate(parts) if i]
    found = resolve(chain)
    assert found[f"V{len(parts) - 1}"] == "".join(reversed(parts))
    assert not any("{{" in value for value in found.values())


@pytest.mark.property
@given(st.integers(1, 6), _PLAIN)
def test_every_circle_is_refused_and_shown(length: int, text: str) -> None:
    circle = [variable(f"V{i}", f"{text}{{{{V{(i + 1) % length}}}}}") for i in range(length)]
    with pytest.raises(Invalid) as refusal:
        resolve(circle)
    shown = refusal.value.message.partition("circle: ")[2].split(" -> ")
    assert len(shown) == length + 1
    assert shown[0] == shown[-1]


@pytest.mark.property
@given(_KEYS, _KEYS, _PLAIN, _PLAIN)
def test_a_reference_means_the_narrowest_value_of_that_key(
    key: str, other: str, wide: str, narrow: str
) -> None:
    assume(key != other)
    scopes = [[variable(key, wide), variable(other, f"<{{{{{key}}}}}>")], [variable(key, narrow)]]
    assert resolve(*scopes)[other] == f"<{narrow}>"


@pytest.mark.property
@given(st.text(max_size=40))
def test_resolution_ends_in_a_value_or_a_refusal_whatever_is_written(text: str) -> None:
    try:
        found = resolve([variable("A", text), variable("B", "b")])
    except Invalid as refusal:
        assert "A" in refusal.message
    else:
        assert set(found) == {"A", "B"}


def test_an_unknown_reference_names_both_keys() -> None:
    with pytest.raises(Invalid, match=r"the value of A refers to \{\{NOPE\}\}"):
        resolve([variable("A", "x {{ NOPE }}")])


@pytest.mark.parametrize("text", ["{{ .Values.x }}", "{ {A} }", "{{}}", "{{A", "{{A-B}}", "{{1}}"])
def test_what_is_no_reference_stays_as_it_is(text: str) -> None:
    assert resolve([variable("T", text), variable("A", "a")])["T"] == text


def test_an_alias_has_the_value_of_its_target_and_follows_no_override() -> None:
    target = variable("A", "wide")
    override = variable("A", "own", VariableScope.APPLICATION, variable_type=VariableType.OVERRIDE)
    alias = variable(
        "B", "", VariableScope.APPLICATION, variable_type=VariableType.ALIAS, target_id=target.id
    )
    assert resolve([target], [], [override, alias]) == {"A": "own", "B": "wide"}


def test_an_alias_of_a_built_in_variable_has_its_value() -> None:
    alias = variable("B", "", variable_type=VariableType.ALIAS, target_id="QOVERY_PROJECT_ID")
    found = resolve([alias], provided={"QOVERY_PROJECT_ID": "p"})
    assert found == {"QOVERY_PROJECT_ID": "p", "B": "p"}


def test_an_alias_whose_target_is_gone_is_named() -> None:
    alias = variable("B", "", variable_type=VariableType.ALIAS, target_id="gone")
    with pytest.raises(Invalid, match="the alias B stands for a variable that is gone"):
        resolve([alias])


def test_a_file_is_literal_unless_it_asks_for_references() -> None:
    literal = variable("F", "{{A}} {{NOPE}}", variable_type=VariableType.FILE, mount_path="/f")
    asking = variable("G", "{{A}}", mount_path="/g", enable_interpolation_in_file=True)
    found = resolve([literal, asking, variable("A", "a")])
    assert (found["F"], found["G"]) == ("{{A}} {{NOPE}}", "a")


def test_whatever_contains_a_secret_is_one() -> None:
    scope = [variable("S", "hidden", is_secret=True), variable("A", "x{{S}}"), variable("B", "{{A}}")]
    found = effective({}, [[*scope, variable("C", "c")]], str)
    assert {key for key, value in found.items() if value.is_secret} == {"S", "A", "B"}


def test_values_that_double_each_other_are_refused_and_not_built() -> None:
    bomb = [variable("V0", "x" * 1000)]
    bomb += [variable(f"V{i}", f"{{{{V{i - 1}}}}}" * 10) for i in range(1, 60)]
    with pytest.raises(Invalid, match=r"the value of V\d has \d+ bytes"):
        resolve(bomb)
    harmless = [variable("V0", "")] + [variable(f"V{i}", f"{{{{V{i - 1}}}}}" * 10) for i in range(1, 60)]
    assert resolve(harmless)["V59"] == ""


def test_a_chain_deeper_than_anybody_writes_is_refused_and_not_a_crash() -> None:
    deep = [variable(f"V{i}", f"{{{{V{i + 1}}}}}") for i in range(5000)]
    with pytest.raises(Invalid, match="more than 100"):
        resolve([*deep, variable("V5000", "end")])


@pytest.mark.property
@given(st.text(max_size=12))
def test_a_key_that_is_taken_is_a_name_for_every_shell(key: str) -> None:
    try:
        check_key(key)
    except Invalid:
        return
    assert key.isascii()
    assert key.isidentifier()
    assert not key.startswith(("QOVERY_", "__"))


def test_values_have_the_limits_of_the_kernel() -> None:
    assert check_value("A", "ä" * 60_000, is_file=False)
    with pytest.raises(Invalid, match="the value of A has 140000 bytes"):
        check_value("A", "ä" * 70_000, is_file=False)
    assert check_value("A", "ä" * 70_000 + "\0", is_file=True)
    with pytest.raises(Invalid, match="NUL"):
        check_value("A", "\0", is_file=False)


def test_built_ins_name_the_environment_and_every_neighbour() -> None:
    environment = Environment(id="e", parent="p", name="shop", cluster_id="c", created_at=_AT, updated_at=_AT)
    assert _values(environment) == {
        "QOVERY_ENVIRONMENT_ID": "e",
        "QOVERY_ENVIRONMENT_NAME": "shop",
        "QOVERY_PROJECT_ID": "p",
    }


def _values(environment: Environment, *places: Place) -> dict[str, str]:
    return {key: found.value for key, found in builtins(environment, places).items()}


def test_built_ins_of_a_database_hide_what_opens_it() -> None:
    environment = Environment(id="e", parent="p", name="shop", cluster_id="c", created_at=_AT, updated_at=_AT)
    database = Database(
        id="12345678",
        parent="e",
        name="db",
        stage_id="s",
        type=DatabaseType.POSTGRESQL,
        version="16",
        mode=DatabaseMode.CONTAINER,
        created_at=_AT,
        updated_at=_AT,
    )
    server = DatabaseServer(
        type=database.type,
        version="16",
        host="127.0.0.1",
        port=5432,
        login="postgres",
        password="sesame",
        database="postgres",
    )
    found = builtins(environment, [Place(service=database, internal="127.0.0.1:5432", database=server)])
    of_database = {k.removeprefix("QOVERY_POSTGRESQL_Z12345678_"): v for k, v in found.items()}
    assert of_database["PORT"].value == "5432" and not of_database["PORT"].is_secret
    assert of_database["LOGIN"].value == of_database["USERNAME"].value == "postgres"
    assert of_database["DATABASE_URL"].value == "postgresql://postgres:sesame@127.0.0.1:5432/postgres"
    assert {k for k, v in of_database.items() if "sesame" in v.value} == {
        k for k, v in of_database.items() if v.is_secret
    }


def test_outputs_of_jobs_are_left_to_the_moment_a_revision_is_made() -> None:
    key = f"{OUTPUT_PREFIX}Z1_URL"
    alias = variable("B", variable_type=VariableType.ALIAS, target_id=key)
    found = resolve([variable("A", f"at {{{{{key}}}}}"), alias])
    assert found == {"A": f"at {{{{{key}}}}}", "B": f"{{{{{key}}}}}"}
    assert with_outputs(found["A"], {key: "x"}) == "at x"
    assert with_outputs(found["A"], {}) == "at "
