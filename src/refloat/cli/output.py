"""What an application or a database prints while it runs, once or on and on."""

import json
import time
from collections.abc import Iterator
from typing import NoReturn

import click

from refloat.cli.client import Client, Json
from refloat.cli.options import print_json
from refloat.cli.problems import Exit, Problem, Unreachable

_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0
"""How long a lost server is asked again."""
_MOST = 1000
"""Lines that the server gives at a time."""
_PATHS = {
    "APPLICATION": "/application/{}/log",
    "CONTAINER": "/container/{}/log",
    "DATABASE": "/refloat/database/{}/log",
}
_OF_A_JOB = (
    "`refloat logs` without --service tells its last deployment, `refloat job runs` what its schedule ran"
)


def tell(client: Client, service: Json, *, follow: bool, timeout: float | None, as_json: bool) -> Exit:
    """Print the lines; with `follow` those to come too, of later versions as well, until interrupted."""
    kind = service["service_type"]
    if kind not in _PATHS:
        raise Problem(f"{service['name']} is a {kind.lower()}: it prints only when it runs", hint=_OF_A_JOB)
    path = _PATHS[kind].format(service["id"])
    if follow:
        _follow(client, path, timeout, as_json=as_json)
    lines = client.get(path)["results"]
    if as_json:
        print_json(lines)
    else:
        _say(lines, as_json=False)
    return Exit.DONE


def _follow(client: Client, path: str, timeout: float | None, *, as_json: bool) -> NoReturn:
    """Each line once. As many as are read at a time may have come since the last time, and more."""
    deadline = time.monotonic() + timeout if timeout else float("inf")
    seen: set[str] = set()
    for lines in _read_on(client, path, deadline):
        there = {line["id"] for line in lines}
        if seen and len(lines) >= _MOST and not seen & there:
            click.echo("refloat: it prints faster than it is read; lines are missing here", err=True)
        _say([line for line in lines if line["id"] not in seen], as_json=as_json)
        seen = there
    raise AssertionError("it is read on until that raises")


def _say(lines: list[Json], *, as_json: bool) -> None:
    for line in lines:
        click.echo(json.dumps(line) if as_json else f"{line['created_at'][11:23]}  {line['message']}")


def _read_on(client: Client, path: str, deadline: float) -> Iterator[list[Json]]:
    """What there is, again and again; a server that is away for a moment is waited for."""
    heard = time.monotonic()
    while True:
        if time.monotonic() >= deadline:
            raise Problem("the time given by --timeout is over", code=Exit.TIMEOUT)
        try:
            lines = client.get(path)["results"]
        except Unreachable as error:
            if time.monotonic() - heard > _PATIENCE_SECONDS:
                raise error
        else:
            heard = time.monotonic()
            yield lines
        time.sleep(_LOOK_SECONDS)
