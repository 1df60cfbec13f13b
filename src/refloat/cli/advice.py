"""What to do about the failures that everybody meets with a first application, and why nothing goes on."""

import contextlib

import click

from refloat.cli.client import Client, Json
from refloat.cli.problems import Problem

LISTEN = "the application must listen on 127.0.0.1:$PORT, which is another port for every version"
_KNOWN = (
    ("the build ended with exit code", "the lines above are of its build: mend what they say"),
    ("nothing listens on", LISTEN),
    ("No module named", "add what it imports to requirements.txt or pyproject.toml"),
    ("ended with exit code", "the lines above are its own; try it by hand with PORT=9000 in its environment"),
)
"""Words of a reason or of the application itself; the first that is found counts."""


def explain(server: Client, environment: Json, deployment_id: str) -> None:
    """One hint on stderr, if the deployment failed in one of these ways."""
    lines = server.get(f"/environment/{environment['id']}/logs", version=deployment_id)
    text = "\n".join(line["message"]["safe_message"] for line in lines)
    for words, hint in _KNOWN:
        if words in text:
            click.echo(f"  hint: {hint}; then `refloat up` again", err=True)
            return


_WAITING = ("halted", "waits_for_node", "waits_for_room")


def waits_for(server: Client, deployment_id: str | None) -> str:
    """Why nothing of a deployment goes on; "" when it does, or when that cannot be told now."""
    with contextlib.suppress(Problem):
        body = server.get(f"/refloat/deployment/{deployment_id}/explain") if deployment_id else {}
        if body.get("situation") in _WAITING:
            return str(body["reason"])
    return ""
