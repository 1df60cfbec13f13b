"""Where the edge listens, and what may be a host: decided before Caddy is started, so that it can start."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from refloat.domain.errors import Invalid, Unavailable
from refloat.routers.caddy.layout import CANARY, CANARY_HOST, Entry, Layout, Slot
from refloat.routers.caddy.sockets import can_listen

_LABEL = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")


def public_addresses(domain: str, port: int) -> tuple[str, ...]:
    """Loopback alone while the domain is `localhost` or below it, else every address of the machine."""
    if domain != "localhost" and not domain.endswith(".localhost"):
        return (f":{port}",)
    interfaces = Path("/proc/net/if_inet6")
    has_ipv6 = interfaces.exists() and f"{1:032x}" in interfaces.read_text()
    return (f"127.0.0.1:{port}", *([f"[::1]:{port}"] if has_ipv6 else []))


def check_public(listen: Iterable[str], setting: str) -> None:
    """Raises Unavailable, naming the setting, when one of the addresses is not to be had.

    Caddy itself would not notice another program of the same user that shares its port.
    """
    for address in listen:
        host, _, port = address.rpartition(":")
        why = can_listen(host.strip("[]") or "0.0.0.0", int(port))
        if why:
            raise Unavailable(
                f"the edge cannot listen on port {port} of {host or 'this machine'}: {why}",
                hint=f"stop what listens there, or set {setting} to a free port",
            )


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
