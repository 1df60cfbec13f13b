"""Host names of services: `<service>-<short environment id>`, one DNS label below the domain."""

import re
from collections.abc import Mapping

from refloat.domain.ids import short

_LONGEST_LABEL = 63
_FALLBACK = "service"


def slug(name: str, room: int) -> str:
    """The name as part of a DNS label: lower-case letters, digits and inner hyphens, at most `room` long."""
    text = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")
    return text[:room].strip("-") or _FALLBACK


def host_names(environment_id: str, names: Mapping[str, str], domain: str) -> dict[str, str]:
    """One host for each service id; no two services of an environment ever share one.

    Of two names that read the same the older service keeps the plain host, so that a newcomer moves
    nobody. Every other one, and a name that had to be shortened, carries the service's short id.
    """
    suffix = f"-{short(environment_id)}"
    room = _LONGEST_LABEL - len(suffix)
    marked = {i: f"{slug(name, room - 9)}-{short(i)}" for i, name in names.items()}
    taken = set(marked.values())
    hosts = {}
    for service_id in sorted(names):
        plain = slug(names[service_id], room)
        if plain in taken or plain != slug(names[service_id], 10_000):
            plain = marked[service_id]
        taken.add(plain)
        hosts[service_id] = f"{plain}{suffix}.{domain}"
    return hosts
