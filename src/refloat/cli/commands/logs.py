"""`refloat logs`: the log of a deployment, once or to its end; or what a service prints."""

from typing import TYPE_CHECKING, Any

import click

from refloat.cli.options import (
    as_json_option,
    check_timeout,
    client,
    meant_environment_argument,
    print_json,
    timeout_option,
    version_option,
)
from refloat.cli.problems import Exit, Problem

if TYPE_CHECKING:
    from refloat.cli.client import Client


@click.command()
@meant_environment_argument
@click.option(
    "--follow", "-f", is_flag=True, help="Go on to the deployment's end; the exit code says how it ended."
)
@version_option
@click.option(
    "--service",
    metavar="NAME",
    help="What this application or database prints while it runs; --follow goes on and on.",
)
@timeout_option
@as_json_option
def logs(
    environment: str | None,
    follow: bool,
    version: str | None,
    service: str | None,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Print the log of a deployment, or of a service that runs."""
    from refloat.cli import render
    from refloat.cli.lookup import execution_of, find_environment, find_services

    check_timeout(timeout, follows=follow, option="--follow")
    if service and version:
        raise click.UsageError("--version does not go with --service: what runs is what was deployed last")
    server = client()
    found = find_environment(server, environment)
    if service:
        from refloat.cli.output import tell

        [meant] = find_services(server, found, [service])
        return tell(server, meant, follow=follow, timeout=timeout, as_json=as_json)
    query = {"version": execution_of(found, version)} if version else {}
    if follow:
        return _follow(server, found, query, timeout, as_json)
    lines = server.get(f"/environment/{found['id']}/logs", **query)
    for line in lines if not as_json else ():
        click.echo(render.log_line(line))
    if as_json:
        print_json(lines)
    return Exit.DONE


def _follow(
    server: "Client", environment: dict[str, Any], query: dict[str, str], timeout: float | None, as_json: bool
) -> int:
    from refloat.cli.watch import Watch

    journal = server.get(f"/refloat/environment/{environment['id']}/journal", **query)
    deployment_id = journal["deployment_request_id"]
    if deployment_id is None:
        raise Problem(
            f"{environment['name']} was never deployed", hint=f"refloat redeploy {environment['name']}"
        )
    return Watch(server, environment, deployment_id, logs=True, as_json=as_json).run(timeout)


COMMANDS = (logs,)
