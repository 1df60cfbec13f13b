"""Built-in variables of services by the service's name; the server has ids in their keys."""

import re
from collections.abc import Callable, Collection, Mapping

from refloat.cli.client import Json
from refloat.domain.ids import short

_BUILT_IN = re.compile(r"QOVERY_[A-Z_]+_Z(?P<id>[0-9A-F]{8})_(?P<suffix>[A-Za-z0-9_]+)")
_NAMED = re.compile(r"services\.(?P<name>.+)\.(?P<suffix>[A-Za-z0-9_]+)")
_REFERENCE = re.compile(r"\{\{\s*(?P<inner>[^{}]+?)\s*\}\}")
_OUTPUT = "QOVERY_OUTPUT_JOB"


def named_services(text: str) -> list[str]:
    """The services that a key or the references in a value name."""
    keys = [text, *(match["inner"] for match in _REFERENCE.finditer(text))]
    return [found["name"] for key in keys if (found := _NAMED.fullmatch(key))]


class UnknownReference(LookupError):
    """What is named is not there; `args[0]` says it in words, `args[1]` what there is."""


class Names:
    """The services of an environment by lower-case name, and the keys of the built-in variables there are."""

    def __init__(self, services: Mapping[str, Json], built_ins: Collection[str]) -> None:
        self._services = services
        self._suffixes: dict[str, dict[str, str]] = {}
        for key in built_ins:
            if found := _BUILT_IN.fullmatch(key):
                self._suffixes.setdefault(found["id"], {})[found["suffix"]] = key

    def key(self, text: str) -> str:
        """The key that `services.NAME.SUFFIX` means; any other text is a key already."""
        found = _NAMED.fullmatch(text)
        if not found:
            return text
        service = self._services.get(found["name"].lower())
        if service is None:
            there = ", ".join(it["name"] for it in self._services.values())
            raise UnknownReference(f"there is no service {found['name']!r}", f"there is {there or 'none'}")
        mark, suffix = short(service["id"]).upper(), found["suffix"]
        known = self._suffixes.get(mark, {})
        if suffix in known:
            return known[suffix]
        if service["service_type"] == "JOB":  # its outputs are only known once it has run
            return f"{_OUTPUT}_Z{mark}_{suffix}"
        raise UnknownReference(
            f"{service['name']} has no built-in {suffix}", f"it has {', '.join(sorted(known))}"
        )

    def name(self, key: str) -> str:
        """The other way: a built-in key of a service by its name, any other key as it is."""
        found = _BUILT_IN.fullmatch(key)
        for service in self._services.values() if found else ():
            if found and short(service["id"]).upper() == found["id"]:
                return f"services.{service['name']}.{found['suffix']}"
        return key

    def with_keys(self, value: str) -> str:
        """A value as the server understands it."""
        return _replaced(value, self.key)

    def with_names(self, value: str) -> str:
        """A value as the file has it."""
        return _replaced(value, self.name)


def _replaced(value: str, change: Callable[[str], str]) -> str:
    def replace(match: re.Match[str]) -> str:
        changed = change(match["inner"])
        return match[0] if changed == match["inner"] else f"{{{{{changed}}}}}"

    return _REFERENCE.sub(replace, value)
