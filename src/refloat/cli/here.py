"""The environment that is meant when none is named: the only one, or the one of this folder."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from refloat.cli import context
from refloat.cli.client import Client, Json
from refloat.cli.lookup import Place, places, short_names, shown
from refloat.cli.problems import Exit, Problem
from refloat.cli.working_tree import WorkingTree


def environment_here(client: Client) -> Json:
    """The only environment there is; of several the one that `refloat up` brought up from this folder."""
    known = list(places(client))
    meant = known if len(known) < 2 else _of_this_folder(client, known)
    if len(meant) == 1:
        return meant[0].environment
    if not known:
        raise Problem("there is no environment yet", hint="make one with `refloat up`")
    names = short_names(known)
    command = click.get_current_context().command_path
    raise Problem(
        f"which environment? There are {len(names)}: {shown(names)}",
        hint=f"name one, as in: {command} {names[0]}",
        code=Exit.USAGE,
    )


def _of_this_folder(client: Client, known: Sequence[Place]) -> list[Place]:
    """Those with an application that comes from the folder we are in, or from the nearest one above."""
    if not context.is_loopback(client.url):
        return []
    data_dir = context.read_settings(context.with_remembered(os.environ)).data_dir
    here = Path.cwd()
    trees = (WorkingTree(folder, data_dir) for folder in (here, *here.parents))
    nearest = next((tree.url for tree in trees if tree.is_known), None)
    return [it for it in known if nearest and nearest in _sources(client, it)]


def _sources(client: Client, place: Place) -> set[str]:
    services = client.get(f"/environment/{place.environment['id']}/services")["results"]
    return {str((it.get("git_repository") or {}).get("url")) for it in services}
