"""The file as what it means: an environment with stages, services and variables, checked as a whole.

    name: shop                     project, cluster and mode may follow
    stages: [{name: backend}]      in the order they run
    variables: [{key: A, value: b}]
    services:
      - kind: application          the other keys are the body of the request that makes one
        stage: backend
        name: api
        variables: [{key: B, alias_of: A}, {key: PEER, alias_of: services.db.URL_INTERNAL}]

In texts `{{services.NAME.SUFFIX}}` stands for the built-in variable of a service.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from refloat.cli.manifest.document import Map, Reader, Seq
from refloat.cli.manifest.schemas import Schemas, unknown_key

_TOP = ("name", "project", "cluster", "mode", "stages", "variables", "services")
_PLACE = ("kind", "stage", "is_skipped", "variables")
_MODES = ("DEVELOPMENT", "STAGING", "PRODUCTION")
ALIAS, OVERRIDE = "alias_of", "override"
DEFAULT_PROJECT = "default"


class Variable(NamedTuple):
    """One variable of the file. `value` None: it is only to be there (a secret that was exported)."""

    line: int
    key: str
    body: dict[str, Any]
    alias_of: str | None = None
    override: bool = False


class Service(NamedTuple):
    """One service: its kind, where it stands, and the body that makes it.

    `required` names the keys that a body has to have; those of a service that is there may be left out.
    """

    line: int
    kind: str
    name: str
    body: dict[str, Any]
    stage: str | None
    is_skipped: bool | None
    variables: tuple[Variable, ...] | None
    required: tuple[str, ...] = ()


class Manifest(NamedTuple):
    """The whole file. None means: not said, so that nothing of it is changed or pruned."""

    reader: Reader
    name: str
    project: str
    cluster: str | None
    mode: str | None
    stages: tuple[Map, ...] | None
    variables: tuple[Variable, ...] | None
    services: tuple[Service, ...] | None


def load(name: str, text: str, schemas: Schemas, given: Mapping[str, str]) -> Manifest:
    """Raises Problem with the line of the first thing that is wrong."""
    reader = Reader(name, given)
    document = reader.read(text)
    for key, line in document.lines.items():
        if key not in _TOP:
            raise unknown_key(reader, line, key, _TOP)
    checked = _Checked(reader, schemas)
    stages = checked.items(document, "stages", lambda it: checked.stage(it))
    services = checked.items(document, "services", lambda it: checked.service(it))
    checked.once(services or (), "service")
    mode = checked.text(document, "mode")
    if mode and mode not in _MODES:
        raise reader.wrong(document.lines["mode"], f"mode: one of {', '.join(_MODES)} is expected")
    found = checked.text(document, "name")
    if not found:
        raise reader.wrong(document.line, "`name:` is missing: which environment is this?")
    return Manifest(
        reader=reader,
        name=found,
        project=checked.text(document, "project") or DEFAULT_PROJECT,
        cluster=checked.text(document, "cluster"),
        mode=mode,
        stages=stages,
        variables=checked.variables(document),
        services=services,
    )


class _Checked:
    """Reads the parts of a document; every complaint has its line."""

    def __init__(self, reader: Reader, schemas: Schemas) -> None:
        self._reader = reader
        self._schemas = schemas

    def items(self, of: Map, key: str, make: Any) -> Any:
        """What each item of a list means; None when the list is not there."""
        if key not in of:
            return None
        if not isinstance(of[key], Seq):
            raise self._reader.wrong(of.lines[key], f"{key}: a list is expected")
        for item, line in zip(of[key], of[key].lines, strict=True):
            if not isinstance(item, Map):
                raise self._reader.wrong(line, f"{key}: every item is a mapping")
        return tuple(make(item) for item in of[key])

    def text(self, of: Map, key: str) -> str | None:
        if key not in of:
            return None
        if not isinstance(of[key], str):
            raise self._reader.wrong(of.lines[key], f"{key}: a text is expected, not {of[key]!r}")
        return str(of[key])

    def _flag(self, of: Map, key: str) -> bool | None:
        if key in of and not isinstance(of[key], bool):
            raise self._reader.wrong(of.lines[key], f"{key}: true or false is expected")
        return of.get(key)

    def stage(self, item: Map) -> Map:
        self._schemas.check(self._reader, item, self._schemas.stage, item.line, "")
        return item

    def service(self, item: Map) -> Service:
        kind, name = self.text(item, "kind"), self.text(item, "name")
        known = self._schemas.kinds
        if kind not in known:
            line = item.lines.get("kind", item.line)
            raise self._reader.wrong(
                line, f"kind: one of {', '.join(sorted(known))} is expected, not {kind!r}"
            )
        if not name:
            raise self._reader.wrong(item.line, "the service has no name")
        body = Map(item.line)
        body.update({key: value for key, value in item.items() if key not in _PLACE})
        body.lines.update(item.lines)
        allowed = {**known[kind], "properties": self._schemas.properties(known[kind]), "required": ()}
        for key in body:
            if key not in allowed["properties"]:
                raise unknown_key(self._reader, item.lines[key], key, [*allowed["properties"], *_PLACE])
        self._schemas.check(self._reader, body, allowed, item.line, "")
        return Service(
            line=item.line,
            kind=kind,
            name=name,
            body=body,
            stage=self.text(item, "stage"),
            is_skipped=self._flag(item, "is_skipped"),
            variables=self.variables(item),
            required=tuple(known[kind].get("required", ())),
        )

    def variables(self, of: Map) -> tuple[Variable, ...] | None:
        found: tuple[Variable, ...] | None = self.items(of, "variables", self._variable)
        self.once(found or (), "variable")
        return found

    def _variable(self, item: Map) -> Variable:
        known = self._schemas.properties(self._schemas.variable)
        for key, line in item.lines.items():
            if key in (ALIAS, OVERRIDE):
                continue
            if key not in known:
                raise unknown_key(self._reader, line, key, [*known, ALIAS, OVERRIDE])
            self._schemas.check(self._reader, item[key], known[key], line, key)
        alias, override = self.text(item, ALIAS), bool(self._flag(item, OVERRIDE))
        if not item.get("key"):
            raise self._reader.wrong(item.line, "the variable has no key")
        if alias and (override or "value" in item):
            raise self._reader.wrong(item.line, f"{item['key']}: an alias has no value of its own")
        if not alias and "value" not in item and not item.get("is_secret"):
            raise self._reader.wrong(item.line, f"{item['key']} has no value; only a secret may be left open")
        body = {key: value for key, value in item.items() if key not in (ALIAS, OVERRIDE)}
        return Variable(item.line, str(item["key"]), body, alias, override)

    def once(self, items: Any, noun: str) -> None:
        """Names are unique; those of services whatever their case."""
        lines: dict[str, int] = {}
        for item in items:
            name = item.name.lower() if isinstance(item, Service) else item.key
            if name in lines:
                raise self._reader.wrong(
                    item.line, f"the {noun} {name!r} is given twice, first in line {lines[name]}"
                )
            lines[name] = item.line
