"""`refloat job`: run a job at once, and what its schedule has run."""

from typing import Any

import click

from refloat.cli.options import (
    accepted,
    as_json_option,
    check_timeout,
    client,
    environment_argument,
    print_json,
    timeout_option,
    watch_option,
)
from refloat.cli.problems import Problem

EVENTS = ("CRON", "START", "STOP", "DELETE")
job_argument = click.argument("name", metavar="JOB")


@click.group()
def job() -> None:
    """Run a job at once, and list the runs of its schedule."""


@job.command("run")
@environment_argument
@job_argument
@click.option(
    "--event",
    type=click.Choice(EVENTS, case_sensitive=False),
    help="Whose command is run. Default: CRON of a job by the clock, else START.",
)
@watch_option
@timeout_option
@as_json_option
def run(
    environment: str, name: str, event: str | None, watch: bool, timeout: float | None, as_json: bool
) -> int:
    """Deploy JOB and run its command now. Once each time this is asked for, whatever its schedule says."""
    from refloat.cli.lookup import find_environment

    check_timeout(timeout, follows=watch)
    server = client()
    found = find_environment(server, environment)
    path = f"/job/{_find(server, found, name)}"
    query = {"forceEvent": event or ("CRON" if "cronjob" in server.get(path)["schedule"] else "START")}
    server.post(f"{path}/redeploy", query=query)
    return accepted(server, found, watch=watch, timeout=timeout, as_json=as_json)


@job.command("runs")
@environment_argument
@job_argument
@as_json_option
def runs(environment: str, name: str, as_json: bool) -> None:
    """List the last runs that the schedule of JOB began, newest first, and the last lines of the newest."""
    from refloat.cli import render
    from refloat.cli.lookup import find_environment

    server = client()
    found = find_environment(server, environment)
    body = server.get(f"/refloat/service/{_find(server, found, name)}/runs")
    if as_json:
        print_json(body)
    else:
        click.echo(render.runs(body["results"]))


def _find(server: Any, environment: dict[str, Any], name: str) -> str:
    from refloat.cli.lookup import find_services

    (service,) = find_services(server, environment, [name])
    if service["service_type"] != "JOB":
        raise Problem(f"{name} is no job but a {service['service_type'].lower()}", hint="name a job")
    return str(service["id"])


COMMANDS = (job,)
