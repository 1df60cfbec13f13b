"""Who has which address at the edge: slots with stable ports, host names, and which of them are spare.

Pure values: a change is a new layout. A *slot* is one service's stable port and upstream files. A
*host entry* leads one host name to a slot. The configuration names every slot and every entry, used
or not, so that a new service or host needs files only. An entry that was in use when the configuration
was written is *static*: matched by its literal name, and tied to it until the next configuration. The
others are compared with a file, one after the other, which costs about 8 µs each; lower ones go first.
"""

from collections.abc import Iterable, Iterator

import msgspec

from refloat.domain.errors import Conflict
from refloat.domain.hosts import OWN_ZONE
from refloat.routers.base import Domain

CANARY = "refloat-canary"
CANARY_HOST = f"canary.{OWN_ZONE}"


class NoRoom(Exception):
    """No spare slot or host entry is left: a larger configuration is needed."""


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One stable loopback port. `released` orders free slots: the longest free is given out first,
    since a peer that was not told of the end of a service may still hold its address."""

    port: int
    service_id: str = ""
    hosts: tuple[str, ...] = ()
    domains: tuple[Domain, ...] = ()
    released: int = 0


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One host name; `slot` is -1 while it leads nowhere. A free static entry keeps its name.
    A `plain` one is served over HTTP: somebody else has its certificate."""

    host: str = ""
    slot: int = -1
    plain: bool = False
    static: bool = False


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the edge's configuration is made from, as kept in `slots.json`.

    `active` is the process ("a" or "b") that serves; `control_ports` are their private loopback ports.
    Entries are numbered anew in each `generation`, slots never.
    """

    version: int = 1
    active: str = "a"
    generation: int = 0
    control_ports: dict[str, int]
    releases: int = 0
    slots: tuple[Slot, ...] = ()
    entries: tuple[Entry, ...] = ()

    def slot_of(self, service_id: str) -> int | None:
        """The number of a service's slot."""
        return next((n for n, slot in enumerate(self.slots) if slot.service_id == service_id), None)

    def grown(self, spare: int, ports: Iterator[int]) -> "Layout":
        """For a new configuration: hosts in use become static, and `spare` slots and entries are free."""
        used = [msgspec.structs.replace(entry, static=True) for entry in self.entries if entry.slot >= 0]
        missing = spare - sum(not slot.service_id for slot in self.slots)
        added = tuple(Slot(port=next(ports)) for _ in range(missing))
        entries = (*used, *(Entry() for _ in range(spare)))
        return msgspec.structs.replace(
            self, generation=self.generation + 1, slots=self.slots + added, entries=entries
        )

    def with_service(
        self, service_id: str, hosts: tuple[str, ...], domains: tuple[Domain, ...] | None = None
    ) -> "Layout":
        """The service has a slot and exactly these hosts; itself when nothing changes. Its domains are
        these, or, without any given, those it has.

        Raises Conflict when a host is another service's, NoRoom when the configuration is full.
        """
        number = self.slot_of(service_id)
        slots = list(self.slots)
        if number is None:
            number = _longest_free(self.slots)
        domains = slots[number].domains if domains is None else domains
        slots[number] = msgspec.structs.replace(
            slots[number], service_id=service_id, hosts=hosts, domains=domains
        )
        plain = {**{domain.name: not domain.certificate for domain in domains}, **dict.fromkeys(hosts, False)}
        entries = [_released(e) if e.slot == number and e.host not in plain else e for e in self.entries]
        for host in (*hosts, *(domain.name for domain in domains)):
            _assign(entries, Entry(host=host, slot=number, plain=plain[host]))
        return msgspec.structs.replace(self, slots=tuple(slots), entries=tuple(entries))

    def without_service(self, service_id: str) -> "Layout":
        """Slot and hosts of the service are free; itself when it has none."""
        number = self.slot_of(service_id)
        if number is None:
            return self
        slots = list(self.slots)
        slots[number] = Slot(port=slots[number].port, released=self.releases + 1)
        entries = tuple(_released(entry) if entry.slot == number else entry for entry in self.entries)
        return msgspec.structs.replace(self, slots=tuple(slots), entries=entries, releases=self.releases + 1)


def _longest_free(slots: Iterable[Slot]) -> int:
    free = [(slot.released, number) for number, slot in enumerate(slots) if not slot.service_id]
    if not free:
        raise NoRoom
    return min(free)[1]


def _released(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, slot=-1, plain=False) if entry.static else Entry()


def _assign(entries: list[Entry], wanted: Entry) -> None:
    for number, entry in enumerate(entries):
        if entry.host == wanted.host and entry.slot not in (-1, wanted.slot):
            raise Conflict(f"the host {wanted.host} already belongs to another service")
        if entry.host == wanted.host:
            entries[number] = msgspec.structs.replace(wanted, static=entry.static)
            return
    for number, entry in enumerate(entries):
        if not entry.host:
            entries[number] = wanted
            return
    raise NoRoom
