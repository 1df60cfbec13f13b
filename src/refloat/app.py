"""The composition root: the only place that names implementations."""

import asyncio
import contextlib
import datetime
import os
import secrets
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvicorn

from refloat import server_log
from refloat.api.asgi import create_app
from refloat.builders.commands import end_every_build
from refloat.builders.local import LocalBuilder
from refloat.clock import SystemClock
from refloat.control.context import Context
from refloat.control.organizations import bootstrap
from refloat.domain.errors import Unavailable
from refloat.domain.resources import ClusterKind
from refloat.engines.local.engine import LocalEngine
from refloat.execution.applied import artifacts_in_use
from refloat.execution.capacity import Capacity
from refloat.execution.crash import KillAt, NoCrash
from refloat.execution.leadership import lead
from refloat.execution.node import NodeWork
from refloat.execution.places import NodePlatforms, Platforms
from refloat.execution.platform import Platform
from refloat.metrics import Metrics
from refloat.routers.caddy import CaddyRouter, Issuer, Tls
from refloat.routers.caddy.tls import read_own, read_roots
from refloat.routers.publishing import publish
from refloat.settings import Settings, check_isolation, plain_listener
from refloat.simulated.builder import SimulatedBuilder
from refloat.simulated.engine import SimulatedEngine
from refloat.simulated.router import SimulatedRouter
from refloat.simulated.world import World
from refloat.store.database import Database
from refloat.store.facts import check_key
from refloat.store.schema import migrate, migrate_postgres
from refloat.store.sealing import Sealer, load_sealer
from refloat.store.sqlite import SqliteDatabase
from refloat.supervisor.accounts import Accounts
from refloat.supervisor.directories import make_data_directory
from refloat.supervisor.node import node_id
from refloat.supervisor.occupancy import occupy
from refloat.supervisor.processes import LocalSupervisor

log = structlog.get_logger()


def prepare_data_dir(settings: Settings) -> Settings:
    """Make the directories and the admin token; the settings with the token filled in.

    Raises Unavailable when they cannot be written.
    """
    try:
        make_data_directory(settings.data_dir)
        make_data_directory(settings.node_dir)
        token = settings.admin_token or _admin_token(settings.data_dir / "admin.token")
    except OSError as error:
        raise Unavailable(
            f"the data directory {settings.data_dir} cannot be written: {error.strerror}",
            hint="choose another one by REFLOAT_DATA_DIR",
        ) from None
    return msgspec.structs.replace(settings, admin_token=token)


def _admin_token(path: Path) -> str:
    if path.exists():
        return path.read_text().strip()
    token = "rf_admin_" + secrets.token_urlsafe(24)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    return token


def database_path(settings: Settings) -> Path:
    """Where the SQLite file is."""
    if settings.database_url:
        return Path(settings.database_url.removeprefix("sqlite:///"))
    return settings.data_dir / "refloat.db"


def room(settings: Settings) -> str:
    """How full the disk of the database is; "" where that is another machine's."""
    if settings.shared:
        return ""
    folder = database_path(settings).parent
    disk = shutil.disk_usage(folder)
    return f"{disk.free / 1e6:.1f} of {disk.total / 1e6:.1f} MB are free at {folder}"


async def open_database(settings: Settings, replica_id: str) -> tuple[Database, Callable[[], None]]:
    """The migrated database, and what calls other servers on it. The driver is imported where it is used."""
    if settings.shared:
        from refloat.store.postgres import PostgresDatabase
        from refloat.store.replicas import session_name

        await migrate_postgres(settings.database_url)
        shared = PostgresDatabase(settings.database_url, session_name(replica_id))
        return shared, shared.call_others
    path = database_path(settings)
    migrate(path)
    return SqliteDatabase(path), lambda: None


def platforms_of(settings: Settings, database: Database, sealer: Sealer) -> Platforms:
    """What this node can run; one of several nodes if the database is shared."""
    simulated = simulated_platform()
    local = simulated if settings.emulate else local_platform(settings, database, sealer)
    platforms = {ClusterKind.LOCAL: local, ClusterKind.SIMULATED: simulated}
    return NodePlatforms(platforms, node_id(settings.node_dir)) if settings.shared else platforms


def local_platform(settings: Settings, database: Database, sealer: Sealer) -> Platform:
    """This machine: native processes behind Caddy."""
    supervisor = LocalSupervisor(settings.node_dir)
    accounts = Accounts(settings.node_dir)
    return Platform(
        engine=LocalEngine(settings.node_dir, supervisor, accounts, limiting=supervisor.limiting),
        router=CaddyRouter(
            settings.node_dir,
            supervisor,
            http_port=settings.http_port,
            domain=settings.domain,
            hold_seconds=settings.hold_seconds,
            caddy=settings.caddy or None,
            tls=edge_tls(settings),
        ),
        builder=LocalBuilder(
            settings.node_dir,
            supervisor,
            accounts,
            local_sources=settings.local_sources,
            in_use=partial(artifacts_in_use, database.read, sealer, settings.keep_releases),
            keep=settings.keep_releases,
            disk_budget=settings.disk_budget,
        ),
    )


def edge_tls(settings: Settings) -> Tls | None:
    """How the edge serves HTTPS; None when it does not. Raises Unavailable for a file that is no use."""
    if settings.tls == "off":
        return None
    now = datetime.datetime.now(datetime.UTC)
    own = read_own(settings.tls_cert, settings.tls_key, now) if settings.tls_cert else ("", "")
    return Tls(
        port=settings.https_port,
        issuer=Issuer(settings.tls),
        email=settings.acme_email,
        directory=settings.acme_directory,
        roots=read_roots("REFLOAT_ACME_ROOTS", settings.acme_roots) if settings.acme_roots else "",
        certificate=own[0],
        key=own[1],
    )


def simulated_platform() -> Platform:
    """A cluster that runs nothing."""
    world, clock = World(), SystemClock()
    return Platform(
        engine=SimulatedEngine(world, clock),
        router=SimulatedRouter(world, clock),
        builder=SimulatedBuilder(world, clock),
        rewrite=world.rewrite,
    )


def event_loop(*, shared: bool) -> asyncio.AbstractEventLoop:
    """What a server runs on. With PostgreSQL uvloop, where it can be had: it takes a fifth off what that
    costs us. Not without: it gains nothing with SQLite, and starts commands more slowly, so that a build with
    its commands of git took half as long again.
    """
    if not shared:
        return asyncio.new_event_loop()
    try:
        import uvloop
    except ImportError:  # it is not made for every platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def serve(settings: Settings) -> None:
    """Run the server until SIGTERM or SIGINT. Applications and the edge go on without it."""
    server_log.configure(settings.log_format)
    if not settings.emulate:  # it runs nothing that could be kept apart
        check_isolation(settings, as_root=os.geteuid() == 0)
    settings = prepare_data_dir(settings)
    lock = occupy(settings.data_dir)
    try:
        with listener(settings) as bound:
            await _open_and_serve(settings, bound)
    finally:
        os.close(lock)


async def _open_and_serve(settings: Settings, bound: socket.socket) -> None:
    replica_id = secrets.token_hex(8)
    database, call_others = await open_database(settings, replica_id)
    try:
        sealer = load_sealer(settings.key_file)
        await check_key(database, sealer, str(settings.key_file))
        await _serve(settings, bound, database, sealer, call_others, replica_id)
    finally:
        await database.close()


async def _serve(
    settings: Settings,
    bound: socket.socket,
    database: Database,
    sealer: Sealer,
    call_others: Callable[[], None],
    replica_id: str,
) -> None:
    clock, platforms, metrics = SystemClock(), platforms_of(settings, database, sealer), Metrics()

    async def prepare() -> None:
        await end_every_build(LocalSupervisor(settings.node_dir))
        router = platforms[ClusterKind.LOCAL].router
        await router.start()
        await publish(router, settings.api_hosts, api_endpoint(settings))

    work = NodeWork(
        database,
        sealer,
        clock,
        platforms,
        domain=settings.domain,
        drain_seconds=settings.drain_seconds,
        capacity=Capacity(deployments=settings.max_deployments, builds=settings.max_builds),
        crash=KillAt(settings.crash_at) if settings.crash_at else NoCrash(),
        prepare=prepare,
        telemetry=metrics,
        room=partial(room, settings),
    )

    def wake() -> None:
        work.wake()
        call_others()

    context = Context(
        settings=settings,
        database=database,
        sealer=sealer,
        clock=clock,
        entropy=os.urandom,
        platforms=platforms,
        wake=wake,
        complaint=work.complaint,
        halt=work.halt,
        telemetry=metrics,
        exposition=metrics,
    )
    async with _at_work(settings, platforms, work, replica_id):
        await bootstrap(context)
        await _listen(create_app(context), settings, bound, context.ending)


@contextlib.asynccontextmanager
async def _at_work(
    settings: Settings, platforms: Platforms, work: NodeWork, replica_id: str
) -> AsyncIterator[None]:
    """The work of the node beside the API. On a shared database it is another server's until this one is
    elected; what the node needs is brought up first by whoever is, so that its errors end the start."""
    tasks: list[asyncio.Task[None]] = []
    try:
        if isinstance(platforms, NodePlatforms):
            from refloat.store.replicas import ReplicaSession

            session = ReplicaSession(settings.database_url, replica_id, platforms.node, work.wake)
            tasks.append(asyncio.create_task(session.run()))
            if await session.leads_at_first():
                await work.prepare()
            tasks.append(asyncio.create_task(lead(session, work.during)))
        else:
            await work.prepare()
            tasks.append(asyncio.create_task(work.alone()))
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def api_endpoint(settings: Settings) -> str:
    """Where the edge of this machine reaches the API."""
    host = {"localhost": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"


def listener(settings: Settings) -> socket.socket:
    """The API's socket, bound and not yet listening; Unavailable when it cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
    except OSError as error:
        bound.close()
        raise _taken(settings, error) from None
    return bound


def _taken(settings: Settings, error: OSError) -> Unavailable:
    forbidden = isinstance(error, PermissionError)
    remedy = "only root may use a port below 1024:" if forbidden else "stop what uses the port, or"
    return Unavailable(
        f"the API cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
        hint=f"{remedy} choose another one by REFLOAT_PORT",
    )


def listen(settings: Settings, bound: socket.socket) -> None:
    """From now on the socket takes connections; Unavailable when another one, bound as this was, does."""
    try:
        bound.listen()
    except OSError as error:
        raise _taken(settings, error) from None


class _Server(uvicorn.Server):
    """Ends by returning. Uvicorn itself raises the signal once more, which would end the process before
    anything is closed. Whoever follows something without an end is told by `ending`."""

    def __init__(self, config: uvicorn.Config, ending: asyncio.Event) -> None:
        super().__init__(config)
        self._ending = ending

    def stop(self) -> None:
        """Answer what is being asked and end; asked again, end at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._ending.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _listen(app: Any, settings: Settings, bound: socket.socket, ending: asyncio.Event) -> None:
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    server = _Server(config, ending)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    if complaint := plain_listener(settings):
        log.warning(complaint)
    listen(settings, bound)
    log.info("refloat serves", api=f"http://{settings.host}:{settings.port}", data=str(settings.data_dir))
    await server.serve(sockets=[bound])
