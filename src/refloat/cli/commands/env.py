"""`refloat env`: environments themselves, and their configuration as a file."""

from typing import Any

import click

from refloat.cli.commands import manifests
from refloat.cli.options import (
    accepted,
    as_json_option,
    ask,
    check_timeout,
    client,
    environment_argument,
    print_json,
    timeout_option,
    watch_option,
    yes_option,
)
from refloat.cli.problems import Exit, Missing

MODES = ("DEVELOPMENT", "STAGING", "PRODUCTION")
mode_option = click.option("--mode", type=click.Choice(MODES, case_sensitive=False), help="What it is for.")
cluster_option = click.option("--cluster", metavar="NAME", help="Where it runs.")


@click.group()
def env() -> None:
    """Make, clone and delete environments. Write them to a file, and make them from one."""


@env.command("list")
@as_json_option
def list_environments(as_json: bool) -> None:
    """List the environments that the token reaches, with their states."""
    from refloat.cli import render
    from refloat.cli.lookup import places

    server = client()
    found = [(it, server.get(f"/environment/{it.environment['id']}/status")) for it in places(server)]
    if as_json:
        print_json([{**it.environment, "path": it.path, "status": status} for it, status in found])
        return
    if not found:
        click.echo("no environment yet: make one with `refloat up` or `refloat env create NAME`")
        return
    rows = [["ENVIRONMENT", "ID", "STATE", "CONFIGURATION", "CLUSTER"]]
    for it, status in found:
        words = [render.state(status["state"]), render.state(status["deployment_status"])]
        rows.append([it.path, it.environment["id"], *words, it.environment["cluster_name"]])
    click.echo(render.table(rows))


@env.command("create")
@click.argument("name")
@click.option("--project", default="default", show_default=True, metavar="NAME", help="Where it belongs.")
@cluster_option
@mode_option
@as_json_option
def create(name: str, project: str, cluster: str | None, mode: str | None, as_json: bool) -> None:
    """Make an empty environment."""
    from refloat.cli.lookup import find_cluster, find_project

    server = client()
    found = find_project(server, project)
    body = {"name": name, **({"mode": mode.upper()} if mode else {})}
    if cluster:
        body["cluster"] = find_cluster(server, found["organization"]["id"], cluster)["id"]
    made = server.post(f"/project/{found['id']}/environment", body)
    _tell_made(made, as_json)


@env.command("clone")
@environment_argument
@click.argument("name")
@click.option("--project", metavar="NAME", help="Where the clone belongs; default: where its source does.")
@cluster_option
@mode_option
@as_json_option
def clone(
    environment: str, name: str, project: str | None, cluster: str | None, mode: str | None, as_json: bool
) -> None:
    """Make an environment with the same configuration; nothing is deployed."""
    from refloat.cli.lookup import find_cluster, find_environment, find_project

    server = client()
    found = find_environment(server, environment)
    body: dict[str, Any] = {"name": name, **({"mode": mode.upper()} if mode else {})}
    if project:
        body["project_id"] = find_project(server, project)["id"]
    if cluster:
        body["cluster_id"] = find_cluster(server, found["organization"]["id"], cluster)["id"]
    _tell_made(server.post(f"/environment/{found['id']}/clone", body), as_json)


def _tell_made(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made['name']} is made ({made['id']}); deploy it: refloat redeploy {made['id']} --watch")


@env.command("delete")
@environment_argument
@yes_option
@watch_option
@timeout_option
@as_json_option
def delete(environment: str, yes: bool, watch: bool, timeout: float | None, as_json: bool) -> int:
    """Delete an environment: what runs is stopped, data and configuration are removed."""
    from refloat.cli.lookup import find_environment

    check_timeout(timeout, follows=watch)
    server = client()
    found = find_environment(server, environment)
    ask(f"Delete the environment {found['name']} with its data?", yes=yes)
    server.delete(f"/environment/{found['id']}")
    try:
        return accepted(server, found, watch=watch, timeout=timeout, as_json=as_json)
    except Missing:  # at once when nothing of it ever ran, else at the end of the deployment
        _tell_gone(found, as_json)
        return Exit.DONE


def _tell_gone(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({"id": found["id"], "state": "DELETED"})
    else:
        click.echo(f"{found['name']} is DELETED")


for _command in manifests.COMMANDS:
    env.add_command(_command)

COMMANDS = (env,)
