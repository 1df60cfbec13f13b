"""`refloat rollback`: an earlier deployment again."""

import click

from refloat.cli.options import (
    accepted,
    as_json_option,
    check_plan,
    check_timeout,
    client,
    if_plan_option,
    meant_environment_argument,
    plan_option,
    timeout_option,
    to_option,
    watch_option,
)


@click.command()
@meant_environment_argument
@to_option
@watch_option
@plan_option
@if_plan_option
@timeout_option
@as_json_option
def rollback(
    environment: str | None,
    to: str | None,
    watch: bool,
    only_plan: bool,
    plan_hash: str | None,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Deploy an earlier deployment again: code, configuration, values.

    What is configured stays, so `refloat redeploy` goes forward again.
    """
    from refloat.cli.going_back import way_back
    from refloat.cli.lookup import find_environment
    from refloat.cli.planned import show_plan

    check_plan(only_plan, watch, plan_hash, timeout)
    check_timeout(timeout, follows=watch)
    if only_plan:
        return show_plan(client(), environment, "rollback", to, as_json=as_json)
    server = client()
    found = find_environment(server, environment)
    way = way_back(server, found, to)
    query = {"to": way.to, **({"plan": plan_hash} if plan_hash else {})}
    body = server.post(f"/refloat/environment/{found['id']}/rollback", query=query)
    if not as_json:
        click.echo(f"back to {way.told}")
    return accepted(server, found, watch=watch, timeout=timeout, as_json=as_json, body=body)


COMMANDS = (rollback,)
