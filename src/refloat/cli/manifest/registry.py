"""Container registries by name: the one id in bodies of services that no file should hold."""

import re
from typing import Any

from refloat.cli.client import Json
from refloat.cli.manifest.document import Reader
from refloat.cli.manifest.model import Service
from refloat.cli.manifest.there import There

KEY = "registry_id"
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def with_registry_ids(there: There, reader: Reader, service: Service) -> Json:
    """The body of a service as the server takes it."""

    def id_of(name: Any) -> Any:
        if not isinstance(name, str) or _ID.fullmatch(name):
            return name
        known = there.registries()
        if name not in known:
            hint = f"there is {', '.join(known)}" if known else "the organization has none"
            raise reader.wrong(service.line, f"{service.name}: no container registry {name!r}", hint)
        return known[name]

    return dict(_changed(service.body, id_of))


def with_registry_names(there: There, body: Json) -> Json:
    """The body of a service as a file has it."""
    names = {id: name for name, id in there.registries().items()}
    return dict(_changed(body, lambda id: names.get(id, id)))


def _changed(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {k: change(v) if k == KEY else _changed(v, change) for k, v in value.items()}
    return [_changed(it, change) for it in value] if isinstance(value, list) else value
