"""Guarantees of the router port. What every router keeps is asked of each; the rest is shown on real
sockets, with clients that open a connection once and never retry."""

import asyncio
import contextlib
import functools
import itertools
import json
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from routers_support import (
    Application,
    Client,
    Load,
    edge,
    internal_tls,
    make_router,
    pid_of,
    port_of,
    until,
)
from tests.databases import free_port

from refloat.clock import SystemClock
from refloat.domain.errors import Conflict, Invalid, NotFound, Unavailable
from refloat.routers.base import Address, Counts, Domain, Router
from refloat.routers.caddy import CaddyRouter, Tls, sockets
from refloat.routers.caddy.layout import CANARY_HOST
from refloat.routers.caddy.processes import ACCOUNT, Processes
from refloat.routers.publishing import API, publish
from refloat.simulated.router import SimulatedRouter
from refloat.simulated.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = os.geteuid() == 0


Public = dict[str, int | Tls]
"""Where an edge serves the public, the same at every start."""


@pytest.fixture(params=["http", "https"])
def public(request: pytest.FixtureRequest) -> Public:
    return {"http_port": free_port(), **({"tls": internal_tls()} if request.param == "https" else {})}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CaddyRouter]:
    async with edge(tmp_path_factory.mktemp("http"), spare_slots=40, hold_seconds=1.0) as router:
        yield router


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def https(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CaddyRouter]:
    node = tmp_path_factory.mktemp("https")
    async with edge(node, spare_slots=40, hold_seconds=1.0, tls=internal_tls()) as router:
        yield router


@pytest.fixture(params=["http", "https"])
def caddy(request: pytest.FixtureRequest) -> CaddyRouter:
    found: CaddyRouter = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["simulated", "http", "https"])
def router(request: pytest.FixtureRequest) -> Router:
    if request.param == "simulated":
        return SimulatedRouter(World(), SystemClock())
    found: CaddyRouter = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def node() -> Iterator[Path]:
    """A node directory that any account may enter, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="refloat-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A service of this test's own."""
    return f"service-{abs(hash(request.node.nodeid)):x}"


async def serve(router: CaddyRouter, name: str, *applications: Application) -> Address:
    address = await router.reserve(name, (f"{name}.localhost",))
    await router.switch(name, f"{name}.1", tuple(each.endpoint for each in applications))
    return address


async def get(address: Address, path: str = "/", host: str = "", extra: str = "") -> int:
    """Another host than the service's own is asked for under a name that always has a certificate."""
    async with Client(port_of(address.url), host or address.hosts[0], CANARY_HOST if host else "") as client:
        return await client.request(path, extra=extra)


# Every router


async def test_an_address_is_the_same_at_every_call(router: Router, name: str) -> None:
    first = await router.reserve(name, (f"{name}.localhost",))
    other = await router.reserve(f"{name}-other", (f"{name}-other.localhost",))
    again = await router.reserve(name, (f"{name}.localhost", f"{name}.example.com"))
    assert again.internal == first.internal != other.internal
    assert again.hosts == (f"{name}.localhost", f"{name}.example.com")
    assert f"{name}.localhost" in first.url


async def test_serving_says_what_was_switched_to_last(router: Router, name: str) -> None:
    await router.reserve(name, (f"{name}.localhost",))
    assert await router.serving(name) is None
    for number, endpoints in enumerate([("127.0.0.1:9",), ("127.0.0.1:10", "127.0.0.1:11")]):
        await router.switch(name, f"{name}.{number}", endpoints)
        await router.switch(name, f"{name}.{number}", endpoints)
        serving = await router.serving(name)
        assert serving is not None
        assert (serving.revision_key, serving.endpoints) == (f"{name}.{number}", endpoints)
    await router.switch(name, "", ())
    assert await router.serving(name) is None


async def test_a_service_without_an_address_cannot_be_switched(router: Router) -> None:
    with pytest.raises(NotFound, match="no address"):
        await router.switch("nobody", "", ())


async def test_domains_are_attached_as_given_and_kept_by_what_does_not_name_them(
    router: Router, name: str
) -> None:
    hosts = (f"{name}.localhost",)
    await router.reserve(name, hosts)
    domains = (Domain(name=f"{name}.example.org"), Domain(name=f"{name}.example.com", certificate=False))
    for _ in range(2):
        await router.attach(name, domains)
    await router.switch(name, f"{name}.1", ("127.0.0.1:9",))
    again = await router.reserve(name, hosts)
    assert again.hosts == hosts
    assert [url.partition("://")[2].partition(":")[0] for url in again.domain_urls] == [
        d.name for d in domains
    ]
    await router.reserve(f"{name}-other", ())
    with pytest.raises(Conflict, match="already belongs to another service"):
        await router.attach(f"{name}-other", domains[:1])
    await router.attach(name, domains[1:])
    await router.attach(f"{name}-other", domains[:1])
    await router.forget(name)
    await router.attach(f"{name}-other", domains)


async def test_the_api_is_published_moved_and_taken_away_like_a_service(router: Router) -> None:
    await publish(router, ("api.example.org", "example.org"), "127.0.0.1:8080")
    await publish(router, ("api.example.net", "example.net"), "127.0.0.1:8081")
    serving = await router.serving(API)
    assert serving is not None and serving.endpoints == ("127.0.0.1:8081",)
    await publish(router, (), "127.0.0.1:8081")
    assert await router.serving(API) is None
    await router.reserve("free-again", ("api.example.net",))
    await router.forget("free-again")


async def test_forgetting_twice_is_fine(router: Router, name: str) -> None:
    await router.reserve(name, (f"{name}.localhost",))
    await router.switch(name, f"{name}.1", ("127.0.0.1:9",))
    await router.forget(name)
    await router.forget(name)
    assert await router.serving(name) is None


# No request is lost


async def test_switching_under_load_loses_no_request_and_the_edge_counts_each_one(
    caddy: CaddyRouter, name: str
) -> None:
    address = await caddy.reserve(name, (f"{name}.localhost",))
    public, private = port_of(address.url), port_of(address.internal)
    old = await Application("0").start()
    await caddy.switch(name, f"{name}.0", (old.endpoint,))
    since = await caddy.mark(name)
    async with Load(public, f"{name}.localhost") as load, Load(private, "localhost", 2) as peers:
        for number in range(1, 31):
            new, answered = await Application(str(number)).start(), load.total
            await caddy.switch(name, f"{name}.{number}", (new.endpoint,))
            assert await caddy.drain((old.endpoint,), 30) == 0
            await old.stop()
            await until(functools.partial(_more_than, load, answered + 50))
            old = new
    counts = await caddy.counts(name, since)
    await old.stop()
    assert (load.lost, peers.lost) == ({}, {})
    assert counts == Counts(served=load.total + peers.total, failed=0)


async def _more_than(load: Load, number: int) -> bool:
    return load.total > number


async def test_a_drain_waits_for_requests_in_flight_and_open_websockets(
    caddy: CaddyRouter, name: str
) -> None:
    async with Application("old") as old, Application("new") as new:
        address = await serve(caddy, name, old)
        port, host = port_of(address.url), address.hosts[0]
        async with Client(port, host) as slow, Client(port, host) as stream, Client(port, host) as idle:
            assert await idle.request() == 200
            await slow.send("/hold", "POST", b"x" * 1000)
            upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
            assert await stream.request("/upgrade", extra=upgrade) == 101
            await until(lambda: _heads(old, 3))
            await caddy.switch(name, f"{name}.2", (new.endpoint,))
            assert await caddy.drain((old.endpoint,), 0.2) == 2
            assert await stream.echo(b"still here") == b"still here"
            old.release()
            assert (await slow.receive())[2] == b"old"
            assert await caddy.drain((old.endpoint,), 0.2) == 1
        assert await caddy.drain((old.endpoint,), 30) == 0


async def _heads(application: Application, number: int) -> bool:
    return len(application.heads) == number


async def test_a_request_to_an_endpoint_that_is_not_there_yet_is_held(caddy: CaddyRouter, name: str) -> None:
    async with Application() as application:
        address = await caddy.reserve(name, (f"{name}.localhost",))
        await caddy.switch(name, f"{name}.1", (f"127.0.0.1:{free_port()}",))
        async with Client(port_of(address.url), address.hosts[0]) as client:
            await client.send("/", "POST", b"x" * 1000)
            await asyncio.sleep(0.1)
            await caddy.switch(name, f"{name}.2", (application.endpoint,))
            assert (await client.receive())[0] == 200
    assert len(application.heads) == 1


async def test_requests_are_spread_evenly_over_the_endpoints(caddy: CaddyRouter, name: str) -> None:
    async with Application() as first, Application() as second, Application() as third:
        address = await serve(caddy, name, first, second, third)
        async with Client(port_of(address.url), address.hosts[0]) as client:
            for _ in range(12):
                assert await client.request() == 200
        assert [len(each.heads) for each in (first, second, third)] == [4, 4, 4]


async def test_a_new_host_needs_no_reload(caddy: CaddyRouter, name: str) -> None:
    async with Application() as application:
        address = await serve(caddy, name, application)
        async with Client(port_of(address.url), address.hosts[0]) as connected:
            assert await connected.request() == 200
            for number in range(3):
                added = f"{name}-{number}.localhost"
                await caddy.reserve(f"{name}-{number}", (added, f"{name}-{number}.example.com"))
                assert await get(address, host=added) == 503
                await caddy.switch(f"{name}-{number}", "1", (application.endpoint,))
                assert await get(address, host=f"{added.upper()}:8000") == 200
                assert await get(address, host=f"{name}-{number}.example.com") == 200
            assert await connected.request() == 200


# What is counted


@pytest.mark.parametrize(
    ("path", "status", "failed"), [("/", 200, 0), ("/500", 500, 0), ("/503", 503, 0), ("/slam", 502, 1)]
)
async def test_only_what_the_edge_could_not_get_answered_is_a_failure(
    caddy: CaddyRouter, name: str, path: str, status: int, failed: int
) -> None:
    async with Application() as application:
        address = await serve(caddy, name, application)
        since = await caddy.mark(name)
        assert await caddy.counts(name, since) is None
        assert await get(address, path) == status
        assert await caddy.counts(name, since) == Counts(served=1, failed=failed)
    assert len(application.heads) == 1


async def test_a_dead_upstream_is_a_failure_and_differs_from_a_stopped_service(
    caddy: CaddyRouter, name: str
) -> None:
    address = await caddy.reserve(name, (f"{name}.localhost",))
    since = await caddy.mark(name)
    await caddy.switch(name, f"{name}.1", (f"127.0.0.1:{free_port()}",))
    assert await get(address) == 502
    await caddy.switch(name, "", ())
    async with Client(port_of(address.url), address.hosts[0]) as client:
        await client.send()
        status, _, body = await client.receive()
    assert (status, f"{name} is not running" in body.decode()) == (503, True)
    assert await caddy.counts(name, since) == Counts(served=2, failed=2)


async def test_an_upstream_that_breaks_off_is_a_failure_a_client_that_leaves_is_not(
    caddy: CaddyRouter, name: str
) -> None:
    async with Application() as application:
        address = await serve(caddy, name, application)
        since = await caddy.mark(name)
        with pytest.raises(asyncio.IncompleteReadError):
            await get(address, "/broken")
        await until(lambda: _counted(caddy, name, since, Counts(served=1, failed=1)))
        async with Client(port_of(address.url), address.hosts[0]) as client:
            await client.send("/hold")
            await until(lambda: _heads(application, 2))
        await until(lambda: _counted(caddy, name, since, Counts(served=2, failed=1)))


async def _counted(router: CaddyRouter, name: str, since: str, wanted: Counts) -> bool:
    return await router.counts(name, since) == wanted


async def test_large_answers_are_counted_once(caddy: CaddyRouter, name: str) -> None:
    async with Application() as application:
        address = await serve(caddy, name, application)
        since = await caddy.mark(name)
        for number in range(1, 31):
            assert await get(address, "/large") == 200
            await until(partial(_counted, caddy, name, since, Counts(served=number, failed=0)))


async def test_counting_goes_on_across_rotated_logs_and_other_control_planes(node: Path) -> None:
    port = free_port()
    async with edge(node, http_port=port, log_megabytes=1) as router:
        address = await router.reserve("one", ("one.localhost",))
        since = await router.mark("one")
        async with Client(port_of(address.url), "one.localhost") as client:
            statuses = [await client.request() for _ in range(12_000)]
        again = make_router(node, http_port=port, log_megabytes=1)
        await again.start()
        assert len(list((node / "edge" / "a").glob("access-*.log"))) >= 1
        assert set(statuses) == {503}
        assert await again.counts("one", since) == Counts(served=12_000, failed=12_000)


# Questions


async def test_an_answer_names_its_endpoint_and_is_not_counted(caddy: CaddyRouter, name: str) -> None:
    async with Application() as first, Application() as second:
        await serve(caddy, name, first)
        since = await caddy.mark(name)
        for application in (first, second):
            await caddy.switch(name, f"{name}.{application.endpoint}", (application.endpoint,))
            answer = await caddy.ask(name, "/500", 5)
            assert (answer.status, answer.endpoint, answer.reason) == (500, application.endpoint, "")
        assert await caddy.counts(name, since) is None


async def test_a_bad_answer_is_an_answer(caddy: CaddyRouter, name: str) -> None:
    async with Application() as application:
        await serve(caddy, name, application)
        slammed, late = await caddy.ask(name, "/slam", 5), await caddy.ask(name, "/hold", 0.2)
        assert (slammed.status, slammed.endpoint, bool(slammed.reason)) == (502, "", True)
        assert (late.status, late.endpoint, late.reason) == (0, "", "no answer within 0.2 s")
        await caddy.switch(name, "", ())
        stopped = await caddy.ask(name, "/", 5)
        assert (stopped.status, stopped.endpoint, stopped.reason) == (503, "", "not running")
        await caddy.reserve(name, ())
        await caddy.switch(name, f"{name}.2", (application.endpoint,))
        assert (await caddy.ask(name, "/", 5)).endpoint == application.endpoint


async def test_the_secret_reaches_no_application_and_without_it_nothing_is_told(
    caddy: CaddyRouter, name: str
) -> None:
    async with Application() as application:
        address = await serve(caddy, name, application)
        assert (await caddy.ask(name, "/", 5)).status == 200
        async with Client(port_of(address.url), address.hosts[0]) as client:
            await client.send(extra="X-Refloat-Ask: guess\r\n")
            _, told, _ = await client.receive()
    assert not any("x-refloat-ask" in head.lower() for head in application.heads)
    assert application.endpoint not in told
    assert len(application.heads) == 2


# Addresses


async def test_an_unknown_host_is_not_found(caddy: CaddyRouter, name: str) -> None:
    address = await caddy.reserve(name, (f"{name}.localhost",))
    assert await get(address, host="nobody.localhost") == 404
    assert await get(address, host="no host") == 400


async def test_a_host_follows_its_service_and_a_freed_one_is_nobodys(caddy: CaddyRouter, name: str) -> None:
    async with Application() as application:
        address = await serve(caddy, name, application)
        await caddy.reserve(name, (f"{name}-new.localhost",))
        assert await get(address, host=f"{name}-new.localhost") == 200
        assert await get(address, host=f"{name}.localhost") == 404
        other = await caddy.reserve(f"{name}-other", (f"{name}.localhost",))
        assert await get(other) == 503
        with pytest.raises(Conflict, match="already belongs"):
            await caddy.reserve(f"{name}-other", (f"{name}-new.localhost",))
        await caddy.forget(name)
        assert await get(address, host=f"{name}-new.localhost") == 404
        async with Client(port_of(address.internal), "localhost") as peer:
            assert await peer.request() == 404
        with pytest.raises(NotFound):
            await caddy.switch(name, f"{name}.2", (application.endpoint,))


@pytest.mark.parametrize("host", ["*.localhost", "{file./etc/passwd}", "a b", "", "-a.localhost", "a/b"])
async def test_what_is_no_host_name_is_refused(caddy: CaddyRouter, host: str) -> None:
    with pytest.raises(Invalid):
        await caddy.reserve("hostless", (host,))


@pytest.mark.parametrize("endpoint", ["localhost:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:x", "{a}:1"])
async def test_what_is_no_endpoint_is_refused(caddy: CaddyRouter, name: str, endpoint: str) -> None:
    await caddy.reserve(name, (f"{name}.localhost",))
    with pytest.raises(Invalid):
        await caddy.switch(name, "1", (endpoint,))


# The edge outlives us, and itself


async def test_a_running_edge_is_adopted_with_its_routes_and_its_process(node: Path, public: Public) -> None:
    async with edge(node, **public) as router, Application() as application:
        address = await serve(router, "one", application)
        pid = await pid_of(node)
        async with Client(port_of(address.url), address.hosts[0]) as connected:
            assert await connected.request() == 200
            again = make_router(node, **public)
            await again.start()
            assert await pid_of(node) == pid != 0
            assert await again.reserve("one", address.hosts) == address
            assert await again.serving("one") == await router.serving("one")
            assert await connected.request() == 200


async def test_routes_survive_the_death_of_the_edge(node: Path, public: Public) -> None:
    async with edge(node, **public) as router, Application() as application:
        address = await serve(router, "one", application)
        pid = await pid_of(node)
        os.kill(pid, signal.SIGKILL)

        async def again() -> bool:
            return await pid_of(node) != pid and (await router.ask("one", "/", 5)).status == 200

        await until(again)
        assert await get(address) == 200
        assert (await router.ask("one", "/", 5)).endpoint == application.endpoint


async def test_routes_survive_a_restart_of_the_machine(node: Path, public: Public) -> None:
    async with Application() as application:
        async with edge(node, **public) as router:
            address = await serve(router, "one", application)
        async with edge(node, **public) as router:
            assert await router.reserve("one", address.hosts) == address
            assert await get(address) == 200


async def test_when_spare_places_run_out_a_second_process_takes_over_and_no_request_is_lost(
    node: Path, public: Public
) -> None:
    async with edge(node, spare_slots=2, **public) as router, Application() as application:
        address = await serve(router, "first", application)
        pid = await pid_of(node)
        since = await router.mark("first")
        async with Load(port_of(address.url), address.hosts[0], 4) as load:
            for number in range(4):
                await serve(router, f"more-{number}", application)
                assert await get(address, host=f"more-{number}.localhost") == 200
        assert load.lost == {}
        assert await router.counts("first", since) == Counts(served=load.total, failed=0)
        assert await pid_of(node, "edge") != pid or await pid_of(node, "edge-b") != 0
        assert await router.reserve("first", address.hosts) == address


async def test_another_configuration_is_taken_over_without_a_gap(node: Path, public: Public) -> None:
    async with edge(node, **public) as router, Application() as application:
        address = await serve(router, "one", application)
        async with Load(port_of(address.url), address.hosts[0], 4) as load:
            again = make_router(node, hold_seconds=0.0, **public)
            await again.start()
        assert load.lost == {}
        assert await again.reserve("one", address.hosts) == address
        await again.switch("one", "2", (f"127.0.0.1:{free_port()}",))
        assert await get(address) == 502


@pytest.mark.skipif(not ROOT, reason="only root can run it as somebody else")
async def test_as_root_the_edge_runs_as_an_account_of_its_own(node: Path) -> None:
    async with edge(node, caddy=_for_everybody(node)) as router, Application() as application:
        await serve(router, "one", application)
        assert Path(f"/proc/{await pid_of(node)}").stat().st_uid == ACCOUNT
        assert await router.drain((application.endpoint,), 30) == 0
        for secret in (node / "edge" / "secret", node / "edge" / "a" / "config.json"):
            assert secret.stat().st_mode & 0o077 == 0


def _for_everybody(node: Path) -> str:
    """A Caddy that any account may run, whatever the directories above the real one allow."""
    from refloat.routers.caddy import find_caddy

    copy = node / "caddy"
    copy.write_bytes(Path(find_caddy().path).read_bytes())
    copy.chmod(0o755)
    return str(copy)


# It says why it cannot serve


async def test_a_taken_public_port_is_named_with_its_setting(node: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Unavailable, match=f"{port}.*REFLOAT_HTTP_PORT"):
            async with edge(node, http_port=port):
                pass
    assert await pid_of(node) == 0


async def test_a_taken_service_address_is_named_with_its_service(node: Path) -> None:
    async with edge(node) as router:
        address = await router.reserve("one", ("one.localhost",))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port_of(address.internal)))
        other.listen()
        with pytest.raises(Unavailable, match=f"{address.internal} of service one"):
            async with edge(node):
                pass


async def test_a_takeover_wants_no_port_that_somebody_listens_on(node: Path, public: Public) -> None:
    async with edge(node, **public):
        for hold_seconds in (0.5, 1.5):
            layout = json.loads((node / "edge" / "slots.json").read_text())
            idle = {"a": "b", "b": "a"}[layout["active"]]
            with socket.create_server(("127.0.0.1", layout["control_ports"][idle])):
                await make_router(node, hold_seconds=hold_seconds, **public).start()


async def test_a_takeover_that_died_halfway_has_ended_when_the_edge_counts_as_started(
    node: Path, public: Public, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Processes.launch

    async def deadly(self: Processes, *arguments: Any) -> None:
        await launch(self, *arguments)
        raise RuntimeError("killed")

    async with edge(node, **public):
        with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="killed"):
            patched.setattr(Processes, "launch", deadly)
            await make_router(node, hold_seconds=0.5, **public).start()
        await make_router(node, **public).start()
        assert public["http_port"] not in sockets.listening(await pid_of(node, "edge-b"))


async def test_a_port_that_is_taken_while_the_edge_starts_is_replaced_by_another(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the edge of another node that starts at the same time."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        lost = [other.getsockname()[1]]

        @contextlib.contextmanager
        def outdated(taken: Iterable[int]) -> Iterator[Iterator[int]]:
            with sockets.free_ports(taken) as fresh:
                yield itertools.chain([lost.pop()] if lost else [], fresh)

        monkeypatch.setattr("refloat.routers.caddy.edge.free_ports", outdated)
        async with edge(node) as router:
            await router.reserve("one", ("one.localhost",))
        assert lost == []


async def test_edges_that_start_at_the_same_time_share_no_port(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel would let them, as processes of one user: each would get half of the other's requests."""
    monkeypatch.setattr(sockets.random, "sample", lambda candidates, _: list(candidates))
    async with contextlib.AsyncExitStack() as stack:
        nodes = node / "one", node / "other"
        for each in nodes:
            each.mkdir(mode=0o755)
        await asyncio.gather(*(stack.enter_async_context(edge(each)) for each in nodes))
        one, other = [sockets.listening(await pid_of(each)) for each in nodes]
    assert not one & other


async def test_before_the_start_every_request_is_refused_clearly(node: Path) -> None:
    with pytest.raises(Unavailable, match="not been started"):
        await make_router(node).reserve("one", ())
