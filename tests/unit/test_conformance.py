"""The conformance check can fail, and says where."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.conformance import Document, Report, check, main

SPEC: dict[str, Any] = {
    "paths": {
        "/thing/{id}": {
            "get": {
                "responses": {
                    200: {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}}
                }
            }
        }
    },
    "components": {
        "schemas": {
            "Thing": {
                "type": "object",
                "required": ["id", "state"],
                "properties": {
                    "id": {"type": "string", "format": "uuid"},
                    "state": {"type": "string", "enum": ["ON", "OFF"]},
                    "at": {"type": "string", "format": "date-time"},
                    "note": {"type": "string", "nullable": True},
                },
            }
        }
    },
}
GOOD = {"id": "00000000-0000-4000-8000-000000000001", "state": "ON", "note": None, "more": 1}


def _report(body: Any, status: int = 200, path: str = "/thing/1", spec: dict[str, Any] = SPEC) -> Report:
    lines = [{"method": "GET", "url": f"http://x{path}", "status": status, "body": body}]
    return check(Document(spec), lines)


def _failures(body: Any, status: int = 200, path: str = "/thing/1") -> list[str]:
    return _report(body, status, path).failures


def _of(schema: dict[str, Any], **schemas: Any) -> dict[str, Any]:
    """A document whose one operation answers 200 by this schema, and 204 by nothing."""
    good = {"content": {"application/json": {"schema": schema}}}
    operation = {"responses": {"200": good, "204": {"description": "gone"}}}
    return {"paths": {"/thing/{thingId}": {"get": operation}}, "components": {"schemas": schemas}}


def test_a_body_that_fits_is_fine() -> None:
    assert _failures(GOOD) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": "HALF"}, "$.state"),
        ({"id": "not-a-uuid"}, "$.id"),
        ({"at": "yesterday"}, "$.at"),
        ({"at": "2026-01-01T00:00:00"}, "$.at"),
        ({"at": "2026-01-01 00:00:00+00:00"}, "$.at"),
        ({"note": 3}, "$.note"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], words: str) -> None:
    assert words in _failures({**GOOD, **change})[0]


def test_a_missing_key_and_an_undocumented_status_are_failures() -> None:
    assert "'state' is a required property" in _failures({"id": GOOD["id"]})[0]
    assert "status 202 is not documented" in _failures(GOOD, status=202)[0]


def test_an_operation_that_the_document_does_not_have_is_a_failure_unless_it_is_our_own() -> None:
    assert "GET /other 200: the operation is not documented" in _failures({}, path="/other")
    own = _report({}, path="/refloat/other")
    assert own.total == 0 and own.excused == {"GET /refloat/other 200: our own"}
    assert not own.conforms, "nothing validated is not conformity"


def test_a_body_where_none_is_documented_is_a_failure() -> None:
    spec = _of({"type": "object"})
    assert _report(None, 204, spec=spec).conforms
    assert "a body where none is documented" in _report({}, 204, spec=spec).failures[0]


def test_an_undocumented_400_is_excused_for_a_malformed_id_only() -> None:
    spec = _of({"type": "object"})
    assert _report({}, 400, "/thing/not-an-id", spec).excused
    assert _report({}, 400, f"/thing/{GOOD['id']}", spec).failures


def test_the_branch_that_a_discriminator_names_must_fit() -> None:
    branch = {"type": "object", "properties": {"kind": {"type": "string"}}}
    spec = _of(
        {
            "oneOf": [{"$ref": "#/components/schemas/A"}, {"$ref": "#/components/schemas/B"}],
            "discriminator": {
                "propertyName": "kind",
                "mapping": {"A": "#/components/schemas/A", "B": "#/components/schemas/B"},
            },
        },
        A={**branch, "required": ["a"]},
        B={**branch, "required": ["b"]},
    )
    assert _report({"kind": "A", "a": 1}, spec=spec).conforms
    assert "'a' is a required property" in " ".join(_report({"kind": "A", "b": 1}, spec=spec).failures)
    assert _report({"kind": "C", "a": 1}, spec=spec).failures
    assert _report({"kind": "A", "a": 1, "b": 1}, spec=spec).conforms, "clients look at no other branch"


def test_null_is_for_what_is_nullable_and_what_was_read_otherwise_is_named() -> None:
    choice = {"type": "string", "enum": ["X"], "nullable": True}
    thing = {"type": "object", "properties": {"e": choice}}
    spec = _of({"$ref": "#/components/schemas/T"}, T=thing)
    assert _report({"e": None}, spec=spec).conforms
    assert _report({"e": "Y"}, spec=spec).failures
    assert any("nullable enum" in text for text in Document(spec).defects())
    assert "None is not of type 'string'" in _failures({**GOOD, "at": None})[0]


def test_main_exits_1_unless_everything_conforms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, recording = tmp_path / "spec.yaml", tmp_path / "recording.jsonl"
    spec.write_text(yaml.safe_dump(SPEC))

    def run(*bodies: Any) -> int:
        lines = [{"method": "GET", "url": "http://x/thing/1", "status": 200, "body": b} for b in bodies]
        recording.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return main([str(spec), str(recording)])

    assert run(GOOD, GOOD) == 0
    assert "2 of    2 GET /thing/{id} 200" in capsys.readouterr().out
    assert run(GOOD, {**GOOD, "state": "HALF"}) == 1
    said = capsys.readouterr().out
    assert "1 of    2 GET /thing/{id} 200" in said and "FAILED GET /thing/{id} 200: $.state" in said
    assert run() == 1
