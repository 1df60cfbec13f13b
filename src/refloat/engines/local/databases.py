"""Database servers as services: their data, their address, what to run, and whether they answer.

<node>/databases/ports.json          the port of each database, for as long as it exists
<node>/services/<id>/home/data       PostgreSQL's files; Redis keeps its own in the home itself
"""

import asyncio
import os
import pwd
import shutil
import struct
from pathlib import Path

import msgspec

from refloat.domain.errors import StepFailed
from refloat.domain.revision import DatabaseServer, Revision
from refloat.domain.services import DatabaseType
from refloat.engines.local.homes import Homes
from refloat.engines.local.ports import Ports
from refloat.engines.local.servers import Server, Servers
from refloat.supervisor.accounts import Accounts
from refloat.supervisor.base import Restart, Spec, State, Supervisor
from refloat.supervisor.cancellation import to_the_end
from refloat.supervisor.directories import make_passable, own_directory, write_private
from refloat.supervisor.turns import turn

HOST = "127.0.0.1"
_PROTOCOL = 196608
_STARTING = b"57P03"


class Databases:
    """The database services of one node."""

    def __init__(
        self, node_dir: Path, supervisor: Supervisor, accounts: Accounts, homes: Homes, ports: Ports
    ) -> None:
        self._node = node_dir.absolute()
        self._supervisor = supervisor
        self._accounts = accounts
        self._homes = homes
        self._ports = ports
        self.servers = Servers(self._node)

    # -- addresses

    def reserve(self, service_id: str) -> int:
        """The port of a database, chosen at the first call."""
        if known := self.reserved().get(service_id):
            return known
        make_passable(self._folder, self._node)
        with turn(self._folder / "ports.lock"):
            given = self.reserved()
            if service_id not in given:
                with self._ports.take(given.values()) as port:
                    given[service_id] = port.number
                self._save(given)
            return given[service_id]

    def reserved(self) -> dict[str, int]:
        """All ports that are given, by service."""
        try:
            return msgspec.json.decode((self._folder / "ports.json").read_bytes(), type=dict[str, int])
        except FileNotFoundError:
            return {}

    def forget(self, service_id: str) -> None:
        """Free the port of a database that is gone."""
        if service_id in self.reserved():
            with turn(self._folder / "ports.lock"):
                self._save({k: v for k, v in self.reserved().items() if k != service_id})

    @property
    def _folder(self) -> Path:
        return self._node / "databases"

    def _save(self, given: dict[str, int]) -> None:
        write_private(self._folder / "ports.json", msgspec.json.encode(given), durable=True)

    # -- what to run

    async def furnished(self, revision: Revision, wanted: DatabaseServer) -> Revision:
        """The revision with its command; its data are made if there are none.

        Raises StepFailed when no server here runs the version, or the data are of another one.
        """
        server = self.servers.find(wanted.type, wanted.version)
        if server is None:
            raise StepFailed(self.missing(wanted.type, wanted.version))
        program = self.servers.usable(server, self._accounts.uid(revision.service_id))
        bare = msgspec.structs.replace(revision, environment={}, files={})
        if wanted.type is DatabaseType.REDIS:
            config = _redis_config(wanted, self._homes.home(revision.service_id), revision.memory)
            command = (str(program), str(self._homes.home(revision.service_id) / "redis.conf"))
            return msgspec.structs.replace(bare, command=command, files={"redis.conf": config})
        await self._require_data(bare, wanted, server)
        return msgspec.structs.replace(
            bare, command=_postgres_command(program, self._data(bare.service_id), wanted, bare.memory)
        )

    def missing(self, type: DatabaseType, version: str) -> str:
        """Why a database cannot run here, and what would run it."""
        if type not in (DatabaseType.POSTGRESQL, DatabaseType.REDIS):
            return f"{type} cannot run natively on this machine; it needs a cluster with Docker"
        known = ", ".join(self.servers.versions().get(type, ())) or "none"
        package = f"postgresql-{version.partition('.')[0]}" if type is DatabaseType.POSTGRESQL else "valkey"
        return (
            f"no {type} {version} on this machine (there is: {known}); "
            f"install the package {package} and restart the server, or choose another version"
        )

    # -- PostgreSQL's data

    def _data(self, service_id: str) -> Path:
        return self._homes.home(service_id) / "data"

    async def _require_data(self, revision: Revision, wanted: DatabaseServer, server: Server) -> None:
        mark = self._data(revision.service_id) / "PG_VERSION"
        if not mark.exists():
            await self._initialise(revision, wanted, server)
        elif mark.read_text().strip() != str(server.major):
            raise StepFailed(
                f"the data of {revision.name} are of PostgreSQL {mark.read_text().strip()}, "
                f"not {server.major}",
                hint="make a new database of that version, and bring the data over by dump and restore",
            )

    async def _initialise(self, revision: Revision, wanted: DatabaseServer, server: Server) -> None:
        """Made beside and moved into place, so that half of it never counts.

        initdb insists on a user with a name, which the service's own is not; the files are handed over.
        """
        account = _named_account() if self._accounts.isolating else None
        place = own_directory(self._folder / f"new.{revision.service_id}", account, self._node)
        shutil.rmtree(place / "data", ignore_errors=True)
        secret = place / "password"
        secret.unlink(missing_ok=True)
        write_private(secret, wanted.password.encode())
        if account is not None:
            os.chown(secret, account, -1, follow_symlinks=False)
        program = self.servers.usable(server, account).with_name("initdb")
        argv = (str(program), "-D", str(place / "data"), f"--username={wanted.login}", f"--pwfile={secret}")
        options = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions")
        await self._run_once(revision, (*argv, *options), place, account)
        if uid := self._accounts.uid(revision.service_id):
            await asyncio.to_thread(_hand_over, place / "data", uid)
        (place / "data").rename(self._data(revision.service_id))
        shutil.rmtree(place, ignore_errors=True)

    async def _run_once(
        self, revision: Revision, argv: tuple[str, ...], place: Path, account: int | None
    ) -> None:
        id = f"run.{revision.key}.initdb"
        await self._supervisor.forget(id)
        labels = {
            "service": revision.service_id,
            "environment": revision.environment_id,
            "deployment": revision.deployment_id,
            "revision": revision.key,
        }
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        spec = Spec(
            id=id,
            argv=argv,
            cwd=str(place),
            environment=environment,
            restart=Restart.NEVER,
            uid=account,
            gid=account,
            labels=labels,
        )
        try:
            await self._supervisor.start(spec)
            state: State = await self._supervisor.wait(id)
        except BaseException:
            await to_the_end(self._supervisor.stop(id, 1))
            raise
        if state.exit_code != 0:
            lines = tuple(line.text for line in self._supervisor.log(id, 20))
            raise StepFailed(f"initdb ended with exit code {state.exit_code}", log=lines)


def _named_account() -> int:
    """The user of Debian's package if there is one, else one that every machine has."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise StepFailed("no account to make a PostgreSQL database with", hint="add a user named postgres")


def _hand_over(folder: Path, uid: int) -> None:
    for path, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            os.chown(Path(path) / name, uid, uid, follow_symlinks=False)


def _postgres_command(program: Path, data: Path, wanted: DatabaseServer, memory: int) -> tuple[str, ...]:
    settings = {
        "listen_addresses": HOST,
        "port": str(wanted.port),
        "unix_socket_directories": "",
        "shared_buffers": f"{max(16, memory // 4)}MB",
        "log_timezone": "UTC",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return (str(program), "-D", str(data), *options)


def _redis_config(wanted: DatabaseServer, home: Path, memory: int) -> str:
    """Every write is kept; at four fifths of its memory it refuses more instead of being killed."""
    lines = (
        f"bind {HOST}",
        f"port {wanted.port}",
        f"requirepass {wanted.password}",
        f"dir {home}",
        "appendonly yes",
        'save ""',
        f"maxmemory {memory * 4 // 5}mb",
        "maxmemory-policy noeviction",
    )
    return "\n".join(lines) + "\n"


async def ping(type: str, endpoint: str, timeout: float) -> str:
    """Whether the server takes sessions; "" when it does. Nobody has to sign in for that."""
    host, _, port = endpoint.rpartition(":")
    question = _startup() if type == DatabaseType.POSTGRESQL else b"PING\r\n"
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(question)
                answer = await reader.read(1024)
            finally:
                writer.close()
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except OSError:
        return f"nothing listens on {endpoint}"
    if type == DatabaseType.POSTGRESQL:
        return "it is starting up" if _STARTING in answer or not answer else ""
    return "" if answer.startswith((b"+PONG", b"-NOAUTH")) else "it is loading its data"


def _startup() -> bytes:
    """A first message of PostgreSQL's protocol, for a user and a database that are always there."""
    body = struct.pack("!i", _PROTOCOL) + b"user\0postgres\0database\0postgres\0\0"
    return struct.pack("!i", len(body) + 4) + body
