"""Showing what an action would do, before anybody asks for it."""

import click

from refloat.cli import render
from refloat.cli.client import Client
from refloat.cli.going_back import Way, way_back
from refloat.cli.lookup import find_environment
from refloat.cli.options import print_json
from refloat.cli.problems import Exit


def show_plan(server: Client, name: str | None, action: str, to: str | None = None, *, as_json: bool) -> int:
    """Print the plan of this moment and, where that can be asked for, how to have exactly it done."""
    environment = find_environment(server, name)
    if action == "rollback":
        way = way_back(server, environment, to)
    else:
        way = Way("", "", server.get(f"/refloat/environment/{environment['id']}/plan", action=action))
    if as_json:
        print_json(way.plan)
        return Exit.DONE
    if way.told:
        click.echo(f"back to {way.told}")
    click.echo(render.plan(way.plan, name or environment["name"], action, way.to))
    return Exit.DONE
