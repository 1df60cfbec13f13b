"""Validates recorded responses against a published OpenAPI document.

    python -m tools.conformance SPEC RECORDING

RECORDING holds a JSON object a line: method, url, status, body. Every response must belong to a documented
operation, have a documented status, and a body that fits its schema; exit 1 unless all do. What is excused is
named in the output: our own paths, which are never published ones, and the known defects of the document.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import best_match

Json = dict[str, Any]

NO_STRICT_ONE_OF = {"DeploymentHistoryServiceDetails"}
"""Their oneOf has a branch that everything fits, so that no server can satisfy it as written."""
OWN_PATHS = ("/refloat/", "/healthz", "/readyz", "/metrics")

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_FORMATS = FormatChecker([])


@_FORMATS.checks("uuid")
def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or _UUID.fullmatch(value) is not None


@_FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    return _DATE_TIME.fullmatch(value) is not None and datetime.fromisoformat(value) is not None


class Document:
    """An OpenAPI 3.0 document, its schemas translated to JSON Schema."""

    def __init__(self, spec: Json) -> None:
        self._spec = spec
        self._defects: Counter[str] = Counter()
        self._validators: dict[tuple[int, int], Draft202012Validator] = {}
        self._operations = [
            (re.compile("^" + re.sub(r"\\{[^}]+\\}", "([^/]+)", re.escape(path)) + "$"), path, item)
            for path, item in spec["paths"].items()
        ]
        # a path without parameters wins over one with them
        self._operations.sort(key=lambda o: o[1].count("{"))
        self._definitions = {
            name: self._schema(schema, name)
            for name, schema in spec.get("components", {}).get("schemas", {}).items()
        }
        self._find_defects_outside_of_schemas(spec)

    def operation(self, method: str, path: str) -> tuple[str, Json, tuple[str, ...]] | None:
        """The documented path, its operation, and what stands for its parameters."""
        for pattern, documented, item in self._operations:
            found = pattern.match(path)
            if found and method.lower() in item:
                return documented, item[method.lower()], found.groups()
        return None

    def documents(self, operation: Json, status: int) -> bool:
        return str(status) in {str(code) for code in operation["responses"]}

    def complaints(self, operation: Json, status: int, body: Any) -> list[str]:
        """What is wrong with a response to this operation."""
        if not self.documents(operation, status):
            return [f"status {status} is not documented"]
        response = self._resolved({str(c): r for c, r in operation["responses"].items()}[str(status)])
        content = response.get("content", {}).get("application/json")
        if content is None or "schema" not in content:
            return ["$: a body where none is documented"] if status < 300 and body is not None else []
        known = (id(operation), status)
        if known not in self._validators:
            schema = {**self._schema(content["schema"], ""), "$defs": self._definitions}
            self._validators[known] = Draft202012Validator(schema, format_checker=_FORMATS)
        validator = self._validators[known]
        deepest = (best_match([error]) or error for error in validator.iter_errors(body))
        return [f"{e.json_path}: {e.message[:200]}" for e in deepest]

    def defects(self) -> Iterator[str]:
        """The known defects that this document has, and how each is read here."""
        for text, count in sorted(self._defects.items()):
            yield f"{text} ({count})"

    def _resolved(self, node: Json) -> Json:
        while "$ref" in node:
            target: Any = self._spec
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            node = target
        return node

    def _schema(self, node: Any, name: str) -> Any:
        """One schema node in JSON Schema's words: references, `nullable`, and known defects."""
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return {"$ref": "#/$defs/" + node["$ref"].rpartition("/")[2]}
        made = {k: self._translated(k, v) for k, v in node.items() if k not in ("nullable", "example")}
        if name in NO_STRICT_ONE_OF and "oneOf" in made:
            self._defects[f"{name}: its oneOf has a branch that everything fits; read as anyOf"] += 1
            made["anyOf"] = made.pop("oneOf")
        if "format" in made:
            self._read_format(made)
        if "discriminator" in made:
            self._read_discriminator(made)
        return self._nullable(made) if node.get("nullable") else made

    def _read_format(self, made: Json) -> None:
        made["format"] = made["format"].lower()
        if made["format"] in ("string", "uu"):
            self._defects[f"format: {made['format']} does not exist; not checked"] += 1

    def _read_discriminator(self, made: Json) -> None:
        """The branch that the property names must fit. Others may fit too: a client looks at no other, and
        some of them require nothing."""
        discriminator = made.pop("discriminator")
        mapping = discriminator.get("mapping", {})
        if not mapping or not ("oneOf" in made or "anyOf" in made):
            return
        if "oneOf" in made:
            made["anyOf"] = made.pop("oneOf")
        key = discriminator["propertyName"]
        made["allOf"] = [
            *made.get("allOf", []),
            {"type": "object", "required": [key], "properties": {key: {"enum": list(mapping)}}},
            *(
                {
                    "if": {"properties": {key: {"const": value}}},
                    "then": {"$ref": "#/$defs/" + target.rpartition("/")[2]},
                }
                for value, target in mapping.items()
            ),
        ]

    def _nullable(self, made: Json) -> Json:
        if "enum" in made and None not in made["enum"]:
            self._defects["a nullable enum that does not list null; null is accepted"] += 1
            made["enum"] = [*made["enum"], None]
        if isinstance(made.get("type"), str) and not {"allOf", "oneOf", "anyOf"} & made.keys():
            return {**made, "type": [made["type"], "null"]}
        return {"anyOf": [made, {"type": "null"}]}

    def _translated(self, key: str, value: Any) -> Any:
        if key == "properties":
            return {k: self._schema(v, "") for k, v in value.items()}
        if key in ("items", "additionalProperties", "not"):
            return self._schema(value, "")
        if key in ("allOf", "oneOf", "anyOf"):
            return [self._schema(v, "") for v in value]
        return value

    def _find_defects_outside_of_schemas(self, spec: Json) -> None:
        """Those of requests: nothing here reads them, so they are only named."""
        for item in spec["paths"].values():
            for operation in item.values():
                parameters = operation.get("parameters", []) if isinstance(operation, dict) else operation
                for parameter in parameters:
                    if isinstance(parameter, dict) and parameter.get("$ref", "").startswith("#/paths/"):
                        self._defects["a parameter that refers into #/paths; parameters are not checked"] += 1
        request = spec.get("components", {}).get("schemas", {}).get("ApplicationGitRepositoryRequest", {})
        if set(request.get("required", [])) - set(request.get("properties", {})):
            self._defects["ApplicationGitRepositoryRequest requires what it does not define; unchecked"] += 1


class Report:
    """What a recording holds: counts and failures for each operation, and what was excused."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()
        self.failures: list[str] = []
        self.excused: set[str] = set()

    @property
    def total(self) -> int:
        return self.counts.total()

    @property
    def conforms(self) -> bool:
        return self.total > 0 and not self.failures

    def add(self, name: str, complaints: list[str]) -> None:
        self.counts[name] += 1
        self.bad[name] += bool(complaints)
        self.failures += [f"{name}: {c}" for c in complaints]


def check(document: Document, lines: list[Json]) -> Report:
    report = Report()
    for line in lines:
        method, path, status = line["method"], urlsplit(line["url"]).path, line["status"]
        shown = f"{method} {re.sub(_UUID, '{id}', path)} {status}"
        found = document.operation(method, path)
        if path.startswith(OWN_PATHS):
            report.excused.add(f"{shown}: our own")
        elif found is None:
            report.add(shown, ["the operation is not documented"])
        elif status == 400 and not document.documents(found[1], 400) and _malformed(found[0], found[2]):
            report.excused.add(f"{shown}: the document has no answer to a malformed id")
        else:
            name = f"{method} {found[0]} {status}"
            report.add(name, document.complaints(found[1], status, line["body"]))
    return report


def _malformed(documented: str, given: tuple[str, ...]) -> bool:
    """Whether a parameter that is an id is not one."""
    names = re.findall(r"\{([^}]+)\}", documented)
    return any(n.endswith("Id") and not _UUID.fullmatch(v) for n, v in zip(names, given, strict=True))


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: python -m tools.conformance SPEC RECORDING", file=sys.stderr)
        return 2
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document = Document(yaml.load(Path(arguments[0]).read_text(), Loader=loader))
    report = check(document, [json.loads(line) for line in Path(arguments[1]).read_text().splitlines()])
    for name, count in sorted(report.counts.items()):
        print(f"{count - report.bad[name]:4} of {count:4} {name}")
    for text in sorted(report.excused):
        print(f"not counted: {text}")
    for text in document.defects():
        print(f"defect of the document: {text}")
    for failure in dict.fromkeys(report.failures):
        print(f"FAILED {failure}")
    bad = report.bad.total()
    share = 100 * (report.total - bad) / report.total if report.total else 0
    print(f"{report.total} responses of {len(report.counts)} operations, {bad} do not conform: {share:.4g} %")
    return 0 if report.conforms else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
