"""Where the edge listens, and what may be a host: decided before Caddy is started, so that it can start."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from refloat.domain.errors import Invalid, Unavailable
from refloat.routers.caddy.layout import CANARY, CANARY_HOST, Entry, Layout, Slot
from refloat.routers.caddy.sockets import FORBIDDEN, TAKEN, can_listen, is_listened_on

_LABEL = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")


def public_addresses(domain: str, port: int) -> tuple[str, ...]:
    """Loopback alone while the domain is `localhost` or below it, else every address of the machine."""
    if domain != "localhost" and not domain.endswith(".localhost"):
        return (f":{port}",)
    interfaces = Path("/proc/net/if_inet6")
    has_ipv6 = interfaces.exists() and f"{1:032x}" in interfaces.read_text()
    return (f"127.0.0.1:{port}", *([f"[::1]:{port}"] if has_ipv6 else []))


def check_public(listen: Iterable[str], setting: str, caddy: str) -> None:
    """Raises Unavailable, naming the setting, when `caddy` cannot have one of the addresses.

    Caddy itself would not notice another program of the same user that shares its port.
    """
    for address in listen:
        host, _, port = address.rpartition(":")
        why, remedy = why_not_public(host.strip("[]") or "0.0.0.0", int(port), caddy)
        if why:
            raise Unavailable(
                f"the edge cannot listen on port {port} of {host or 'this machine'}: {why}",
                hint=f"{remedy}, or set {setting} to another port",
            )


def why_not_public(host: str, port: int, caddy: str) -> tuple[str, str]:
    """Why this Caddy cannot listen there, and what helps; two "" when it can.

    A port that we may not have ourselves is one that it may have by a right of its own.
    """
    why = can_listen(host, port)
    if why == FORBIDDEN and not _has_rights(caddy):
        return f"{why}, ports below 1024 need a right", f"`setcap cap_net_bind_service=+ep {caddy}` as root"
    if why == FORBIDDEN:
        why = TAKEN if is_listened_on(port) else ""
    return why, "stop what listens there" if why else ""


def _has_rights(program: str) -> bool:
    """Whether the file was given capabilities."""
    try:
        return bool(os.getxattr(program, "security.capability"))
    except OSError:
        return False


def checked_host(host: str) -> str:
    """In lower case; raises Invalid. A star or a placeholder would mean something else to Caddy."""
    if not _HOST.fullmatch(host.lower()):
        raise Invalid(f"{host!r} is not a host name")
    return host.lower()


def first_layout(fresh: Iterator[int]) -> Layout:
    """Nothing but the canary."""
    return Layout(
        control_ports={process: next(fresh) for process in ("a", "b")},
        slots=(Slot(port=next(fresh), service_id=CANARY, hosts=(CANARY_HOST,)),),
        entries=(Entry(host=CANARY_HOST, slot=0),),
    )


def with_free_ports(layout: Layout, fresh: Iterator[int]) -> Layout:
    """Other ports for what nobody was told of; a service's own that is taken cannot be mended here."""
    slots = []
    for slot in layout.slots:
        why = can_listen("127.0.0.1", slot.port)
        if why and slot.service_id not in ("", CANARY):
            raise Unavailable(
                f"the address 127.0.0.1:{slot.port} of service {slot.service_id} cannot be used: {why}",
                hint="end the process that listens there (`ss -tlnp`) and start again",
            )
        slots.append(msgspec.structs.replace(slot, port=next(fresh)) if why else slot)
    control = {process: next(fresh) for process in layout.control_ports}
    return msgspec.structs.replace(layout, slots=tuple(slots), control_ports=control)
