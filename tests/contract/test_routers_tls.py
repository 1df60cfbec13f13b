"""Guarantees of the edge under TLS: who gets a certificate, which one, and that none is lost."""

import asyncio
import datetime
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from routers_support import (
    ROOTS,
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
from tests.certificates import Authority
from tests.databases import free_port

from refloat.domain.errors import Conflict, Unavailable
from refloat.routers.base import Address, Counts, Domain
from refloat.routers.caddy import CaddyRouter, Issuer, Tls
from refloat.routers.caddy.exchange import get
from refloat.routers.caddy.tls import read_own

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def node() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="refloat-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CaddyRouter]:
    async with edge(tmp_path_factory.mktemp("node"), tls=internal_tls()) as made:
        yield made


async def serve(router: CaddyRouter, name: str, application: Application) -> Address:
    address = await router.reserve(name, (f"{name}.localhost",))
    await router.switch(name, f"{name}.1", (application.endpoint,))
    return address


async def certified(port: int, name: str) -> bool:
    """Whether the edge has a certificate for this name that its root vouches for."""
    try:
        async with Client(port, name):
            return True
    except ssl.SSLCertVerificationError:
        raise
    except ssl.SSLError:
        return False


async def shown(port: int, name: str) -> bytes:
    async with Client(port, name) as client:
        return client.certificate


# Who gets one


async def test_only_names_that_lead_to_a_service_get_a_certificate(router: CaddyRouter) -> None:
    async with Application() as application:
        address = await serve(router, "one", application)
        port = port_of(address.url)
        await router.attach("one", (Domain(name="shop.example.org"),))
        assert await certified(port, "one.localhost")
        assert await certified(port, "shop.example.org")
        for stranger in ("two.localhost", "www.shop.example.org", "localhost", "example.org"):
            assert not await certified(port, stranger)
        await router.reserve("two", ("two.localhost",))
        assert await certified(port, "two.localhost"), "a service that does not run has its name too"


async def test_a_name_that_was_given_up_gets_none(router: CaddyRouter) -> None:
    address = await router.reserve("gone", ("gone.localhost",))
    await router.attach("gone", (Domain(name="gone.example.org"), Domain(name="left.example.org")))
    await router.attach("gone", (Domain(name="gone.example.org"),))
    assert not await certified(port_of(address.url), "left.example.org")
    await router.forget("gone")
    for name in ("gone.localhost", "gone.example.org"):
        assert not await certified(port_of(address.url), name)


async def test_the_edge_permits_by_itself_while_no_control_plane_looks(router: CaddyRouter) -> None:
    """The question is answered on the private port, from files: nothing of this process is asked."""
    await router.reserve("asked", ("asked.localhost",))
    control = router._current.control_ports[router._current.active]
    for name, status in (
        ("asked.localhost", 200),
        ("ASKED.localhost", 200),
        ("nobody.localhost", 404),
        ("no%20host", 404),
        ("", 404),
        ("{file./etc/hostname}", 404),
        ("nobody.localhost&domain=asked.localhost", 404),
    ):
        reply = await get(control, f"/permit?domain={name}", {"Host": "asked.localhost"}, 5)
        assert reply.status == status, name


async def test_a_domain_leads_to_its_service_and_to_no_other(router: CaddyRouter) -> None:
    async with Application("first") as first, Application("second") as second:
        address = await serve(router, "first", first)
        await serve(router, "second", second)
        await router.attach("first", (Domain(name="Moving.Example.org"),))
        again = await router.reserve("first", address.hosts)
        assert again.domain_urls == (f"https://moving.example.org:{port_of(address.url)}",)
        async with Client(port_of(address.url), "moving.example.org") as client:
            await client.send()
            assert (await client.receive())[2] == b"first"
        with pytest.raises(Conflict, match=r"moving\.example\.org already belongs"):
            await router.attach("second", (Domain(name="moving.example.org"),))
        await router.attach("first", ())
        await router.attach("second", (Domain(name="moving.example.org"),))
        async with Client(port_of(address.url), "moving.example.org") as client:
            await client.send()
            assert (await client.receive())[2] == b"second"


# Plain HTTP


async def test_plain_http_is_sent_to_https_with_method_path_and_query(node: Path) -> None:
    http = free_port()
    async with edge(node, http_port=http, tls=internal_tls()) as router, Application() as application:
        address = await serve(router, "one", application)
        since = await router.mark("one")
        async with Client(http, "one.localhost") as client:
            await client.send("/cart?item=1&item=%2F", "POST", b"x")
            status, head, _ = await client.receive()
        assert status == 308
        assert f"Location: {address.url}/cart?item=1&item=%2F\r\n" in head
        async with Client(http, "nobody.localhost") as client:
            assert await client.request() == 404
        assert await router.counts("one", since) is None
        assert application.heads == []
        async with Client(port_of(address.internal), "localhost") as peer:
            assert await peer.request() == 200, "peers go on in plain HTTP"


async def test_a_domain_whose_certificate_is_somebody_elses_is_served_plainly(node: Path) -> None:
    http = free_port()
    async with edge(node, http_port=http, tls=internal_tls()) as router, Application() as application:
        address = await serve(router, "one", application)
        await router.attach("one", (Domain(name="cdn.example.org", certificate=False),))
        since = await router.mark("one")
        async with Client(http, "cdn.example.org") as client:
            assert await client.request() == 200
        assert not await certified(port_of(address.url), "cdn.example.org")
        assert await router.counts("one", since) == Counts(served=1, failed=0)
        await router.attach("one", (Domain(name="cdn.example.org"),))
        async with Client(http, "cdn.example.org") as client:
            assert await client.request() == 308
        assert await certified(port_of(address.url), "cdn.example.org")


# Nothing is lost


async def test_a_hand_over_keeps_every_certificate_and_the_root(node: Path) -> None:
    public = {"http_port": free_port(), "tls": internal_tls()}
    async with edge(node, **public) as router, Application() as application:
        address = await serve(router, "one", application)
        await router.attach("one", (Domain(name="shop.example.org"),))
        port = port_of(address.url)
        names = ("one.localhost", "shop.example.org")
        before, pid = [await shown(port, name) for name in names], await pid_of(node)
        root = ROOTS[port].read_text()
        async with Load(port, "one.localhost", 4) as load:
            await make_router(node, hold_seconds=0.5, **public).start()
            assert [await shown(port, name) for name in names] == before
        assert load.lost == {}
        assert await pid_of(node, "edge-b") not in (0, pid)
        assert ROOTS[port].read_text() == root


async def test_certificates_survive_a_restart_of_the_machine(node: Path) -> None:
    public = {"http_port": free_port(), "tls": internal_tls()}
    async with edge(node, **public) as router:
        address = await router.reserve("one", ("one.localhost",))
        before = await shown(port_of(address.url), "one.localhost")
    async with edge(node, **public):
        assert await shown(port_of(address.url), "one.localhost") == before


async def test_https_is_taken_up_and_given_up_without_losing_a_route(node: Path) -> None:
    http = free_port()
    async with edge(node, http_port=http) as router, Application() as application:
        await serve(router, "one", application)
        async with Client(http, "one.localhost") as client:
            assert await client.request() == 200
        secure = make_router(node, http_port=http, tls=internal_tls())
        await secure.start()
        address = await secure.reserve("one", ("one.localhost",))
        async with Client(port_of(address.url), "one.localhost") as client:
            assert await client.request() == 200
        async with Client(http, "one.localhost") as client:
            assert await client.request() == 308
        await make_router(node, http_port=http).start()
        async with Client(http, "one.localhost") as client:
            assert await client.request() == 200


# Verification


async def test_a_question_over_tls_fails_clearly_when_the_certificate_is_not_to_be_trusted(
    node: Path,
) -> None:
    public = {"http_port": free_port(), "tls": internal_tls()}
    async with edge(node, **public) as router, Application() as application:
        await serve(router, "one", application)
        assert (await router.ask("one", "/", 5)).endpoint == application.endpoint
        stranger = Authority("somebody else")
        root = ROOTS[public["tls"].port]
        root.write_text(stranger.certificate)
        answer = await router.ask("one", "/", 5)
        assert (answer.status, answer.endpoint) == (0, "")
        assert "the certificate for one.localhost is not valid" in answer.reason


async def test_what_kept_an_authority_from_certifying_is_told(node: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/directory"
    tls = Tls(port=free_port(), issuer=Issuer.ACME, directory=nowhere)
    async with edge(node, tls=tls, certificate_seconds=1.0) as router, Application() as application:
        await router.reserve("one", ("one.example.org",))
        await router.switch("one", "one.1", (application.endpoint,))

        async def told() -> bool:
            answer = await router.ask("one", "/", 5)
            assert (answer.status, answer.endpoint) == (0, "")
            assert "no certificate for one.example.org" in answer.reason
            return nowhere in answer.reason and "connection refused" in answer.reason

        await until(told)


async def test_a_taken_https_port_is_named_with_its_setting(node: Path) -> None:
    tls = internal_tls()
    other = await asyncio.start_server(lambda *_: None, "127.0.0.1", tls.port)
    async with other:
        with pytest.raises(Unavailable, match=f"{tls.port}.*REFLOAT_HTTPS_PORT"):
            async with edge(node, tls=tls):
                pass
    assert await pid_of(node) == 0


# A certificate of one's own


def own(authority: Authority, folder: Path, *names: str) -> Tls:
    certificate, key = authority.issue(folder, *names)
    chain, secret = read_own(str(certificate), str(key), datetime.datetime.now(datetime.UTC))
    return msgspec.structs.replace(internal_tls(), certificate=chain, key=secret)


async def test_an_own_wildcard_is_shown_for_its_names_and_other_names_get_theirs(
    node: Path, tmp_path: Path
) -> None:
    authority = Authority("company")
    tls = own(authority, tmp_path, "*.apps.test")
    async with edge(node, tls=tls) as router, Application() as application:
        address = await router.reserve("one", ("one.apps.test",))
        await router.switch("one", "one.1", (application.endpoint,))
        assert (await router.ask("one", "/", 5)).endpoint == application.endpoint
        await router.attach("one", (Domain(name="shop.example.org"),))
        assert await certified(port_of(address.url), "shop.example.org"), "by the edge's own issuer"
        company = tmp_path / "company.pem"
        company.write_text(authority.certificate)
        ROOTS[tls.port] = company
        assert await certified(port_of(address.url), "one.apps.test")
        with pytest.raises(ssl.SSLCertVerificationError):
            await certified(port_of(address.url), "shop.example.org")


async def test_a_renewed_own_certificate_is_taken_over_without_a_gap(node: Path, tmp_path: Path) -> None:
    authority, http = Authority("company"), free_port()
    tls = own(authority, tmp_path, "one.apps.test")
    async with edge(node, http_port=http, tls=tls) as router, Application() as application:
        await router.reserve("one", ("one.apps.test",))
        await router.switch("one", "one.1", (application.endpoint,))
        ROOTS[tls.port] = tmp_path / "company.pem"
        ROOTS[tls.port].write_text(authority.certificate)
        before = await shown(tls.port, "one.apps.test")
        renewed = own(authority, tmp_path, "one.apps.test")
        async with Load(tls.port, "one.apps.test", 4) as load:
            again = make_router(node, http_port=http, tls=msgspec.structs.replace(renewed, port=tls.port))
            ROOTS[tls.port] = tmp_path / "company.pem"
            await again.start()
        assert load.lost == {}
        assert await shown(tls.port, "one.apps.test") != before
        assert (await again.ask("one", "/", 5)).endpoint == application.endpoint


async def test_the_key_is_readable_by_the_edge_alone(node: Path, tmp_path: Path) -> None:
    tls = own(Authority("company"), tmp_path, "one.apps.test")
    async with edge(node, tls=tls) as router:
        address = await router.reserve("two", ("two.localhost",))
        await certified(port_of(address.url), "two.localhost")
        holding = [
            path
            for path in (node / "edge").rglob("*")
            if path.is_file() and "PRIVATE KEY" in path.read_text(errors="replace")
        ]
        assert any(path.name == "config.json" for path in holding)
        assert all(path.stat().st_mode & 0o077 == 0 for path in holding)
