"""What to do about the failures that everybody meets with a first application, and why nothing goes on."""

import contextlib

import click

from refloat.cli.client import Client, Json
from refloat.cli.problems import Problem

LISTEN = "the application must listen on 127.0.0.1:$PORT, which is another port for every version"
_ANSWERS = (
    "it must answer GET / with less than 500, or the path of its readiness probe; the lines above are its own"
)
_KNOWN = (
    ("nothing to run", "give the folder of the application by --root-path"),
    ("is not a folder of commit", "--root-path names a folder of the repository"),
    ("the build ended with exit code", "the lines above are of its build: mend what they say"),
    ("nothing listens on", LISTEN),
    ("through its public route: it answered", _ANSWERS),
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


def awaits_port(server: Client, deployment_id: str) -> bool:
    """Whether something was started that has not opened its port, or does not answer at it."""
    with contextlib.suppress(Problem):
        doing = server.get(f"/refloat/deployment/{deployment_id}/explain")["doing"]
        return any(it["step"] == "ready" for it in doing)
    return False


_WAITING = ("halted", "waits_for_node", "waits_for_room")


def waits_for(server: Client, deployment_id: str | None) -> str:
    """Why nothing of a deployment goes on; "" when it does, or when that cannot be told now."""
    with contextlib.suppress(Problem):
        body = server.get(f"/refloat/deployment/{deployment_id}/explain") if deployment_id else {}
        if body.get("situation") in _WAITING:
            return str(body["reason"])
    return ""
