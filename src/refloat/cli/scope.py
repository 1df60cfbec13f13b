"""Variables of one owner, an environment or a service, through the unified interface."""

import click

from refloat.cli.client import Client, Json
from refloat.cli.lookup import find_environment, find_services
from refloat.cli.problems import Problem

Change = dict[str, str]


def pair(text: str) -> tuple[str, str]:
    """Key and value of `KEY=VALUE`."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise click.UsageError(f"{text!r} is not of the form KEY=VALUE")
    return key, value


class Scope:
    """Where variables belong. `word` is the published name of the scope."""

    def __init__(self, client: Client, owner: Json, word: str) -> None:
        self._client = client
        self._owner = owner
        self.word = word
        self.name = str(owner["name"])

    @classmethod
    def find(cls, client: Client, environment: str | None, service: str | None) -> "Scope":
        """Of the environment, or of one of its services."""
        found = find_environment(client, environment)
        return cls.of_service(client, found, service) if service else cls(client, found, "ENVIRONMENT")

    @classmethod
    def of_service(cls, client: Client, environment: Json, name: str) -> "Scope":
        (service,) = find_services(client, environment, (name,))
        return cls(client, service, service["service_type"])

    def visible(self) -> list[Json]:
        """With those of wider scopes and the built-in ones."""
        found = self._client.get("/variable", parent_id=self._owner["id"], scope=self.word)["results"]
        return list(found)

    def own(self) -> list[Json]:
        """Only those of this very owner."""
        return [it for it in self.visible() if it["scope"] == self.word]

    def set(self, key: str, value: str, *, is_secret: bool = False) -> Change:
        """Make the variable or give it this value; a secret cannot be compared and is always written."""
        known = next((it for it in self.own() if it["key"] == key), None)
        if known is None:
            body = {"key": key, "value": value, "is_secret": is_secret}
            place = {"variable_scope": self.word, "variable_parent_id": self._owner["id"]}
            self._client.post("/variable", body | place)
            return {"key": key, "change": "set"}
        _check_kind(known, is_secret)
        if not is_secret and known["value"] == value:
            return {"key": key, "change": "unchanged"}
        self._client.put(f"/variable/{known['id']}", _edit(known, value))
        return {"key": key, "change": "changed"}

    def remove(self, variable: Json) -> Change:
        self._client.delete(f"/variable/{variable['id']}")
        return {"key": str(variable["key"]), "change": "unset"}


def _edit(known: Json, value: str) -> Json:
    return {"key": known["key"], "value": value, "description": known.get("description")}


def _check_kind(known: Json, is_secret: bool) -> None:
    key = known["key"]
    if known["variable_type"] == "ALIAS":
        raise Problem(
            f"{key} is an alias, which has no value", hint=f"set {known['aliased_variable']['key']}"
        )
    if known["is_secret"] != is_secret:
        kind, command = ("a secret", "secret") if known["is_secret"] else ("a plain variable", "var")
        raise Problem(f"{key} is {kind}", hint=f"use `refloat {command} set`, or unset it first")
