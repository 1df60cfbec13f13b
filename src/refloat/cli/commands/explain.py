"""`refloat explain`: why a deployment is where it is."""

import click

from refloat.cli.options import (
    as_json_option,
    client,
    meant_environment_argument,
    print_json,
    version_option,
)
from refloat.cli.problems import Problem


@click.command()
@meant_environment_argument
@version_option
@as_json_option
def explain(environment: str | None, version: str | None, as_json: bool) -> None:
    """Say why a deployment is where it is."""
    from refloat.cli.lookup import execution_of, find_environment

    server = client()
    found = find_environment(server, environment)
    if version:
        execution = execution_of(found, version)
        journal = server.get(f"/refloat/environment/{found['id']}/journal", version=execution)
        meant = journal["deployment_request_id"]
    else:
        meant = server.get(f"/environment/{found['id']}/status")["deployment_request_id"]
    if meant is None:
        raise Problem(f"{found['name']} was never deployed", hint=f"refloat redeploy {found['name']}")
    body = server.get(f"/refloat/deployment/{meant}/explain")
    if as_json:
        print_json(body)
        return
    click.echo("\n".join(body["words"]))
    if body["situation"] == "ended":
        spent = server.get(f"/refloat/deployment/{meant}/critical-path")
        click.echo("\n".join(spent["words"]))


COMMANDS = (explain,)
