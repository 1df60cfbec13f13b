"""The conformance check can fail, and says where."""

from typing import Any

import pytest
from tools.conformance import Document, check

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


def _failures(body: Any, status: int = 200, url: str = "http://x/thing/1") -> list[str]:
    lines = [{"method": "GET", "url": url, "status": status, "body": body}]
    return check(Document(SPEC), lines)[1]


def test_a_body_that_fits_is_fine() -> None:
    assert _failures(GOOD) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": "HALF"}, "$.state"),
        ({"id": "not-a-uuid"}, "$.id"),
        ({"at": "yesterday"}, "$.at"),
        ({"at": "2026-01-01T00:00:00"}, "$.at"),
        ({"note": 3}, "$.note"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], words: str) -> None:
    assert words in _failures({**GOOD, **change})[0]


def test_a_missing_key_and_an_undocumented_status_are_failures() -> None:
    assert "'state' is a required property" in _failures({"id": GOOD["id"]})[0]
    assert "status 202 is not documented" in _failures(GOOD, status=202)[0]


def test_what_the_document_does_not_have_is_not_counted() -> None:
    lines = [{"method": "GET", "url": "http://x/other", "status": 200, "body": {}}]
    counts, failures, unknown = check(Document(SPEC), lines)
    assert not counts and not failures and unknown == {"GET /other 200"}
