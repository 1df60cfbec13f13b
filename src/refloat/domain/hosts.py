"""Host names of services: `<service>-<short environment id>`, one DNS label below the domain."""

import re
from collections import Counter
from collections.abc import Mapping

from refloat.domain.ids import short

_LONGEST_LABEL = 63
_FALLBACK = "service"


def slug(name: str, room: int) -> str:
    """The name as part of a DNS label: lower-case letters, digits and inner hyphens, at most `room` long."""
    text = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")
    return text[:room].strip("-") or _FALLBACK


def host_names(environment_id: str, names: Mapping[str, str], domain: str) -> dict[str, str]:
    """One host for each service id. Equal or shortened names are told apart by the service's short id,
    so no two services of an environment ever share a host."""
    suffix = f"-{short(environment_id)}"
    room = _LONGEST_LABEL - len(suffix)
    slugs = {service_id: slug(name, room) for service_id, name in names.items()}
    shared = Counter(slugs.values())
    hosts = {}
    for service_id, name in names.items():
        label = slugs[service_id]
        if shared[label] > 1 or label != slug(name, 10_000):
            label = f"{slug(name, room - 9)}-{short(service_id)}"
        hosts[service_id] = f"{label}{suffix}.{domain}"
    return hosts
