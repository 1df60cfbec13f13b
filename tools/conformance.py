"""Validates recorded responses against a published OpenAPI document.

    python -m tools.conformance SPEC RECORDING

RECORDING holds a JSON object a line: method, url, status, body. Every response to a documented operation must
have a documented status and a body that fits its schema; exit 1 unless all do. Operations that the document
does not have are named and not counted.
"""

import json
import re
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from jsonschema import Draft202012Validator, FormatChecker

Json = dict[str, Any]

KNOWN_DEFECTS = {
    "DeploymentHistoryServiceDetails": "its oneOf has a branch that everything fits; read as anyOf",
}
"""Schemas of the document that no server can satisfy as written, and how they are read here."""


_FORMATS = FormatChecker(["uuid"])


@_FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


class Document:
    """An OpenAPI 3.0 document, its schemas translated to JSON Schema."""

    def __init__(self, spec: Json) -> None:
        self._spec = spec
        self._operations = [
            (re.compile("^" + re.sub(r"\{[^}]+\}", "[^/]+", path) + "$"), path, item)
            for path, item in spec["paths"].items()
        ]
        # a path without parameters wins over one with them
        self._operations.sort(key=lambda o: o[1].count("{"))
        self._definitions = {
            name: self._schema(schema, name)
            for name, schema in spec.get("components", {}).get("schemas", {}).items()
        }

    def operation(self, method: str, path: str) -> tuple[str, Json] | None:
        """The documented path and its operation."""
        for pattern, documented, item in self._operations:
            if pattern.match(path) and method.lower() in item:
                return documented, item[method.lower()]
        return None

    def complaints(self, operation: Json, status: int, body: Any) -> list[str]:
        """What is wrong with a response to this operation."""
        responses = {str(code): r for code, r in operation["responses"].items()}
        if str(status) not in responses:
            return [f"status {status} is not documented"]
        response = self._resolved(responses[str(status)])
        content = response.get("content", {}).get("application/json")
        if content is None or "schema" not in content:
            return []
        schema = {**self._schema(content["schema"], ""), "$defs": self._definitions}
        validator = Draft202012Validator(schema, format_checker=_FORMATS)
        return [f"{e.json_path}: {e.message[:200]}" for e in validator.iter_errors(body)]

    def _resolved(self, node: Json) -> Json:
        while "$ref" in node:
            target: Any = self._spec
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def _schema(self, node: Any, name: str) -> Any:
        """One schema node in JSON Schema's words: references, `nullable`, and known defects."""
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return {"$ref": "#/$defs/" + node["$ref"].rpartition("/")[2]}
        made = {k: self._translated(k, v) for k, v in node.items() if k not in ("nullable", "example")}
        if name in KNOWN_DEFECTS and "oneOf" in made:
            made["anyOf"] = made.pop("oneOf")
        if node.get("format") not in ("uuid", "date-time"):
            made.pop("format", None)
        return {"anyOf": [made, {"type": "null"}]} if node.get("nullable") else made

    def _translated(self, key: str, value: Any) -> Any:
        if key == "properties":
            return {k: self._schema(v, "") for k, v in value.items()}
        if key in ("items", "additionalProperties", "not"):
            return self._schema(value, "")
        if key in ("allOf", "oneOf", "anyOf"):
            return [self._schema(v, "") for v in value]
        return value


def check(document: Document, lines: list[Json]) -> tuple[Counter[str], list[str], set[str]]:
    """Counts per operation, failures, and what is not documented."""
    counts: Counter[str] = Counter()
    failures: list[str] = []
    unknown: set[str] = set()
    for line in lines:
        path = urlsplit(line["url"]).path
        found = document.operation(line["method"], path)
        if found is None or line["status"] == 400:  # the document has no schema for a malformed request
            unknown.add(f"{line['method']} {re.sub(r'[0-9a-f-]{36}', '{id}', path)} {line['status']}")
            continue
        name = f"{line['method']} {found[0]} {line['status']}"
        counts[name] += 1
        failures += [f"{name}: {c}" for c in document.complaints(found[1], line["status"], line["body"])]
    return counts, failures, unknown


def main(spec: str, recording: str) -> int:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document = Document(yaml.load(Path(spec).read_text(), Loader=loader))
    lines = [json.loads(line) for line in Path(recording).read_text().splitlines()]
    counts, failures, unknown = check(document, lines)
    for name, count in sorted(counts.items()):
        print(f"{count:4} {name}")
    for name in sorted(unknown):
        print(f"not counted: {name}")
    for name, reason in KNOWN_DEFECTS.items():
        print(f"defect of the document: {name}: {reason}")
    for failure in dict.fromkeys(failures):
        print(f"FAILED {failure}")
    total = sum(counts.values())
    bad = len({f.split(": ")[0] for f in failures})
    print(f"{total} responses of {len(counts)} operations, {bad} operations do not conform")
    return int(bool(failures) or total == 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
