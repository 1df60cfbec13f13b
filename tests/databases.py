"""The stores that tests run on: a SQLite file, and a private PostgreSQL from the machine's binaries."""

import asyncio
import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO

import pytest

from refloat.store.database import Database
from refloat.store.postgres import PostgresDatabase
from refloat.store.schema import migrate, migrate_postgres
from refloat.store.sqlite import SqliteDatabase

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
STORES = ("sqlite", "postgresql")
on_both_stores = pytest.mark.parametrize("plane", STORES, indirect=True)
"""For tests of a whole control plane."""
MUST_RUN = os.environ.get("REFLOAT_TESTS_MUST_NOT_SKIP") == "1"
_RANGES = 10
_PORTS = count(secrets.randbelow(1000))
"""Where this process looks for a free port next."""
USER, PASSWORD = "refloat", "correct-horse"
_ACCOUNT = "nobody"
"""Who runs PostgreSQL when we are root: it refuses to."""
_CONFIG = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
max_connections = 60
shared_buffers = 16MB
fsync = on
"""


def binaries() -> Path | None:
    """The newest PostgreSQL of the machine."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parent.parent.name)
    )
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class PostgresServer:
    """One server in a folder of its own, ended by its process id."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._account = _ACCOUNT if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="refloat-pg-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._template = ""
        if self._account:
            shutil.chown(self.folder, self._account)
        self._initialise()

    def _initialise(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        data = self.folder / "data"
        options = ("-U", USER, "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "-E", "UTF8")
        self._run("initdb", "-D", str(data), *options, "--locale=C.UTF-8")
        with (data / "postgresql.conf").open("a") as config:
            config.write(_CONFIG.format(port=self.port, folder=self.folder))

    def start(self) -> None:
        """Returns when it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = self._spawn("postgres", "-D", str(self.folder / "data"), output=log)
        for _ in range(600):
            if self._run("pg_isready", "-q", "-h", str(self.folder), "-p", str(self.port), check=False) == 0:
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()
        raise AssertionError((self.folder / "log").read_text())

    def crash(self) -> None:
        """End it without a checkpoint, as `-m immediate` does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
        self._process = None

    def remove(self) -> None:
        self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, *, user: str = USER, password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def database(self, *, migrated: bool = True) -> str:
        """The URL of a fresh database."""
        if not self._template:
            self._template = self._created("")
            with ThreadPoolExecutor(1) as aside:  # a loop may run here already
                aside.submit(asyncio.run, migrate_postgres(self.url(self._template))).result()
        return self.url(self._created(self._template if migrated else ""))

    def _created(self, template: str) -> str:
        name = f"test_{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return name

    def sql(self, statement: str, database: str = "postgres") -> None:
        """Execute as the superuser."""
        place = ("-h", str(self.folder), "-p", str(self.port), "-U", USER, "-d", database)
        self._run("psql", "-q", *place, "-v", "ON_ERROR_STOP=1", "-c", statement)

    def _run(self, program: str, *words: str, check: bool = True) -> int:
        with tempfile.TemporaryFile() as output:
            code = self._spawn(program, *words, output=output).wait(60)
            output.seek(0)
            assert not check or code == 0, output.read().decode()
        return code

    def _spawn(self, program: str, *words: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
        environ = {"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD, "LC_ALL": "C.UTF-8"}
        return subprocess.Popen(
            [str(self._programs / program), *words],
            user=self._account,
            extra_groups=[] if self._account else None,
            cwd=self.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_end_with_us,
        )


@dataclass(frozen=True)
class Store:
    """A migrated, empty database; it can be opened several times."""

    url: str

    @property
    def path(self) -> Path:
        return Path(self.url.removeprefix("sqlite:///"))

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite:///")

    def open(self) -> Database:
        return SqliteDatabase(self.path) if self.is_sqlite else PostgresDatabase(self.url)


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        migrate(path)
        return path.read_bytes()


def sqlite_store(folder: Path) -> Store:
    """The one in this folder; a copy of a migrated, empty one if there is none."""
    path = folder / "refloat.db"
    if not path.exists():
        path.write_bytes(_empty())
    return Store(f"sqlite:///{path}")


def make_store(request: pytest.FixtureRequest, kind: str, folder: Path) -> Store:
    """A migrated, empty database of this kind; PostgreSQL is started when it is first asked for."""
    if kind == "sqlite":
        return sqlite_store(folder)
    server: PostgresServer = request.getfixturevalue("postgres")
    return Store(server.database())


def start_postgres() -> PostgresServer:
    """A started server, or a skip that says why; in CI that is a failure."""
    programs = binaries()
    if programs is None:
        reason = "no PostgreSQL on this machine: apt-get install postgresql"
        if MUST_RUN:
            raise AssertionError(reason)
        pytest.skip(reason)
    server = PostgresServer(programs)
    with contextlib.ExitStack() as undo:
        undo.callback(server.remove)
        server.start()
        undo.pop_all()
    return server


def _end_with_us() -> None:
    """The kernel ends a server whose tests were killed and could not."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def free_port() -> int:
    """One that nothing listens on. Not of the range from which the kernel gives ports to connections, nor of
    that of our services: what is free there now may be taken before its server starts. Tests that run side by
    side have ranges of their own, and none is given twice."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _RANGES
    while True:
        port = 10_000 + worker * (10_000 // _RANGES) + next(_PORTS) % (10_000 // _RANGES)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
