"""`refloat down`: end everything that this installation runs on this machine."""

import os
from pathlib import Path
from typing import Any

import click

from refloat.cli.options import as_json_option, ask, print_json, yes_option
from refloat.cli.problems import Problem


@click.command()
@click.option("--purge", is_flag=True, help="Delete the data directory too, with every environment in it.")
@yes_option
@as_json_option
def down(purge: bool, yes: bool, as_json: bool) -> None:
    """Stop the applications, the edge and the server of this machine.

    Configuration and data stay, unless --purge is given; `refloat up` starts again.
    """
    from refloat.cli import context, ending

    environ = context.with_remembered(os.environ)
    if environ.get("REFLOAT_URL") and not context.is_loopback(context.server_url(environ)):
        raise Problem(
            f"only what runs on this machine can be ended; REFLOAT_URL is {environ['REFLOAT_URL']}",
            hint="unset REFLOAT_URL, or run this on that machine",
        )
    settings = context.read_settings(environ)
    if not settings.data_dir.is_dir():
        raise Problem(
            f"there is no data directory {settings.data_dir}", hint="set REFLOAT_DATA_DIR to the right one"
        )
    ending.refuse_foreign(settings)
    ending.refuse_managed(settings)
    if purge:
        ending.check_purge(settings)
        ask(f"Delete {settings.data_dir} with everything in it?", yes=yes)
    told = _end(environ, settings)
    if purge:
        ending.purge(settings)
    context.forget(environ, settings)
    told = {**told, "data_dir": str(settings.data_dir), "purged": purge}
    if as_json:
        print_json(told)
    else:
        click.echo("\n".join(_words(told)))


def _end(environ: dict[str, str], settings: Any) -> dict[str, Any]:
    from refloat.cli import ending
    from refloat.supervisor.directories import holding

    with holding(settings.data_dir / "up.lock"):
        environments = _stopped_by_api(environ, settings)
        pid = ending.end_server(settings)
        return {"environments": environments, "server": pid, "processes": ending.end_processes(settings)}


def _stopped_by_api(environ: dict[str, str], settings: Any) -> list[str]:
    """Nothing when the server does not answer: the supervisor ends the applications then."""
    from refloat.cli import context, ending
    from refloat.cli.client import Client
    from refloat.supervisor.occupancy import occupant

    if occupant(settings.data_dir) is None:
        return []
    try:
        local = {**environ, "REFLOAT_URL": ""}
        client = Client(context.server_url(local), context.admin_token(local))
        return ending.stop_environments(client)
    except Problem as problem:
        click.echo(
            f"refloat: the server does not stop its applications ({problem.message}); ending them", err=True
        )
        return []


def _words(told: dict[str, Any]) -> list[str]:
    lines = [f"stopped  {path}" for path in told["environments"]]
    edges = [id for id in told["processes"] if id.startswith("edge")]
    others = len(told["processes"]) - len(edges)
    lines += [f"ended    {others} process{'es' if others > 1 else ''} that still ran"] if others else []
    lines += ["ended    the edge"] if edges else []
    lines += [f"ended    the server (process {told['server']})"] if told["server"] else []
    if not lines:
        lines = ["nothing ran"]
    folder = Path(told["data_dir"])
    lines += [
        f"deleted  {folder}"
        if told["purged"]
        else f"kept     {folder} (refloat up starts again; --purge deletes it)"
    ]
    return lines


COMMANDS = (down,)
