"""Which variables a service gets: scopes, aliases, overrides and `{{KEY}}` in values. Pure.

Narrower scopes win: service over environment over project over built-in. Values are opened by a
function that is handed in, and only for what is used.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from refloat.domain.errors import Invalid
from refloat.domain.ids import short
from refloat.domain.resources import Environment, Service, Variable, VariableScope, VariableType

_REFERENCE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = ("QOVERY_", "__")

Values = Mapping[str, str]
Opener = Callable[[str], str]


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """What a service gets under one key. With `mount_path` it is a file."""

    value: str
    scope: VariableScope
    is_secret: bool = False
    mount_path: str | None = None


def check_key(key: str) -> str:
    """The key, if it may be used; raises Invalid with the rule it breaks."""
    if not _KEY.fullmatch(key):
        raise Invalid(
            f"the key {key!r} is not a variable name",
            hint="use letters, digits and _, not beginning with a digit",
        )
    if key.startswith(_RESERVED):
        raise Invalid(f"the key {key!r} begins with {' or '.join(_RESERVED)}, which is reserved")
    return key


def builtins(
    environment: Environment, services: Sequence[Service], addresses: Mapping[str, tuple[str, str]]
) -> dict[str, str]:
    """What every service is told about its environment and its neighbours.

    `addresses` maps services to their stable internal `host:port` and public URL.
    """
    values = {
        "QOVERY_ENVIRONMENT_ID": environment.id,
        "QOVERY_ENVIRONMENT_NAME": environment.name,
        "QOVERY_PROJECT_ID": environment.parent,
    }
    for service in services:
        prefix = f"QOVERY_{service.kind.upper()}_Z{short(service.id).upper()}"
        values[f"{prefix}_NAME"] = service.name
        if service.id in addresses:
            internal, url = addresses[service.id]
            values[f"{prefix}_HOST_INTERNAL"] = internal
            values[f"{prefix}_URL_INTERNAL"] = f"http://{internal}"
            values[f"{prefix}_HOST_EXTERNAL"] = url.removeprefix("http://").removeprefix("https://")
            values[f"{prefix}_URL_EXTERNAL"] = url
    return values


def effective(
    provided: Values, scopes: Sequence[Sequence[Variable]], open_value: Opener
) -> dict[str, Effective]:
    """Everything a service gets, by key. `scopes` go from the widest to the narrowest.

    Raises Invalid naming the variable whose references lead nowhere or in a circle.
    """
    found = {key: Effective(value=v, scope=VariableScope.BUILT_IN) for key, v in provided.items()}
    by_id = {variable.id: variable for scope in scopes for variable in scope}
    raw = {v.name: _raw(v, by_id, found, open_value) for scope in scopes for v in scope}
    found.update(raw)
    literal = {v.name for scope in scopes for v in scope if not _interpolates(v)}
    return {key: _interpolated(key, found, literal, ()) for key in found}


def _interpolates(variable: Variable) -> bool:
    return variable.mount_path is None or variable.enable_interpolation_in_file


def _raw(
    variable: Variable, by_id: Mapping[str, Variable], provided: Mapping[str, Effective], open_value: Opener
) -> Effective:
    """The variable's own or its target's value, references not yet replaced."""
    target = variable
    if variable.variable_type is VariableType.ALIAS:
        named = variable.target_id or ""
        if named in by_id:
            target = by_id[named]
        elif named in provided:  # an alias of a built-in, which has no id but its key
            return msgspec.structs.replace(provided[named], scope=variable.scope)
        else:
            raise Invalid(f"the alias {variable.name} stands for a variable that is gone")
    return Effective(
        value=open_value(target.sealed) if target.sealed else "",
        scope=variable.scope,
        is_secret=target.is_secret,
        mount_path=target.mount_path,
    )


def _interpolated(
    key: str, found: Mapping[str, Effective], literal: set[str], path: tuple[str, ...]
) -> Effective:
    if key in path:
        raise Invalid(f"variables refer to each other in a circle: {' -> '.join((*path, key))}")
    variable = found[key]
    if key in literal or "{{" not in variable.value:
        return variable
    secret = variable.is_secret

    def replacement(match: re.Match[str]) -> str:
        nonlocal secret
        name = match.group(1)
        if name not in found:
            raise Invalid(f"the value of {key} refers to {{{{{name}}}}}, and no such variable is in scope")
        inner = _interpolated(name, found, literal, (*path, key))
        secret = secret or inner.is_secret
        return inner.value

    value = _REFERENCE.sub(replacement, variable.value)
    return msgspec.structs.replace(variable, value=value, is_secret=secret)
