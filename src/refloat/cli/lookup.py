"""From what a person types to the environment they mean."""

import re
from collections.abc import Iterator

from refloat.cli.client import Client, Json
from refloat.cli.problems import Problem

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def find_environment(client: Client, name: str) -> Json:
    """The environment with this id, or else the only one with this name."""
    if _ID.fullmatch(name):
        return dict(client.get(f"/environment/{name}"))
    known = list(_environments(client))
    found = [(place, it) for place, it in known if it["name"] == name]
    if len(found) == 1:
        return found[0][1]
    if found:
        raise Problem(f"{name!r} means {len(found)} environments: {_listed(found)}", hint="use the id")
    hint = f"there is {_listed(known)}" if known else "there is no environment yet"
    raise Problem(f"no environment {name!r}", hint=hint)


def _environments(client: Client) -> Iterator[tuple[str, Json]]:
    for organization in client.get("/organization")["results"]:
        for project in client.get(f"/organization/{organization['id']}/project")["results"]:
            for environment in client.get(f"/project/{project['id']}/environment")["results"]:
                yield f"{organization['name']}/{project['name']}/{environment['name']}", environment


def _listed(places: list[tuple[str, Json]]) -> str:
    return ", ".join(f"{place} ({environment['id']})" for place, environment in places)
