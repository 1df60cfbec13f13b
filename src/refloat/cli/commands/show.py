"""Reading an environment: what is deployed, what a deployment would do, what was done."""

import click

from refloat.cli.options import as_json_option, client, meant_environment_argument, print_json, to_option

ACTIONS = ("deploy", "redeploy", "restart", "rollback", "stop", "uninstall", "delete")


@click.command()
@meant_environment_argument
@as_json_option
def status(environment: str | None, as_json: bool) -> None:
    """Show what is deployed, and whether it equals what is configured."""
    from refloat.cli import render
    from refloat.cli.advice import waits_for
    from refloat.cli.lookup import find_environment

    server = client()
    found = find_environment(server, environment)
    path = f"/environment/{found['id']}"
    body = server.get(f"{path}/statusesWithStages")
    services = server.get(f"{path}/services")["results"]
    urls = {it["service_id"]: it["url"] for it in server.get(f"{path}/link")["results"]}
    if as_json:
        named = [{"id": it["id"], "name": it["name"], "url": urls.get(it["id"])} for it in services]
        print_json(body | {"services": named})
        return
    names = {it["id"]: it["name"] for it in services}
    why = waits_for(server, body["environment"]["deployment_request_id"])
    click.echo(render.status(body, found, names, urls, why))


@click.command()
@meant_environment_argument
@click.option(
    "--action",
    type=click.Choice(ACTIONS),
    default="redeploy",
    show_default=True,
    help="What would be asked for.",
)
@to_option
@as_json_option
def plan(environment: str | None, action: str, to: str | None, as_json: bool) -> int:
    """Show what an action would do now. Nothing is done."""
    from refloat.cli.planned import show_plan

    if to and action != "rollback":
        raise click.UsageError("--to needs --action rollback")
    return show_plan(client(), environment, action, to, as_json=as_json)


@click.command()
@meant_environment_argument
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="How many.")
@as_json_option
def history(environment: str | None, limit: int, as_json: bool) -> None:
    """List the last deployments, newest first."""
    from refloat.cli import render
    from refloat.cli.lookup import find_environment

    server = client()
    found = find_environment(server, environment)
    page = server.get(f"/environment/{found['id']}/deploymentHistoryV2", pageSize=limit)
    if as_json:
        print_json(page)
    else:
        click.echo(render.history(page["results"], found["name"]))


COMMANDS = (status, plan, history)
