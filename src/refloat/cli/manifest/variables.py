"""The variables of a file against those that are there: values first, then what refers to them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from refloat.cli.client import Json
from refloat.cli.manifest.model import Manifest, Variable
from refloat.cli.manifest.references import UnknownReference, named_services
from refloat.cli.manifest.there import There
from refloat.cli.problems import Problem

Step = tuple[str, str, int, Callable[[], None]]
_FIXED = ("is_secret", "mount_path")
"""What an edit cannot change: the variable is made anew."""
_COMPARED = ("description", "enable_interpolation_in_file")


class Wish(NamedTuple):
    """One variable of one owner; `service` None is the environment."""

    service: str | None
    variable: Variable

    @property
    def words(self) -> str:
        whose = f" of {self.service}" if self.service else ""
        return f"{'secret' if self.variable.body.get('is_secret') else 'variable'} {self.variable.key}{whose}"

    @property
    def refers(self) -> bool:
        return bool(self.variable.alias_of) or self.variable.override


def variable_changes(there: There, wanted: Manifest, *, prune: bool) -> Iterator[Step]:
    """What is to be made, changed and, when pruning, removed."""
    comparison = _Comparison(there, wanted)
    wishes = [*_wishes(wanted)]
    for wish in sorted(wishes, key=lambda it: it.refers):
        yield from comparison.of(wish)
    if prune:
        yield from comparison.superfluous(wishes)


def check_references(there: There, wanted: Manifest) -> None:
    """Raises Problem for a service that neither the file nor the server has, before anything is made."""
    known = {*there.services, *(service.name.lower() for service in wanted.services or ())}
    for wish in _wishes(wanted):
        for text in (wish.variable.alias_of or "", str(wish.variable.body.get("value") or "")):
            for name in named_services(text):
                if name.lower() not in known:
                    words = f"{wish.variable.key}: there is no service {name!r}"
                    raise wanted.reader.wrong(
                        wish.variable.line, words, f"there is {', '.join(sorted(known))}"
                    )


def open_secrets(there: There, wanted: Manifest) -> list[str]:
    """The commands that set the secrets which the file only names and the server does not have."""
    found = []
    for wish in _wishes(wanted):
        if _is_open(wish.variable) and wish.variable.key not in there.own(wish.service):
            service = f" --service {wish.service}" if wish.service else ""
            found.append(f"refloat secret set {wanted.name} {wish.variable.key}{service}")
    return found


def _wishes(wanted: Manifest) -> Iterator[Wish]:
    yield from (Wish(None, it) for it in wanted.variables or ())
    for service in wanted.services or ():
        yield from (Wish(service.name, it) for it in service.variables or ())


def _is_open(variable: Variable) -> bool:
    return not variable.alias_of and "value" not in variable.body


class _Comparison:
    def __init__(self, there: There, wanted: Manifest) -> None:
        self._there = there
        self._wanted = wanted
        self._anew: set[str] = set()
        """Variables that are made anew: what refers to them goes with them."""

    def of(self, wish: Wish) -> Iterator[Step]:
        if _is_open(wish.variable):
            return
        known = self._there.own(wish.service).get(wish.variable.key)
        line = wish.variable.line
        if known is None:
            yield "+", self._told(wish), line, lambda: self._make(wish)
        elif self._is_another(known, wish) or self._goes(known):
            self._anew.add(known["id"])
            yield "~", f"{self._told(wish)}, made anew", line, lambda: self._make_anew(wish)
        elif differing := self._differences(known, wish):
            yield "~", f"{wish.words}: {', '.join(differing)}", line, lambda: self._edit(wish)

    def superfluous(self, wishes: list[Wish]) -> Iterator[Step]:
        """Those of the owners whose variables the file lists."""
        listed: dict[str | None, set[str]] = {}
        if self._wanted.variables is not None:
            listed[None] = set()
        for service in self._wanted.services or ():
            if service.variables is not None:
                listed[service.name] = set()
        for wish in wishes:
            listed[wish.service].add(wish.variable.key)
        for owner, keys in listed.items():
            for key, known in self._there.own(owner).items():
                if key not in keys:
                    whose = f" of {owner}" if owner else ""
                    yield "-", f"variable {key}{whose}", 1, self._remover(owner, key, known["id"])

    def _remover(self, owner: str | None, key: str, id: str) -> Callable[[], None]:
        def remove() -> None:
            if key in self._there.own(owner):  # an alias goes with what it stands for
                self._there.client.delete(f"/variable/{id}")

        return remove

    # -- comparing

    def _goes(self, known: Json) -> bool:
        target = known.get("aliased_variable") or known.get("overridden_variable") or {}
        return target.get("id") in self._anew

    def _told(self, wish: Wish) -> str:
        alias = wish.variable.alias_of
        return wish.words + (f" -> {alias}" if alias else "")

    def _is_another(self, known: Json, wish: Wish) -> bool:
        """Whether it is of another kind or refers to another variable, which no edit changes."""
        alias, kind = wish.variable.alias_of, known["variable_type"]
        if alias:
            return bool(kind != "ALIAS" or known["aliased_variable"]["key"] != self._resolved(wish, alias))
        if kind == "ALIAS" or (kind == "OVERRIDE") != wish.variable.override:
            return True
        return any((known.get(f) or None) != (wish.variable.body.get(f) or None) for f in _FIXED) and (
            not wish.variable.override
        )

    def _differences(self, known: Json, wish: Wish) -> list[str]:
        body = wish.variable.body
        found = [f for f in _COMPARED if f in body and (known.get(f) or None) != (body[f] or None)]
        if wish.variable.alias_of:
            return found
        if known["is_secret"]:
            return [*found, "written again, since a secret cannot be compared"]
        return found if known["value"] == self._value(wish) else ["value", *found]

    def _value(self, wish: Wish) -> str | None:
        """As the server has it; None while it refers to what is not made yet."""
        try:
            return self._there.names().with_keys(str(wish.variable.body.get("value") or ""))
        except UnknownReference:
            return None

    def _resolved(self, wish: Wish, alias: str) -> str | None:
        try:
            return self._there.names().key(alias)
        except UnknownReference:
            return None

    # -- doing

    def _make(self, wish: Wish) -> None:
        owner, scope = self._there.owner(wish.service) or ("", "")
        if not wish.refers:
            place = {"variable_scope": scope, "variable_parent_id": owner}
            self._there.client.post("/variable", {"is_secret": False, **self._body(wish), **place})
            return
        kind = "override" if wish.variable.override else "alias"
        place = {f"{kind}_scope": scope, f"{kind}_parent_id": owner}
        target = self._target(wish)
        self._there.client.post(f"/variable/{target['id']}/{kind}", {**self._body(wish), **place})

    def _target(self, wish: Wish) -> Json:
        named = wish.variable.alias_of or wish.variable.key
        try:
            key = self._there.names().key(named)
        except UnknownReference as error:
            raise Problem(f"{wish.variable.key}: {error.args[0]}", hint=error.args[1]) from None
        target = self._there.target(wish.service, key)
        if target is None:
            raise Problem(f"{wish.variable.key}: there is no variable {named!r} to refer to here")
        return target

    def _edit(self, wish: Wish) -> None:
        known = self._there.own(wish.service)[wish.variable.key]
        body = {"description": known.get("description"), **self._body(wish)}
        self._there.client.put(f"/variable/{known['id']}", body)

    def _make_anew(self, wish: Wish) -> None:
        if known := self._there.own(wish.service).get(wish.variable.key):
            self._there.client.delete(f"/variable/{known['id']}")
            self._there.forget()
        self._make(wish)

    def _body(self, wish: Wish) -> Json:
        body = dict(wish.variable.body)
        if body.get("value") is not None:
            try:
                body["value"] = self._there.names().with_keys(body["value"])
            except UnknownReference as error:
                raise Problem(f"{wish.variable.key}: {error.args[0]}", hint=error.args[1]) from None
        return body
