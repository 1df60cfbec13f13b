"""Asking for deployments: each command is one call of the API, followed with --watch."""

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
    print_json,
    timeout_option,
    watch_option,
)
from refloat.cli.problems import Exit, Problem

services_argument = click.argument("services", nargs=-1, metavar="[SERVICE]...")


@click.command()
@meant_environment_argument
@watch_option
@plan_option
@if_plan_option
@click.option("--require-zero-downtime", is_flag=True, help="Only if no service is interrupted.")
@timeout_option
@as_json_option
def redeploy(
    environment: str | None,
    watch: bool,
    only_plan: bool,
    plan_hash: str | None,
    require_zero_downtime: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Roll the whole environment, stage by stage.

    At the commits it has. Says afterwards which branches are ahead of what is deployed; `refloat deploy`
    takes their commits.
    """
    from refloat.cli.lookup import find_environment
    from refloat.cli.planned import show_plan
    from refloat.cli.versions import tell_what_is_ahead

    check_plan(only_plan, watch, plan_hash, require_zero_downtime, timeout)
    check_timeout(timeout, follows=watch)
    if only_plan:
        return show_plan(client(), environment, "redeploy", as_json=as_json)
    server = client()
    found = find_environment(server, environment)
    query = {"plan": plan_hash} if plan_hash else {}
    if require_zero_downtime:
        query["require_zero_downtime"] = "true"
    body = server.post(f"/environment/{found['id']}/redeploy", query=query)
    code = accepted(server, found, watch=watch, timeout=timeout, as_json=as_json, body=body)
    if not as_json and code == Exit.DONE:
        tell_what_is_ahead(server, found)
    return code


@click.command()
@meant_environment_argument
@services_argument
@click.option("--commit", metavar="ID", help="This commit instead of the branch's newest; for one SERVICE.")
@watch_option
@timeout_option
@as_json_option
def deploy(
    environment: str | None,
    services: tuple[str, ...],
    commit: str | None,
    watch: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Roll services to the newest commits. All services, or those that are named."""
    from refloat.cli.lookup import find_environment, find_services
    from refloat.cli.versions import deploy_body

    check_timeout(timeout, follows=watch)
    server = client()
    found = find_environment(server, environment)
    chosen = find_services(server, found, services)
    body = deploy_body(server, chosen, commit)
    status = server.post(f"/environment/{found['id']}/service/deploy", body)
    return accepted(server, found, watch=watch, timeout=timeout, as_json=as_json, body=status)


@click.command()
@meant_environment_argument
@services_argument
@watch_option
@timeout_option
@as_json_option
def stop(
    environment: str | None, services: tuple[str, ...], watch: bool, timeout: float | None, as_json: bool
) -> int:
    """Stop the environment, or some services. `refloat redeploy` starts it again."""
    from refloat.cli.lookup import find_environment, find_services, ids_body

    check_timeout(timeout, follows=watch)
    server = client()
    found = find_environment(server, environment)
    path = f"/environment/{found['id']}"
    if services:
        server.post(f"{path}/service/stop", ids_body(find_services(server, found, services)))
    else:
        server.post(f"{path}/stop")
    return accepted(server, found, watch=watch, timeout=timeout, as_json=as_json)


@click.command()
@meant_environment_argument
@services_argument
@watch_option
@timeout_option
@as_json_option
def restart(
    environment: str | None, services: tuple[str, ...], watch: bool, timeout: float | None, as_json: bool
) -> int:
    """Restart all services, or those that are named. With the configuration they run with."""
    from refloat.cli.lookup import find_environment, find_services, ids_body

    check_timeout(timeout, follows=watch)
    server = client()
    found = find_environment(server, environment)
    chosen = find_services(server, found, services)
    if not services:  # a job has nothing that could be restarted
        chosen = [it for it in chosen if it["service_type"] != "JOB"]
    server.post(f"/environment/{found['id']}/service/restart-service", ids_body(chosen))
    return accepted(server, found, watch=watch, timeout=timeout, as_json=as_json)


@click.command()
@meant_environment_argument
@as_json_option
def cancel(environment: str | None, as_json: bool) -> None:
    """Cancel the deployment that runs. Or the next one, if none does."""
    from refloat.cli.lookup import find_environment

    server = client()
    found = find_environment(server, environment)
    try:
        body = server.post(f"/environment/{found['id']}/cancelDeployment", {"force_cancel": False})
    except Problem as problem:
        problem.hint = problem.hint or f"see what was done: refloat history {found['name']}"
        raise
    if as_json:
        print_json(body)
    else:
        click.echo(f"{found['name']} is {body['state']}")


COMMANDS = (redeploy, deploy, stop, restart, cancel)
