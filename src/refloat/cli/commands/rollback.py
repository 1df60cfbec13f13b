"""`refloat rollback`: an earlier deployment again."""

import click

from refloat.cli.options import (
    accepted,
    as_json_option,
    check_timeout,
    client,
    environment_argument,
    timeout_option,
    to_option,
    watch_option,
)


@click.command()
@environment_argument
@to_option
@watch_option
@click.option("--plan", "plan_hash", metavar="HASH", help="Only if the plan is still the one with this hash.")
@timeout_option
@as_json_option
def rollback(
    environment: str,
    to: str | None,
    watch: bool,
    plan_hash: str | None,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Deploy an earlier deployment again: code, configuration, values.

    What is configured stays, so `refloat redeploy` goes forward again. `refloat plan ENVIRONMENT --action
    rollback` shows before what would be done.
    """
    from refloat.cli.going_back import way_back
    from refloat.cli.lookup import find_environment

    check_timeout(timeout, follows=watch)
    server = client()
    found = find_environment(server, environment)
    way = way_back(server, found, to)
    query = {"to": way.to, **({"plan": plan_hash} if plan_hash else {})}
    body = server.post(f"/refloat/environment/{found['id']}/rollback", query=query)
    if not as_json:
        click.echo(f"back to {way.told}")
    return accepted(server, found, watch=watch, timeout=timeout, as_json=as_json, body=body)


COMMANDS = (rollback,)
