"""Host names of services: `<service>-<short environment id>`, one DNS label below the domain."""

import re
from collections.abc import Mapping

from refloat.domain.ids import short

OWN_ZONE = "refloat.internal"
"""Names below it are for the edge's own use."""
_LONGEST_LABEL = 63
_FALLBACK = "service"
_DOMAIN = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+(?![0-9]+$)[a-z0-9-]{2,63}")


def domain_name(text: str) -> str:
    """The domain as it is compared: in lower case, without the final dot; "" for what is not one. A single
    label, an address or a wildcard is none, and one with other letters is written in its `xn--` form."""
    name = text.strip().lower().removesuffix(".")
    return name if _DOMAIN.fullmatch(name) else ""


def is_below(name: str, domain: str) -> bool:
    """Whether a name is the domain or below it."""
    return name == domain or name.endswith(f".{domain}")


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
