"""`refloat env apply` and `refloat env export`: an environment as a file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refloat.cli.options import (
    accepted,
    as_json_option,
    check_timeout,
    client,
    meant_environment_argument,
    print_json,
    timeout_option,
    watch_option,
)
from refloat.cli.problems import Exit, Problem

if TYPE_CHECKING:
    from refloat.cli.manifest.apply import Change
    from refloat.cli.manifest.there import There


@click.command("export")
@meant_environment_argument
@click.option("--output", type=click.Path(dir_okay=False), metavar="FILE", help="Default: standard output.")
def export(environment: str | None, output: str | None) -> None:
    """Write the configuration of an environment as YAML, without secrets."""
    from refloat.cli.lookup import find_environment
    from refloat.cli.manifest.export import exported
    from refloat.cli.manifest.schemas import Schemas
    from refloat.cli.manifest.there import There

    server = client()
    found = find_environment(server, environment)
    project = server.get(f"/project/{found['project']['id']}")
    text = exported(There(server, project, found["name"]), Schemas.of(server))
    if output:
        try:
            Path(output).write_text(text)
        except OSError as error:
            raise Problem(f"{output} cannot be written: {error.strerror}") from None
    else:
        click.echo(text, nl=False)


@click.command("apply")
@click.argument("file", metavar="FILE")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="What ${NAME} stands for in texts.")
@click.option(
    "--prune", is_flag=True, help="Remove services, stages and variables that the file does not list."
)
@click.option("--dry-run", is_flag=True, help="Show what would change and do nothing.")
@click.option("--deploy", is_flag=True, help="Redeploy the environment afterwards.")
@watch_option
@timeout_option
@as_json_option
def apply(
    file: str,
    given: tuple[str, ...],
    prune: bool,
    dry_run: bool,
    deploy: bool,
    watch: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Configure an environment as a YAML FILE says (- is standard input); make it if it is not there.

    What is there is found by its name, so that applying a file again changes nothing. Prints what
    changes, then the plan of a redeploy; --deploy or --watch carries it out.
    """
    from refloat.cli.manifest import apply as applying
    from refloat.cli.manifest.model import load
    from refloat.cli.manifest.schemas import Schemas
    from refloat.cli.manifest.there import There
    from refloat.cli.manifest.variables import open_secrets
    from refloat.cli.scope import pair

    check_timeout(timeout, follows=watch)
    if dry_run and (deploy or watch):
        raise click.UsageError("--dry-run does nothing, so there is nothing to deploy or watch")
    name, text = _text(file)
    server = client()
    wanted = load(name, text, Schemas.of(server), dict(pair(it) for it in given))
    there = There.find(server, wanted.project, wanted.name)
    todo = applying.changes(there, wanted, prune=prune)
    if not as_json:
        _tell_changes(todo)
    if not dry_run:
        applying.perform(there, wanted, todo)
        for command in open_secrets(there, wanted):
            click.echo(f"refloat: a secret has no value yet; set it: {command}", err=True)
    return _end(there, todo, dry_run, deploy or watch, watch, timeout, as_json)


def _text(file: str) -> tuple[str, str]:
    try:
        return ("standard input", sys.stdin.read()) if file == "-" else (file, Path(file).read_text())
    except UnicodeDecodeError:
        raise Problem(f"{file} is not UTF-8 text", hint="give a YAML file") from None
    except OSError as error:
        raise Problem(
            f"{file} cannot be read: {error.strerror}", hint="write one: refloat env export"
        ) from None


def _tell_changes(todo: list["Change"]) -> None:
    colours = {"+": "green", "~": "yellow", "-": "red"}
    for change in todo:
        click.echo(f"{click.style(change.sign, fg=colours[change.sign])} {change.words}")
    if not todo:
        click.echo("nothing to configure: everything is as the file says")


def _end(
    there: "There",
    todo: list["Change"],
    dry_run: bool,
    deploy: bool,
    watch: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """The plan, and the deployment if one is wanted."""
    from refloat.cli import render

    environment: dict[str, Any] | None = there.environment
    told: dict[str, Any] = {"changes": [{"sign": it.sign, "what": it.words} for it in todo]}
    if dry_run or environment is None:
        if as_json:
            print_json(told)
        return Exit.DONE
    plan = there.client.get(f"/refloat/environment/{environment['id']}/plan")
    if as_json and not deploy:
        print_json({**told, "environment_id": environment["id"], "plan": plan})
    elif not as_json:
        click.echo(render.plan(plan, environment["name"]))
    if not deploy or not any(stage["services"] for stage in plan["stages"]):
        return Exit.DONE
    body = there.client.post(f"/environment/{environment['id']}/redeploy", query={"plan": plan["hash"]})
    return accepted(there.client, environment, watch=watch, timeout=timeout, as_json=as_json, body=body)


COMMANDS = (apply, export)
