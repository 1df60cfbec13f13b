"""An environment as a file, which `apply` reads back to the same configuration."""

from typing import Any

import yaml

from refloat.cli.client import Json
from refloat.cli.manifest.model import ALIAS, OVERRIDE
from refloat.cli.manifest.registry import with_registry_names
from refloat.cli.manifest.schemas import Schemas
from refloat.cli.manifest.there import There

_HEAD = """\
# The environment {name}, as `refloat env export` wrote it; `refloat env apply FILE` makes it so again.
# Secrets are never exported: each is named without its value. Set one by `refloat secret set`.
"""


def exported(there: There, schemas: Schemas) -> str:
    """The text of the file."""
    assert there.environment is not None
    body: Json = {"name": there.environment["name"], "project": there.project["name"]}
    body |= {"cluster": there.environment["cluster_name"], "mode": there.environment["mode"]}
    if body["mode"] == "PREVIEW":  # only clones have it; none can be made so
        del body["mode"]
    body["stages"] = [schemas.trimmed(stage, schemas.stage) for stage in there.stages]
    body["variables"] = _variables(there, schemas, None)
    body["services"] = [_service(there, schemas, service) for service in there.services.values()]
    text: str = yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return _HEAD.format(name=body["name"]) + text


def _service(there: There, schemas: Schemas, service: Json) -> Json:
    kind = service["service_type"].lower()
    stage, skipped = there.place(service)
    place: Json = {"kind": kind, "stage": stage, **({"is_skipped": True} if skipped else {})}
    body = with_registry_names(there, schemas.trimmed(service, schemas.kinds[kind]))
    variables = _variables(there, schemas, service["name"])
    return {**place, **body, **({"variables": variables} if variables else {})}


def _variables(there: There, schemas: Schemas, service: str | None) -> list[Json]:
    return [_variable(there, schemas, it) for it in there.own(service).values()]


def _variable(there: There, schemas: Schemas, variable: Json) -> Json:
    kept: Json = schemas.trimmed(variable, schemas.variable)
    kept = {key: value for key, value in kept.items() if value is not False}
    names = there.names()
    if variable["variable_type"] == "ALIAS":
        dropped = ("value", "is_secret", "mount_path", "enable_interpolation_in_file")
        kept = {key: value for key, value in kept.items() if key not in dropped}
        return {**kept, ALIAS: names.name(variable["aliased_variable"]["key"])}
    if variable["variable_type"] == "OVERRIDE":
        kept[OVERRIDE] = True
    if not variable["is_secret"]:
        kept["value"] = names.with_names(str(variable["value"] or ""))
    return kept


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Never an alias, and texts of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
