"""The server of this machine in the background: found, started, and what it said when it does not start."""

import subprocess
import sys
import time
from enum import Enum
from pathlib import Path

import httpx

from refloat.cli import context
from refloat.cli.client import Json
from refloat.cli.problems import Exit, Problem, Unreachable
from refloat.settings import Settings
from refloat.supervisor.directories import holding, make_data_directory, private
from refloat.supervisor.occupancy import occupant

LOG = "server.log"
_LARGEST_LOG = 8 * 1024**2
_READY_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_SHOWN = 12


class Found(Enum):
    """Who answers at the API's address."""

    NOBODY = "nobody"
    REFLOAT = "a Refloat server"
    STRANGER = "something that is not Refloat"


def who_answers(url: str) -> Found:
    """One question to `/healthz`, which needs no token."""
    try:
        answer = httpx.get(f"{url}/healthz", timeout=10, trust_env=False)
        body: Json = answer.json()
        ours = answer.status_code == 200 and body["status"] == "ok" and "version" in body
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return Found.NOBODY
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return Found.STRANGER
    return Found.REFLOAT if ours else Found.STRANGER


def free_port_near(port: int) -> int:
    """A port that nobody listens on now, for a hint."""
    near = range(port + 1, min(port + 100, 65536))
    return next((candidate for candidate in near if not is_taken(candidate)), port)


def is_taken(port: int) -> bool:
    """Whether a server could not listen there now."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


class Server:
    """The server that the settings of this shell mean."""

    def __init__(self, environ: context.Environ) -> None:
        self._environ = environ
        self.settings: Settings = context.read_settings(environ)
        self.url = context.server_url({**environ, "REFLOAT_URL": ""})
        self.log = self.settings.data_dir / LOG

    def answers(self) -> bool:
        """Whether a Refloat server answers at the address of these settings."""
        return who_answers(self.url) is Found.REFLOAT

    def ensure(self) -> bool:
        """Have it running and answering; whether it had to be started."""
        try:
            make_data_directory(self.settings.data_dir)
            turn = holding(self.settings.data_dir / "up.lock")
            with turn:
                return self._ensure()
        except OSError as error:
            raise Problem(
                f"the data directory {self.settings.data_dir} cannot be written: {error.strerror}",
                hint="choose another one by REFLOAT_DATA_DIR",
            ) from None

    def _ensure(self) -> bool:
        found, pid = who_answers(self.url), occupant(self.settings.data_dir)
        if found is Found.REFLOAT and pid:
            return False
        if found is not Found.NOBODY:
            self._refuse(found)
        if pid:
            self._await_other(pid)
            return False
        self._start()
        return True

    def _refuse(self, found: Found) -> None:
        port = self.settings.port
        free = free_port_near(port)
        other = f"REFLOAT_PORT={free} refloat up"
        http = self.settings.http_port
        if found is Found.REFLOAT and is_taken(http):  # its edge is there, too
            other = f"REFLOAT_HTTP_PORT={free_port_near(max(http, free))} {other}"
        if found is Found.REFLOAT:
            raise Problem(
                f"the Refloat server at {self.url} is not the one of {self.settings.data_dir}",
                hint=f"start a second one by {other}; or use that one by REFLOAT_URL and REFLOAT_TOKEN",
            )
        raise Problem(
            f"port {port} is used by {found.value}", hint=f"stop it, or choose another port: {other}"
        )

    def _await_other(self, pid: int) -> None:
        """It may be starting this very moment; or it listens elsewhere than this shell thinks."""
        deadline = time.monotonic() + _READY_SECONDS / 4
        while time.monotonic() < deadline and occupant(self.settings.data_dir) == pid:
            if who_answers(self.url) is Found.REFLOAT:
                return
            time.sleep(_LOOK_SECONDS)
        raise Unreachable(
            f"the server of {self.settings.data_dir} (process {pid}) does not answer at {self.url}",
            hint="set REFLOAT_PORT to the port it was started with, or end it: refloat down",
        )

    def _start(self) -> None:
        self._shorten_log()
        with open(self.log, "ab", opener=private) as log:
            begin = log.tell()
            process = subprocess.Popen(
                command(),
                cwd="/",
                env=self._variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            if self._is_ready(process):
                return
        except KeyboardInterrupt:
            raise Problem(
                "interrupted; the server goes on starting",
                hint="`refloat up` goes on with it, `refloat down` ends it",
                code=Exit.INTERRUPTED,
            ) from None
        why = f"ended with {process.returncode}" if process.poll() is not None else "is not ready"
        if process.poll() is None:
            process.terminate()
        raise self._not_started(why, begin)

    def _is_ready(self, process: "subprocess.Popen[bytes]") -> bool:
        """Waits until it answers, ended, or took too long."""
        deadline = time.monotonic() + _READY_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if who_answers(self.url) is Found.REFLOAT:
                return True
            time.sleep(_LOOK_SECONDS)
        return False

    def _not_started(self, why: str, begin: int) -> Problem:
        with open(self.log, "rb") as log:
            log.seek(begin)
            lines = log.read().decode(errors="replace").splitlines()[-_SHOWN:]
        said = "".join(f"\n  | {line}" for line in lines) or "\n  | (it said nothing)"
        return Problem(f"the server {why}; its last words:{said}", hint=f"its whole log is {self.log}")

    def _variables(self) -> dict[str, str]:
        kept = {k: v for k, v in self._environ.items() if not k.startswith("REFLOAT_")}
        return kept | settings_variables(self._environ, self.settings)

    def _shorten_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))


def command() -> list[str]:
    """How a server is started by this very interpreter, wherever it is started from."""
    return [sys.executable, "-P", "-m", "refloat", "serve"]


_FILES = {"REFLOAT_SECRET_KEY_FILE", "REFLOAT_TLS_CERT", "REFLOAT_TLS_KEY", "REFLOAT_ACME_ROOTS"}


def settings_variables(environ: context.Environ, settings: Settings) -> dict[str, str]:
    """The settings this shell has as variables that mean the same in another folder."""
    given = context.given_settings(environ)
    given["REFLOAT_DATA_DIR"] = str(settings.data_dir)
    if "REFLOAT_NODE_DIR" in given:
        given["REFLOAT_NODE_DIR"] = str(settings.node_dir)
    if settings.secret_key_file:
        given["REFLOAT_SECRET_KEY_FILE"] = settings.secret_key_file
    if "/" in given.get("REFLOAT_CADDY", ""):
        given["REFLOAT_CADDY"] = str(Path(given["REFLOAT_CADDY"]).absolute())
    for name in _FILES & given.keys():
        given[name] = str(Path(given[name]).absolute())
    if given.get("REFLOAT_DATABASE_URL", "").startswith("sqlite:///"):
        path = Path(given["REFLOAT_DATABASE_URL"].removeprefix("sqlite:///")).absolute()
        given["REFLOAT_DATABASE_URL"] = f"sqlite:///{path}"
    return given
