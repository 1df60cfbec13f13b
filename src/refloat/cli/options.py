"""What many commands share: their options, and following the deployment that they asked for."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from refloat.cli.problems import Exit

if TYPE_CHECKING:
    from refloat.cli.client import Client

as_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON; one object a line when following."
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop following after this time (exit code 3).",
)
watch_option = click.option(
    "--watch", is_flag=True, help="Follow the deployment to its end; the exit code says how it ended."
)
to_option = click.option(
    "--to",
    metavar="EXECUTION",
    help="The deployment to go back to: its number in `refloat history`, or one of its ids. Default: the last"
    " one that ended well and was otherwise.",
)
environment_argument = click.argument("environment")
meant_environment_argument = click.argument("environment", required=False)
"""Without it: the only environment, or the one of this folder (`refloat.cli.here`)."""
version_option = click.option(
    "--version",
    metavar="DEPLOYMENT",
    help="The number of a deployment, as `refloat history` tells it, or its id. Default: the last one.",
)
plan_option = click.option("--plan", "only_plan", is_flag=True, help="Show what would be done; do nothing.")
if_plan_option = click.option(
    "--if-plan", "plan_hash", metavar="HASH", help="Only if the plan is still the one with this hash."
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def client() -> "Client":
    """The server that this shell means."""
    from refloat.cli.client import Client

    return Client.from_environment()


def print_json(body: Any) -> None:
    click.echo(json.dumps(body, indent=2))


def ask(question: str, *, yes: bool) -> None:
    """Go on only after a yes; without a terminal to ask on it must have been given as --yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can be asked here: say --yes.")
    click.confirm(question, abort=True)


def accepted(
    server: "Client",
    environment: dict[str, Any],
    *,
    watch: bool,
    timeout: float | None,
    as_json: bool,
    body: dict[str, Any] | None = None,
) -> int:
    """Tell of the deployment that was just asked for, or follow it to its end.

    `body` is the environment's status as the action answered it; without it the status is read, which
    shows what was accepted last.
    """
    from refloat.cli.watch import Watch

    status = body or server.get(f"/environment/{environment['id']}/status")
    watching = Watch(server, environment, status["deployment_request_id"], logs=False, as_json=as_json)
    if watch:
        return watching.run(timeout)
    if as_json:
        print_json(status)
    else:
        click.echo(f"{environment['name']} is {status['state']}; follow it: {watching.resume_command()}")
    return Exit.DONE


def check_plan(only_plan: bool, *others: object) -> None:
    """Who reads a plan has nothing to follow or to insist on."""
    if only_plan and any(others):
        raise click.UsageError(
            "--plan shows the plan and does nothing; it goes with no option of a deployment"
        )


def check_timeout(timeout: float | None, *, follows: bool, option: str = "--watch") -> None:
    """A timeout only means something while following."""
    if timeout and not follows:
        raise click.UsageError(f"--timeout needs {option}")
