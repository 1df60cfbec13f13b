"""`refloat var` and `refloat secret`: variables of an environment or of one of its services."""

import sys
from typing import Any

import click

from refloat.cli.options import (
    as_json_option,
    client,
    environment_argument,
    meant_environment_argument,
    print_json,
)
from refloat.cli.problems import Problem

service_option = click.option(
    "--service", metavar="NAME", help="Of this service; default: of the environment."
)


@click.group()
def var() -> None:
    """List, set and unset variables. They take effect with the next deployment."""


@click.group()
def secret() -> None:
    """Set secrets, which nobody can read again. `refloat var unset` removes them."""


@var.command("list")
@meant_environment_argument
@service_option
@as_json_option
def list_variables(environment: str | None, service: str | None, as_json: bool) -> None:
    """List the variables, those that are inherited from wider scopes included."""
    from refloat.cli import render
    from refloat.cli.scope import Scope

    found = Scope.find(client(), environment, service).visible()
    if as_json:
        print_json(found)
        return
    rows = [["KEY", "VALUE", "SCOPE", "KIND"]]
    rows += [[it["key"], shown(it), it["scope"], it["variable_type"]] for it in found]
    click.echo(render.table(rows))


def shown(variable: dict[str, Any]) -> str:
    """The value on one line, what an alias stands for, or that it is secret."""
    if alias := variable.get("aliased_variable"):
        return f"-> {alias['key']}"
    if variable["is_secret"]:
        return "(secret)"
    lines = str(variable["value"] or "").splitlines() or [""]
    return lines[0] + (" …" if len(lines) > 1 else "")


@var.command("set")
@environment_argument
@click.argument("assignments", nargs=-1, required=True, metavar="KEY=VALUE...")
@service_option
@as_json_option
def set_variables(environment: str, assignments: tuple[str, ...], service: str | None, as_json: bool) -> None:
    """Set variables; those that are there already get the new value."""
    from refloat.cli.scope import Scope, pair

    pairs = [pair(it) for it in assignments]
    scope = Scope.find(client(), environment, service)
    _tell([scope.set(key, value) for key, value in pairs], environment, as_json)


@secret.command("set")
@environment_argument
@click.argument("key")
@click.argument("rest", nargs=-1, metavar="")
@service_option
@as_json_option
def set_secret(environment: str, key: str, rest: tuple[str, ...], service: str | None, as_json: bool) -> None:
    """Set a secret. Its value is asked for, or read from standard input, so that no shell keeps it."""
    from refloat.cli.scope import Scope

    if rest or "=" in key:
        raise click.UsageError("give the key only; the value is asked for, or piped in")
    scope = Scope.find(client(), environment, service)
    if sys.stdin.isatty():
        value = str(click.prompt(key, hide_input=True))
    else:
        given = sys.stdin.read()
        if not given:
            raise click.UsageError(f"nothing was piped in; for an empty {key} pipe in an empty line")
        value = given.removesuffix("\n")
    _tell([scope.set(key, value, is_secret=True)], environment, as_json)


@var.command("unset")
@environment_argument
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@service_option
@as_json_option
def unset_variables(environment: str, keys: tuple[str, ...], service: str | None, as_json: bool) -> None:
    """Remove variables and secrets, with the aliases and overrides of them."""
    from refloat.cli.scope import Scope

    scope = Scope.find(client(), environment, service)
    own = {it["key"]: it for it in scope.own()}
    for key in keys:
        if key not in own:
            there = ", ".join(own) or "none"
            raise Problem(f"{scope.name} has no variable {key!r} of its own", hint=f"it has {there}")
    _tell([scope.remove(own[key]) for key in dict.fromkeys(keys)], environment, as_json)


def _tell(changes: list[dict[str, str]], environment: str, as_json: bool) -> None:
    if as_json:
        print_json(changes)
        return
    for change in changes:
        click.echo(f"{change['key']} is {change['change']}")
    if any(change["change"] != "unchanged" for change in changes):
        click.echo(f"it takes effect with the next deployment: refloat redeploy {environment} --watch")


COMMANDS = (var, secret)
