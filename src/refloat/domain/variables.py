"""Which variables a service gets: scopes, aliases, overrides and `{{KEY}}` in values. Pure.

Narrower scopes win: service over environment over project over built-in. Values are opened by a
function that is handed in, and only for what is used.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from refloat.domain.errors import Invalid
from refloat.domain.ids import short
from refloat.domain.resources import Environment, Variable, VariableScope, VariableType
from refloat.domain.revision import DatabaseServer
from refloat.domain.services import Service

_REFERENCE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OUTPUT_PREFIX = "QOVERY_OUTPUT_JOB_"
"""How names of job outputs begin. They change while a deployment runs, so references to them are left in
place here and replaced when a revision is made."""
_RESERVED = ("QOVERY_", "__")
_LONGEST_VALUE = 120 * 1024
"""Bytes. Linux starts no process with a longer `KEY=value` than 128 KiB."""
_LONGEST_FILE = 1024 * 1024
_DEEPEST = 100

Opener = Callable[[str], str]


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """What a service gets under one key. With `mount_path` it is a file."""

    value: str
    scope: VariableScope
    is_secret: bool = False
    mount_path: str | None = None


def check_key(key: str) -> str:
    """The key, if it may be used; raises Invalid with the rule it breaks."""
    if not KEY.fullmatch(key):
        raise Invalid(
            f"the key {key!r} is not a variable name",
            hint="use letters, digits and _, not beginning with a digit",
        )
    if key.startswith(_RESERVED):
        raise Invalid(f"the key {key!r} begins with {' or '.join(_RESERVED)}, which is reserved")
    return key


def check_value(key: str, value: str, *, is_file: bool) -> str:
    """The value, if a process can be given it; raises Invalid naming the key and the limit."""
    longest = _LONGEST_FILE if is_file else _LONGEST_VALUE
    size = len(value.encode())
    if size > longest:
        raise Invalid(f"the value of {key} has {size} bytes; at most {longest} are possible")
    if not is_file and "\0" in value:
        raise Invalid(f"the value of {key} has the character NUL, which no environment can hold")
    return value


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a service can be reached: its stable internal `host:port`, its public URL, both "" if nowhere.

    A database has a server, whose password is in the clear.
    """

    service: Service
    internal: str = ""
    url: str = ""
    database: DatabaseServer | None = None


def builtins(environment: Environment, places: Sequence[Place]) -> dict[str, "Effective"]:
    """What every service is told about its environment and its neighbours."""
    values = {
        "QOVERY_ENVIRONMENT_ID": environment.id,
        "QOVERY_ENVIRONMENT_NAME": environment.name,
        "QOVERY_PROJECT_ID": environment.parent,
    }
    secrets: dict[str, str] = {}
    for place in places:
        if place.database:
            plain, secret = _of_database(place.service, place.database)
            values |= plain
            secrets |= secret
        else:
            values |= _of_workload(place)
    return {
        **{k: Effective(value=v, scope=VariableScope.BUILT_IN) for k, v in values.items()},
        **{k: Effective(value=v, scope=VariableScope.BUILT_IN, is_secret=True) for k, v in secrets.items()},
    }


def _of_workload(place: Place) -> dict[str, str]:
    service = place.service
    prefix = f"QOVERY_{service.kind.upper()}_Z{short(service.id).upper()}"
    if not place.internal:
        return {f"{prefix}_NAME": service.name}
    return {
        f"{prefix}_NAME": service.name,
        f"{prefix}_HOST_INTERNAL": place.internal,
        f"{prefix}_URL_INTERNAL": f"http://{place.internal}",
        f"{prefix}_HOST_EXTERNAL": place.url.removeprefix("http://").removeprefix("https://"),
        f"{prefix}_URL_EXTERNAL": place.url,
    }


def _of_database(service: Service, server: DatabaseServer) -> tuple[dict[str, str], dict[str, str]]:
    """What may be seen and what may not. Both names of the user, because documents differ in it."""
    prefix = f"QOVERY_{server.type}_Z{short(service.id).upper()}"
    plain = {
        "NAME": service.name,
        "HOST": server.host,
        "HOST_INTERNAL": server.host,
        "PORT": str(server.port),
        "LOGIN": server.login,
        "USERNAME": server.login,
        "DEFAULT_DATABASE_NAME": server.database,
    }
    secret = {"PASSWORD": server.password, "DATABASE_URL": server.url, "DATABASE_URL_INTERNAL": server.url}
    return {f"{prefix}_{k}": v for k, v in plain.items()}, {f"{prefix}_{k}": v for k, v in secret.items()}


def effective(
    provided: Mapping[str, Effective], scopes: Sequence[Sequence[Variable]], open_value: Opener
) -> dict[str, Effective]:
    """Everything a service gets, by key. `scopes` go from the widest to the narrowest.

    Raises Invalid naming the variable whose references lead nowhere or in a circle.
    """
    found = dict(provided)
    by_id = {variable.id: variable for scope in scopes for variable in scope}
    raw = {v.name: _raw(v, by_id, found, open_value) for scope in scopes for v in scope}
    found.update(raw)
    literal = {v.name for scope in scopes for v in scope if not _interpolates(v)}
    resolver = _Resolver(found, literal)
    return {key: resolver.resolved(key, ()) for key in found}


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
        elif named.startswith(OUTPUT_PREFIX):
            return Effective(value=f"{{{{{named}}}}}", scope=variable.scope, is_secret=variable.is_secret)
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


class _Resolver:
    """Replaces references. Each variable is resolved once and its length is bounded, so that values which
    double each other cost neither time nor memory."""

    def __init__(self, found: Mapping[str, Effective], literal: set[str]) -> None:
        self._found = found
        self._literal = literal
        self._resolved: dict[str, Effective] = {}

    def resolved(self, key: str, path: tuple[str, ...]) -> Effective:
        """The variable without references; `path` holds the keys whose values lead here."""
        if key not in self._resolved:
            self._resolved[key] = self._resolve(key, path)
        return self._resolved[key]

    def _resolve(self, key: str, path: tuple[str, ...]) -> Effective:
        if key in path:
            circle = (*path[path.index(key) :], key)
            raise Invalid(f"variables refer to each other in a circle: {' -> '.join(circle)}")
        if len(path) > _DEEPEST:
            raise Invalid(f"the references from {path[0]} go through more than {_DEEPEST} variables")
        variable = self._found[key]
        if key in self._literal or "{{" not in variable.value:
            return variable
        value, secret = self._replaced(key, variable, path)
        check_value(key, value, is_file=variable.mount_path is not None)
        return msgspec.structs.replace(variable, value=value, is_secret=secret)

    def _replaced(self, key: str, variable: Effective, path: tuple[str, ...]) -> tuple[str, bool]:
        secret = variable.is_secret
        parts: list[str] = []
        end = size = 0
        for match in _REFERENCE.finditer(variable.value):
            name = match.group(1)
            if name.startswith(OUTPUT_PREFIX):
                continue
            if name not in self._found:
                raise Invalid(
                    f"the value of {key} refers to {{{{{name}}}}}, and no such variable is in scope"
                )
            inner = self.resolved(name, (*path, key))
            secret = secret or inner.is_secret
            parts += variable.value[end : match.start()], inner.value
            size += len(inner.value)
            if size > _LONGEST_FILE:
                raise Invalid(f"the value of {key} grows beyond {_LONGEST_FILE} characters")
            end = match.end()
        return "".join((*parts, variable.value[end:])), secret
