"""What the server accepts, read from its own interface description: new kinds need no new client."""

import re
from collections.abc import Iterator
from typing import Any

from refloat.cli.client import Client, Json
from refloat.cli.manifest.document import Map, Reader, Seq

_KIND = re.compile(r"/environment/\{\w+\}/(\w+)/status")
_NAMES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


class Schemas:
    """The bodies of requests, by kind of service."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self.kinds = {kind: body for kind in self._service_kinds() if (body := self._body(kind))}
        schemas = document["components"]["schemas"]
        self.variable: Json = schemas["VariableInput"]
        self.stage: Json = schemas["StageInput"]

    @classmethod
    def of(cls, client: Client) -> "Schemas":
        return cls(client.get("/openapi.json"))

    def _service_kinds(self) -> Iterator[str]:
        for path in self._document["paths"]:
            if found := _KIND.fullmatch(path):
                yield found[1]

    def _body(self, kind: str) -> Json | None:
        for path, item in self._document["paths"].items():
            if re.fullmatch(rf"/environment/\{{\w+\}}/{kind}", path) and "requestBody" in item.get(
                "post", {}
            ):
                schema: Json = item["post"]["requestBody"]["content"]["application/json"]["schema"]
                return self._followed(schema)
        return None

    def properties(self, schema: Json) -> Json:
        """The keys of an object, each with its schema."""
        found: Json = self._followed(schema).get("properties", {})
        return found

    def check(self, reader: Reader, value: Any, schema: Json, line: int, name: str) -> None:
        """Raises Problem with the line of the first thing that the server would refuse."""
        choices = [self._followed(it) for it in self._choices(schema)]
        fitting = [it for it in choices if _fits(value, it)]
        if not fitting:
            wanted = " or ".join(dict.fromkeys(_named(it) for it in choices))
            raise reader.wrong(line, f"{name}: {wanted} is expected, not {value!r}")
        (chosen, *others) = fitting
        if isinstance(value, Map) and chosen.get("properties") and not others:
            self._check_keys(reader, value, chosen, name)
        if isinstance(value, Seq) and "items" in chosen:
            for item, at in zip(value, value.lines, strict=True):
                self.check(reader, item, chosen["items"], at, name)

    def _check_keys(self, reader: Reader, value: Map, schema: Json, name: str) -> None:
        known = schema["properties"]
        for key, item in value.items():
            if key not in known:
                raise unknown_key(reader, value.lines[key], key, known)
            self.check(reader, item, known[key], value.lines[key], f"{name}.{key}" if name else key)
        for key in schema.get("required", ()):
            if key not in value:
                raise reader.wrong(value.line, f"{name}.{key} is missing")

    def trimmed(self, value: Any, schema: Json) -> Any:
        """Of what the server answered, only what may be sent back, without ids and empty values."""
        choices = [self._followed(it) for it in self._choices(schema)]
        chosen = next((it for it in choices if _fits(value, it)), {})
        if isinstance(value, dict) and "properties" in chosen:
            kept = {k: self.trimmed(value.get(k), s) for k, s in chosen["properties"].items() if k != "id"}
            return {key: it for key, it in kept.items() if it not in (None, "", [])}
        if isinstance(value, list):
            return [self.trimmed(it, chosen.get("items", {})) for it in value]
        return value

    def _choices(self, schema: Json) -> list[Json]:
        found = self._followed(schema)
        alternatives: list[Json] = found.get("oneOf") or found.get("anyOf") or []
        return [it for one in alternatives for it in self._choices(one)] or [found]

    def _followed(self, schema: Json) -> Json:
        while "$ref" in schema:
            schema = self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema


def unknown_key(reader: Reader, line: int, key: str, known: Any) -> Exception:
    """The error for a key that nothing reads, with the one that was probably meant."""
    import difflib

    near = difflib.get_close_matches(key, known, 1)
    hint = f"is {near[0]!r} meant?" if near else f"known are {', '.join(sorted(known))}"
    return reader.wrong(line, f"the key {key!r} is unknown", hint)


def _fits(value: Any, schema: Json) -> bool:
    if "enum" in schema:
        return value in schema["enum"]
    if "const" in schema:
        return bool(value == schema["const"])
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return not kinds or any(_is(value, kind) for kind in kinds)


def _is(value: Any, kind: str) -> bool:
    if kind == "null":
        return value is None
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, {"string": str, "array": list, "object": dict}[kind])


def _named(schema: Json) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(str(it) for it in schema["enum"])
    if "const" in schema:
        return repr(schema["const"])
    kinds = schema.get("type", "object")
    return " or ".join(_NAMES[it] for it in ([kinds] if isinstance(kinds, str) else kinds))
