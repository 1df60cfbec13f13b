"""Which earlier deployment a rollback means."""

from typing import Any, NamedTuple

from refloat.cli.client import Client, Json
from refloat.cli.lookup import execution_of
from refloat.cli.problems import Problem

_LOOKED_AT = 20
"""How many earlier deployments are compared with what is there."""


class Way(NamedTuple):
    """The deployment to go back to, as the API names it and in words, and the plan of going there."""

    to: str
    told: str
    plan: Json


def way_back(server: Client, environment: Json, to: str | None) -> Way:
    """The way to the named deployment, else to the last one that ended well and was otherwise.

    After a deployment that failed it is the last one that ended well, which may be what serves already.
    """
    if to:
        return _way(server, environment, execution_of(environment, to), "")
    history = server.get(f"/environment/{environment['id']}/deploymentHistoryV2", pageSize=100)["results"]
    good = [it for it in history if it["status"] == "DEPLOYED"][:_LOOKED_AT]
    failed = bool(history) and history[0]["status"].endswith("ERROR")
    for item in good:
        way = _way(server, environment, item["identifier"]["execution_id"], _told(item))
        if failed or changes(way.plan):
            return way
    raise Problem(
        f"{environment['name']} has no earlier deployment that differs from what is there",
        hint=f"see what was done: refloat history {environment['name']}",
    )


def changes(plan: Json) -> bool:
    """Whether anything would be another than it is."""
    return any(it["change"] != "skip" for stage in plan["stages"] for it in stage["services"])


def _way(server: Client, environment: Json, to: str, told: str) -> Way:
    query: dict[str, Any] = {"action": "rollback", "to": to}
    return Way(to, told or to, server.get(f"/refloat/environment/{environment['id']}/plan", **query))


def _told(item: Json) -> str:
    by, number = item["auditing_data"], item["identifier"]["execution_id"].rpartition("-")[2]
    return f"{number}, of {by['created_at'][:19].replace('T', ' ')} UTC by {by['triggered_by']}"
