"""From what a person types to the thing they mean."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from refloat.cli.client import Client, Json
from refloat.cli.problems import Problem

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


_SHOWN = 10


class Place:
    """An environment with the names of what it is in."""

    def __init__(self, organization: Json, project: Json, environment: Json) -> None:
        self.organization, self.project, self.environment = organization, project, environment

    @property
    def path(self) -> str:
        return "/".join(it["name"] for it in (self.organization, self.project, self.environment))


def find_environment(client: Client, name: str | None) -> Json:
    """The environment with this id, or else the only one with this name, which may be `project/name`.

    Without a name it is the one that `refloat.cli.here` finds.
    """
    if name is None:
        from refloat.cli.here import environment_here

        return environment_here(client)
    if _ID.fullmatch(name):
        return dict(client.get(f"/environment/{name}"))
    known = list(places(client))
    found = [it for it in known if it.environment["name"] == name or f"/{it.path}".endswith(f"/{name}")]
    if len(found) == 1:
        return found[0].environment
    if found:
        raise Problem(f"{name!r} means {len(found)} environments: {_listed(found)}", hint="use the id")
    if not known:
        raise Problem(
            f"no environment {name!r}", hint="there is no environment yet: make one with `refloat up`"
        )
    raise Problem(f"no environment {name!r}", hint=f"there is {shown(short_names(known))}")


def execution_of(environment: Json, version: str) -> str:
    """How the API names the deployment; a number is one of this environment's, as its history tells it."""
    return f"{environment['id']}-{version}" if version.isdecimal() else version


def short_names(known: Sequence[Place]) -> list[str]:
    """Each as short as it can be typed."""
    times = Counter(it.environment["name"] for it in known)
    return [it.environment["name"] if times[it.environment["name"]] == 1 else it.path for it in known]


def shown(names: Sequence[str]) -> str:
    """As many as one looks at."""
    more = f" and {len(names) - _SHOWN} more (refloat env list)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def places(client: Client) -> Iterator[Place]:
    """Every environment that this token reaches."""
    for organization in client.get("/organization")["results"]:
        for project in client.get(f"/organization/{organization['id']}/project")["results"]:
            for environment in client.get(f"/project/{project['id']}/environment")["results"]:
                yield Place(organization, project, environment)


def find_services(client: Client, environment: Json, names: Sequence[str] = ()) -> list[Json]:
    """The services with these names or ids; all that are not skipped when none is named."""
    path = f"/environment/{environment['id']}"
    known = list(client.get(f"{path}/services")["results"])
    if not names:
        stages = client.get(f"{path}/deploymentStage")["results"]
        skipped = {s["service_id"] for stage in stages for s in stage["services"] if s["is_skipped"]}
        found = [it for it in known if it["id"] not in skipped]
        if not found:
            raise Problem(f"{environment['name']} has no service", hint="add one, or un-skip one")
        return found
    return [_one_of(known, name, environment) for name in dict.fromkeys(names)]


def _one_of(known: list[Json], name: str, environment: Json) -> Json:
    for service in known:
        if name.lower() in (service["id"], service["name"].lower()):
            return service
    there = ", ".join(it["name"] for it in known)
    hint = f"there is {there}" if known else "it has no services yet"
    raise Problem(f"{environment['name']} has no service {name!r}", hint=hint)


def ids_body(services: Sequence[Json]) -> Json:
    """How an action names services: a list of ids for each kind."""
    body: Json = {}
    for service in services:
        body.setdefault(f"{service['service_type'].lower()}_ids", []).append(service["id"])
    return body


def find_organization(client: Client, name: str | None) -> Json:
    """The organization with this id or name; without one the only one that there is."""
    known = client.get("/organization")["results"]
    found = [it for it in known if name in (None, it["id"], it["name"])]
    if len(found) == 1:
        return dict(found[0])
    there = ", ".join(f"{it['name']} ({it['id']})" for it in known) or "none that this token reaches"
    why = "which organization?" if name is None else f"no organization {name!r}"
    raise Problem(why, hint=f"there is {there}; name one by --organization")


def find_project(client: Client, name: str) -> Json:
    """The project with this id, or else the only one with this name."""
    projects = [
        project
        for organization in client.get("/organization")["results"]
        for project in client.get(f"/organization/{organization['id']}/project")["results"]
    ]
    found = [it for it in projects if name in (it["id"], it["name"])]
    if len(found) == 1:
        return dict(found[0])
    there = ", ".join(f"{it['name']} ({it['id']})" for it in projects)
    if found:
        raise Problem(f"{name!r} means {len(found)} projects: {there}", hint="use the id")
    raise Problem(f"no project {name!r}", hint=f"there is {there}" if projects else "there is no project yet")


def find_cluster(client: Client, organization_id: str, name: str) -> Json:
    """The cluster of the organization with this id or name."""
    clusters = client.get(f"/organization/{organization_id}/cluster")["results"]
    for cluster in clusters:
        if name in (cluster["id"], cluster["name"]):
            return dict(cluster)
    raise Problem(f"no cluster {name!r}", hint=f"there is {', '.join(it['name'] for it in clusters)}")


def _listed(found: list[Place]) -> str:
    return ", ".join(f"{it.path} ({it.environment['id']})" for it in found)
