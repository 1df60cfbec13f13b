"""The `refloat` command. Heavy imports happen inside commands, so that `--help` is quick."""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from refloat.cli.problems import Exit, Problem

if TYPE_CHECKING:
    from refloat.cli.client import Client


class Commands(click.Group):
    """Ends every command with one of our exit codes; click's own 2 for wrong usage means canceled here."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        inherited: Any = super().main
        run = partial(inherited, *args, standalone_mode=False, **extra)
        if not standalone_mode:
            return run()
        sys.exit(_exit_code(run))


def _exit_code(run: Callable[[], Any]) -> int:
    try:
        code = run()
    except click.UsageError as error:
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        error.show()
        return Exit.FAILED
    except Problem as problem:
        click.echo(problem.words(), err=True)
        return problem.code
    except click.Abort:
        return 130
    except BrokenPipeError:  # `refloat logs | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    return code if isinstance(code, int) else Exit.DONE


def _client() -> "Client":
    from refloat.cli.client import Client

    return Client.from_environment()


def _print_json(body: Any) -> None:
    click.echo(json.dumps(body, indent=2))


as_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON; one object a line when following."
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop following after this time (exit code 3).",
)
environment_argument = click.argument("environment")


@click.group(cls=Commands, name="refloat")
@click.version_option(package_name="refloat")
@click.pass_context
def main(context: click.Context) -> None:
    """Self-hosted deployment control plane: whole environments, rolled in order, no request lost.

    ENVIRONMENT is an id or a name. The server is REFLOAT_URL (default: this machine), the token
    REFLOAT_TOKEN (default: the admin token of the data directory).

    Exit codes: 0 done, 1 failed, 2 canceled, 3 timeout, 4 server unreachable, 64 wrong usage.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False


@main.command()
def serve() -> None:
    """Run the server in the foreground; settings are REFLOAT_* variables."""
    import asyncio

    from refloat.app import serve as run
    from refloat.domain.errors import Unavailable
    from refloat.settings import SettingError, load

    try:
        asyncio.run(run(load()))
    except (SettingError, Unavailable) as error:
        raise Problem(str(error)) from None


@main.command()
@environment_argument
@as_json_option
def status(environment: str, as_json: bool) -> None:
    """Show what is deployed, and whether it equals what is configured."""
    from refloat.cli import render
    from refloat.cli.lookup import find_environment

    client = _client()
    found = find_environment(client, environment)
    path = f"/environment/{found['id']}"
    body = client.get(f"{path}/statusesWithStages")
    if as_json:
        _print_json(body)
        return
    names = {it["id"]: it["name"] for it in client.get(f"{path}/services")["results"]}
    urls = {it["service_id"]: it["url"] for it in client.get(f"{path}/link")["results"]}
    click.echo(render.status(body, found, names, urls))


@main.command()
@environment_argument
@as_json_option
def plan(environment: str, as_json: bool) -> None:
    """Show what a redeploy would do now; nothing is done."""
    from refloat.cli import render
    from refloat.cli.lookup import find_environment

    client = _client()
    found = find_environment(client, environment)
    body = client.get(f"/refloat/environment/{found['id']}/plan")
    if as_json:
        _print_json(body)
    else:
        click.echo(render.plan(body, environment))


@main.command()
@environment_argument
@click.option(
    "--watch", is_flag=True, help="Follow the deployment to its end; the exit code says how it ended."
)
@click.option("--plan", "plan_hash", metavar="HASH", help="Only if the plan is still the one with this hash.")
@timeout_option
@as_json_option
def redeploy(
    environment: str, watch: bool, plan_hash: str | None, timeout: float | None, as_json: bool
) -> int:
    """Roll the whole environment, stage by stage."""
    from refloat.cli.lookup import find_environment
    from refloat.cli.watch import Watch

    if timeout and not watch:
        raise click.UsageError("--timeout needs --watch")
    client = _client()
    found = find_environment(client, environment)
    query = {"plan": plan_hash} if plan_hash else {}
    body = client.post(f"/environment/{found['id']}/redeploy", query=query)
    watching = Watch(client, found, body["deployment_request_id"], logs=False, as_json=as_json)
    if watch:
        return watching.run(timeout)
    if as_json:
        _print_json(body)
    else:
        click.echo(f"{found['name']} is {body['state']}; follow it: {watching.resume_command()}")
    return Exit.DONE


@main.command()
@environment_argument
@click.option(
    "--follow", is_flag=True, help="Go on to the deployment's end; the exit code says how it ended."
)
@click.option(
    "--version", metavar="ID", help="A deployment's request id or execution id. Default: the last one."
)
@timeout_option
@as_json_option
def logs(environment: str, follow: bool, version: str | None, timeout: float | None, as_json: bool) -> int:
    """Print the log of a deployment."""
    from refloat.cli import render
    from refloat.cli.lookup import find_environment

    if timeout and not follow:
        raise click.UsageError("--timeout needs --follow")
    client = _client()
    found = find_environment(client, environment)
    query = {"version": version} if version else {}
    if follow:
        return _follow_logs(client, found, query, timeout, as_json)
    lines = client.get(f"/environment/{found['id']}/logs", **query)
    for line in lines if not as_json else ():
        click.echo(render.log_line(line))
    if as_json:
        _print_json(lines)
    return Exit.DONE


def _follow_logs(
    client: "Client", environment: dict[str, Any], query: dict[str, str], timeout: float | None, as_json: bool
) -> int:
    from refloat.cli.watch import Watch

    journal = client.get(f"/refloat/environment/{environment['id']}/journal", **query)
    deployment_id = journal["deployment_request_id"]
    if deployment_id is None:
        raise Problem(
            f"{environment['name']} was never deployed", hint=f"refloat redeploy {environment['name']}"
        )
    return Watch(client, environment, deployment_id, logs=True, as_json=as_json).run(timeout)


@main.group(invoke_without_command=True)
@as_json_option
@click.pass_context
def token(context: click.Context, as_json: bool) -> None:
    """Print the admin token of this machine's installation."""
    if context.invoked_subcommand:
        return
    from refloat.cli.client import admin_token

    found = admin_token(os.environ)
    click.echo(json.dumps({"token": found}) if as_json else found)


ROLES = ("viewer", "deployer", "manager", "admin")


@token.command("create")
@click.argument("name")
@click.option("--organization", required=True, metavar="ID", help="What the token may reach.")
@click.option("--role", type=click.Choice(ROLES), default="deployer", show_default=True)
@as_json_option
def create_token(name: str, organization: str, role: str, as_json: bool) -> None:
    """Make an API token and print it; it cannot be read again."""
    client = _client()
    roles = client.get(f"/organization/{organization}/availableRole")["results"]
    role_id = next(it["id"] for it in roles if it["name"].lower() == role)
    made = client.post(f"/organization/{organization}/apiToken", {"name": name, "role_id": role_id})
    if as_json:
        _print_json(made)
    else:
        click.echo(made["token"])
