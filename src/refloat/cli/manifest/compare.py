"""Whether what is there is what the file wants: only what the file says counts."""

from collections.abc import Mapping
from typing import Any

_NOTHING: tuple[Any, ...] = (None, "", [], {})
_TELLING = ("internal_port", "mount_point", "name")
"""By which of its fields an item of a list is the same one as before."""


def differences(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """The keys of `wanted` that are otherwise there."""
    return [key for key, value in wanted.items() if not same(value, there.get(key))]


def same(wanted: Any, there: Any) -> bool:
    """Servers add defaults to what they were given; those are no differences."""
    if wanted in _NOTHING and not isinstance(wanted, dict):
        return there in _NOTHING
    if isinstance(wanted, dict):
        return isinstance(there, dict) and not differences(wanted, there)
    if isinstance(wanted, list):
        fits = isinstance(there, list) and len(there) == len(wanted)
        return fits and all(same(a, b) for a, b in zip(wanted, there, strict=True))
    return bool(wanted == there)


def with_ids(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an edit: items of lists that stay are named by their ids, so as not to be made anew."""
    return {key: _carried(value, there.get(key)) for key, value in wanted.items()}


def _carried(wanted: Any, there: Any) -> Any:
    if not isinstance(wanted, list) or not isinstance(there, list):
        return wanted
    return [_identified(item, there) for item in wanted]


def _identified(item: Any, there: list[Any]) -> Any:
    if not isinstance(item, dict) or "id" in item:
        return item
    for field in _TELLING:
        for known in there:
            if (
                field in item
                and isinstance(known, dict)
                and known.get(field) == item[field]
                and "id" in known
            ):
                return {**item, "id": known["id"]}
    return item
