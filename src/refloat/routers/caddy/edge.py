"""The router port on Caddy: addresses, switches, questions and counts for the services of one node."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from refloat.domain.errors import Invalid, NotFound, Unavailable
from refloat.routers.base import Address, Answer, Counts, Domain, Serving
from refloat.routers.caddy import traffic
from refloat.routers.caddy.addresses import (
    check_public,
    checked_host,
    first_layout,
    public_addresses,
    with_free_ports,
)
from refloat.routers.caddy.binary import CaddyBinary, find_caddy
from refloat.routers.caddy.canary import prove
from refloat.routers.caddy.config import ASK_HEADER, ENDPOINT_HEADER, ERROR_HEADER, UPSTREAMS, Edge
from refloat.routers.caddy.exchange import Reply, get
from refloat.routers.caddy.layout import Layout, NoRoom
from refloat.routers.caddy.places import Places, load_secret
from refloat.routers.caddy.processes import IDS, Processes, other
from refloat.routers.caddy.sockets import can_listen, free_ports, parse_endpoint, wait_until_idle
from refloat.routers.caddy.tls import Tls
from refloat.routers.caddy.trust import Trust
from refloat.supervisor.base import Supervisor
from refloat.supervisor.cancellation import to_the_end
from refloat.supervisor.turns import turn

_CONTROL_SECONDS = 2.0
_START_ATTEMPTS = 3
_REPLACED_SECONDS = 5.0
"""What an edge that cannot be relieved on the same port gets to finish its requests."""


class CaddyRouter:
    """One Caddy in front of the node's services; it goes on serving while we are down.

    `domain` decides where the public port listens: on loopback alone while it is `localhost`, else on
    every address. `spare_slots` is how many services, and as many hosts, can be added before a second
    process has to take over with a larger configuration. `hold_seconds` is how long a request to an
    endpoint that refuses connections is held and tried again; 0 answers 502 at once. `caddy` is the
    value of REFLOAT_CADDY. `log_megabytes` is the size at which the access log is rotated; five are kept.
    With `tls` the public port is the one it names, and `http_port` leads there; `certificate_seconds` is
    how long a question waits for a certificate that has to be made.
    """

    def __init__(
        self,
        node_dir: Path,
        supervisor: Supervisor,
        *,
        http_port: int,
        domain: str,
        spare_slots: int = 32,
        hold_seconds: float = 2.0,
        caddy: str | None = None,
        log_megabytes: int = 16,
        tls: Tls | None = None,
        certificate_seconds: float = 30.0,
    ) -> None:
        root = node_dir.absolute() / "edge"
        self._http_port = http_port
        self._tls = tls
        self._certificate_seconds = certificate_seconds
        self._spare = max(1, spare_slots)
        self._caddy = caddy
        self._edge = Edge(
            root=root,
            listen=public_addresses(domain, http_port),
            tls_listen=public_addresses(domain, tls.port) if tls else (),
            tls=tls,
            secret=load_secret(root),
            hold_seconds=hold_seconds,
            log_megabytes=log_megabytes,
        )
        self._trust = Trust(tls, self._edge.storage) if tls else None
        self._places = Places(self._edge)
        self._processes = Processes(self._edge, supervisor)
        self._logs = tuple(self._edge.process_dir(process) for process in IDS)
        self._binary: CaddyBinary | None = None
        self._layout: Layout | None = None
        self._stamp = (0, 0)
        self._lock = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        async with self._alone():
            binary, stored = await self._found(), self._places.load()
            if stored and await self._processes.adopt(stored, binary):
                self._layout = stored
            elif stored and await self._processes.can_take_over(stored, binary):
                await self._hand_over(stored, binary)
            else:
                await self._start_afresh(stored, binary)
            await self._retire(other(self._current.active))
            await prove(self)

    async def reserve(self, service_id: str, hosts: tuple[str, ...]) -> Address:
        hosts = tuple(dict.fromkeys(checked_host(host) for host in hosts))
        if not service_id or not service_id.isprintable():
            raise Invalid(f"{service_id!r} is not the id of a service")
        layout = self._known(service_id, hosts)
        if layout is None:
            async with self._alone():
                layout = await self._with_room(service_id, hosts)
                self._store(layout)
        slot = layout.slots[self._slot(service_id)]
        return Address(
            internal=f"127.0.0.1:{slot.port}",
            hosts=hosts,
            url=self._url(hosts[0]) if hosts else "",
            domain_urls=tuple(self._url(domain.name) for domain in slot.domains),
        )

    async def attach(self, service_id: str, domains: tuple[Domain, ...]) -> None:
        domains = tuple(msgspec.structs.replace(each, name=checked_host(each.name)) for each in domains)
        async with self._alone():
            hosts = self._current.slots[self._slot(service_id)].hosts
            self._store(await self._with_room(service_id, hosts, domains))

    async def switch(self, service_id: str, revision_key: str, endpoints: tuple[str, ...]) -> None:
        slot = self._slot(service_id)
        for endpoint in endpoints:
            parse_endpoint(endpoint)
        if len(endpoints) > UPSTREAMS:
            raise Invalid(f"{service_id} has {len(endpoints)} endpoints; the edge takes {UPSTREAMS} at most")
        wanted = Serving(revision_key=revision_key, endpoints=endpoints) if endpoints else None
        if self._places.serving(slot) != wanted:
            self._places.switch(slot, revision_key, endpoints)

    async def serving(self, service_id: str) -> Serving | None:
        slot = self._current.slot_of(service_id)
        return None if slot is None else self._places.serving(slot)

    async def ask(self, service_id: str, path: str, timeout: float) -> Answer:
        slot = self._current.slots[self._slot(service_id)]
        if slot.hosts:
            host = slot.hosts[0]
            reply = await self._publicly(host, path, timeout)
        else:
            host = f"127.0.0.1:{slot.port}"
            reply = await get(slot.port, path, self._asking(host), timeout)
        endpoint = reply.headers.get(ENDPOINT_HEADER.lower(), "")
        reason = reply.reason or reply.headers.get(ERROR_HEADER.lower(), "")
        if reply.status and not endpoint and not reason:
            reason = f"no route leads from {host} to a service"
        return Answer(status=reply.status, endpoint=endpoint, reason=reason)

    async def drain(self, endpoints: tuple[str, ...], deadline_seconds: float) -> int:
        if not endpoints:
            return 0
        return await wait_until_idle(endpoints, await self._processes.pids(), deadline_seconds)

    async def mark(self, service_id: str) -> str:
        await self._flush()
        return traffic.mark(self._logs)

    async def counts(self, service_id: str, since: str) -> Counts | None:
        return await traffic.count(self._logs, since, service_id, await self._flush())

    async def forget(self, service_id: str) -> None:
        async with self._alone():
            self._store(self._current.without_service(service_id))

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """No other task, and no other server on this node directory, changes the layout meanwhile."""
        async with self._lock:
            ours = turn(self._edge.root / "turn")
            await to_the_end(asyncio.to_thread(ours.__enter__))
            try:
                yield
            finally:
                ours.__exit__(None, None, None)

    @property
    def _current(self) -> Layout:
        """As it is stored: another server on this node directory may have changed it."""
        if (stamp := self._places.stamp()) != self._stamp:
            self._layout, self._stamp = self._places.load(), stamp
        if self._layout is None:
            raise Unavailable("the edge has not been started")
        return self._layout

    def _known(self, service_id: str, hosts: tuple[str, ...]) -> Layout | None:
        """The layout if the service has these hosts in it already."""
        with contextlib.suppress(NoRoom):
            current = self._current
            return current if current.with_service(service_id, hosts) == current else None
        return None

    def _store(self, layout: Layout) -> None:
        if layout != self._current:
            self._places.apply(layout, self._current)
            self._places.save(layout)
            self._layout, self._stamp = layout, self._places.stamp()

    def _slot(self, service_id: str) -> int:
        slot = self._current.slot_of(service_id)
        if slot is None:
            raise NotFound(f"the edge has no address for {service_id}")
        return slot

    async def _publicly(self, host: str, path: str, timeout: float) -> Reply:
        """As everybody asks who has this name, except that the name is not looked up."""
        if self._tls is None or self._trust is None:
            return await get(self._http_port, path, self._asking(host), timeout)
        try:
            secure = self._trust.of(host)
        except OSError as error:
            return Reply(reason=f"the root of the edge's own issuer cannot be read: {error.strerror}")
        headers, patience = self._asking(host), self._certificate_seconds
        reply = await get(self._tls.port, path, headers, timeout, secure, patience)
        if reply.uncertified and (why := self._processes.why_uncertified(self._current.active, host)):
            return msgspec.structs.replace(reply, reason=f"{reply.reason}: {why}")
        return reply

    def _asking(self, host: str) -> dict[str, str]:
        return {"Host": host, ASK_HEADER: self._edge.secret}

    def _url(self, host: str) -> str:
        scheme, port, usual = ("https", self._tls.port, 443) if self._tls else ("http", self._http_port, 80)
        return f"{scheme}://{host}" + ("" if port == usual else f":{port}")

    async def _flush(self) -> frozenset[str]:
        """Have every process write a mark into its log, after the lines of what it answered before.

        Caddy writes a line before the last bytes of its response, unless these were streamed; the mark
        is written by a later request, so it comes after those as well.
        """
        texts = {process: f"/{secrets.token_hex(8)}" for process in IDS}
        written = set()
        for process, text in texts.items():
            if await self._processes.live(process):
                port = self._current.control_ports[process]
                reply = await get(port, text, {"Host": "control"}, _CONTROL_SECONDS)
                written |= {text} if reply.status == 204 else set()
        return frozenset(written)

    async def _with_room(
        self, service_id: str, hosts: tuple[str, ...], domains: tuple[Domain, ...] | None = None
    ) -> Layout:
        """The layout with the service in it, after a hand-over when the present one is full."""
        try:
            return self._current.with_service(service_id, hosts, domains)
        except NoRoom:
            needed = max(self._spare, len(hosts) + len(domains or ()))
            await self._hand_over(self._current, await self._found(), needed)
            return self._current.with_service(service_id, hosts, domains)

    async def _found(self) -> CaddyBinary:
        if self._binary is None:
            self._binary = await asyncio.to_thread(find_caddy, self._caddy)
        return self._binary

    async def _start_afresh(self, stored: Layout | None, binary: CaddyBinary) -> None:
        """Start where nothing of ours runs. A port that was free may be taken a moment later."""
        for process in IDS:
            await self._processes.stop(process, _REPLACED_SECONDS)
        check_public(self._edge.listen, "REFLOAT_HTTP_PORT", binary.path)
        check_public(self._edge.tls_listen, "REFLOAT_HTTPS_PORT", binary.path)
        for attempts_left in reversed(range(_START_ATTEMPTS)):
            with self._free_ports(stored) as fresh:
                layout = with_free_ports(stored, fresh) if stored else first_layout(fresh)
                layout = layout.grown(self._spare, fresh)
                self._places.apply(layout, stored)
                self._places.save(layout)
                try:
                    await self._processes.launch(layout, binary)
                    break
                except Unavailable:
                    if not attempts_left or not _is_taken(layout):
                        raise
                    stored = layout
        self._layout = layout
        self._places.forget_generations(layout)

    async def _hand_over(self, layout: Layout, binary: CaddyBinary, spare: int | None = None) -> None:
        """Let a second process with a new configuration take over; the first is left to finish."""
        had = await self._processes.ports(layout.active)
        if self._http_port not in had:
            check_public(self._edge.listen, "REFLOAT_HTTP_PORT", binary.path)
        if self._tls and self._tls.port not in had:
            check_public(self._edge.tls_listen, "REFLOAT_HTTPS_PORT", binary.path)
        with self._free_ports(layout) as fresh:
            process = other(layout.active)
            ports = {**layout.control_ports, process: next(fresh)}
            layout = msgspec.structs.replace(layout, control_ports=ports)
            self._places.save(layout)  # should we die: the next one asks there whether it still listens
            next_layout = layout.grown(spare or self._spare, fresh)
            next_layout = msgspec.structs.replace(next_layout, active=process)
            self._places.apply(next_layout, layout)
            await self._processes.launch(next_layout, binary)
        self._places.save(next_layout)
        self._layout = next_layout
        await self._retire(layout.active)

    async def _retire(self, process: str) -> None:
        """Ask a process to end; returns when it accepts no more, and leaves it to finish what it has."""
        if await self._processes.live(process) is None:
            return
        task = asyncio.create_task(self._end(process))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        await self._processes.until_it_refuses(self._current.control_ports[process])

    async def _end(self, process: str) -> None:
        await self._processes.stop(process)
        with contextlib.suppress(Unavailable):
            self._places.forget_generations(self._current)

    def _free_ports(self, layout: Layout | None) -> contextlib.AbstractContextManager[Iterator[int]]:
        slots, control = (layout.slots, layout.control_ports) if layout else ((), {})
        public = [self._http_port, *([self._tls.port] if self._tls else [])]
        return free_ports([*public, *(slot.port for slot in slots), *control.values()])


def _is_taken(layout: Layout) -> bool:
    """Whether another process listens on a port of ours, none of which is in use by us."""
    ports = [*layout.control_ports.values(), *(slot.port for slot in layout.slots)]
    return any(can_listen("127.0.0.1", port) for port in ports)
