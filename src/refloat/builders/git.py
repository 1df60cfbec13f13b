"""Running git: one command at a time per service, in an environment of our own, with a deadline.

The git process holds an inherited lock on the service's cache. So whatever a killed control plane left
behind is found (the lock is taken), ended (its process group is written in the lock file), and the
files it left half-written can be removed without a doubt: nobody else is there.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from refloat.builders.groups import end_group, start, take
from refloat.builders.remotes import Remote, addresses, redact
from refloat.domain.errors import BuildFailed, Unavailable

PASSED = (
    "GIT_SSL_CAINFO", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "SSH_AUTH_SOCK",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy",
)  # fmt: skip
"""Variables of the server that git needs to reach the outside; nothing else of it is passed on."""

CONFIG = {
    "gc.auto": "0",
    "maintenance.auto": "false",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "advice.detachedHead": "false",
    "fetch.unpackLimit": "1",
    "core.bigFileThreshold": "16m",  # larger files are streamed, so that one packed small costs no memory
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
}
HELPER = (
    '!f() { test "$1" = get && '
    'printf "username=%s\\npassword=%s\\n" "$REFLOAT_GIT_USER" "$REFLOAT_GIT_WORD"; }; f'
)
"""A credential helper that reads them from git's own environment: neither a file nor an argument."""

OUTPUT = 64 * 1024**2
"""Bytes that one git command may print: of a listing that is some 200,000 files. A few small objects can
stand for endlessly many files, so this is bounded while it is read."""

_BOUNDED = 'printf %-40s "$$ $1" 1<>lock && shift && trap "" XFSZ && ulimit -f "$0" && exec git "$@"'
"""Writes itself and its owner into the lock file, as only the command can: its owner may be killed before
it is told the pid. Bounds the files git writes; the signal is ignored so that git says why it failed."""


class Result(msgspec.Struct, frozen=True):
    """How a git command ended. `error` is what it wrote to stderr, without credentials."""

    code: int
    output: bytes
    error: str

    @property
    def text(self) -> str:
        return self.output.decode("utf-8", "replace")


class TooMuchOutput(BuildFailed):
    """A git command printed more than OUTPUT bytes and was ended."""


class Git:
    """The git command on the bare cache of one service.

    `size_limit` in bytes bounds every file that git writes, hence a fetched pack.
    """

    def __init__(self, home: Path, *, local_sources: bool, size_limit: int) -> None:
        self.home = home
        self.cache = home / "cache"
        self.local_sources = local_sources
        self.size_limit = size_limit
        self._turn = asyncio.Lock()
        self._fd = -1

    @asynccontextmanager
    async def exclusive(self, deadline: float = 60) -> AsyncIterator[None]:
        """The cache, alone: in this process by a lock, on this machine by a file that git inherits."""
        async with self._turn:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                await take(self._fd, deadline)
                self._tidy()
                await self._prepare()
                yield
            finally:
                os.close(self._fd)
                self._fd = -1

    async def run(
        self,
        *args: str,
        remote: Remote | None = None,
        deadline: float = 60,
        index: Path | None = None,
        stdin: bytes | None = None,
    ) -> Result:
        """Run git on the cache; raises BuildFailed at the deadline or the bound. Only inside `exclusive`."""
        environment = self._environment(index) | (await self._reach(remote) if remote else {})
        argv = ("-c", _BOUNDED, str(self.size_limit // 512), str(os.getpid()), *args)
        os.pwrite(self._fd, b" " * 40, 0)  # a full disk is met here, before anything runs
        process = await start(
            "/bin/sh",
            *argv,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=self.home,
            pass_fds=(self._fd,),
        )
        try:
            async with asyncio.timeout(deadline):
                output, error = await _communicate(process, stdin)
        except TimeoutError:
            where = f" from {remote.shown}" if remote else ""
            raise BuildFailed(f"git {args[0]}{where} did not finish within {deadline:.0f} s") from None
        finally:
            await end_group(process)
        return Result(process.returncode or 0, output, redact(error.decode("utf-8", "replace")).strip())

    async def renew(self) -> None:
        """An empty cache in place of this one."""
        await asyncio.to_thread(shutil.rmtree, self.cache, ignore_errors=True)
        await self._prepare()

    async def _prepare(self) -> None:
        if (self.cache / "HEAD").exists():
            return
        shutil.rmtree(self.cache, ignore_errors=True)
        made = await self.run("init", "--quiet", "--bare", "--template=", str(self.cache))
        if made.code:
            raise Unavailable(f"git cannot make a cache in {self.cache}: {made.error}")

    def _tidy(self) -> None:
        """Remove what a killed git left: with the lock held, every lock file is stale."""
        stale = [
            *self.cache.glob("*.lock"),
            *self.cache.glob("refs/**/*.lock"),
            *self.cache.glob("objects/pack/tmp_*"),
        ]
        for path in stale:
            path.unlink(missing_ok=True)

    def _environment(self, index: Path | None) -> dict[str, str]:
        if shutil.which("git") is None:
            raise Unavailable("git is not installed", hint="install git on the machine of this server")
        allowed = "https:ssh" + (":http:git:file" if self.local_sources else "")
        own = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.home),
            "LC_ALL": "C",
            "GIT_DIR": str(self.cache),
            "GIT_ALLOW_PROTOCOL": allowed,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self.home / "config"),
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_SSH_COMMAND": self._ssh(),
        }
        own |= {name: os.environ[name] for name in PASSED if name in os.environ}
        return own | ({"GIT_INDEX_FILE": str(index)} if index else {}) | _as_variables(CONFIG)

    def _ssh(self, *more: str) -> str:
        known = f'UserKnownHostsFile="{self.home / "known_hosts"}" ~/.ssh/known_hosts'
        options = (
            "BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=15", "ServerAliveCountMax=3",
            "StrictHostKeyChecking=accept-new", "ForwardAgent=no", "ControlPath=none", *more,
        )  # fmt: skip
        return f"ssh -o '{known}' " + " ".join(f"-o {option}" for option in options)

    async def _reach(self, remote: Remote) -> dict[str, str]:
        """What this one address needs: ownership waived for its path, its credentials, its addresses."""
        config = dict(CONFIG)
        extra: dict[str, str] = {}
        if remote.path:
            self._waive_ownership(remote.path)
        if remote.password or remote.username:
            scope = remote.url.split("/", 3)
            config[f"credential.{'/'.join(scope[:3])}.helper"] = HELPER
            extra |= {"REFLOAT_GIT_USER": remote.username, "REFLOAT_GIT_WORD": remote.password}
        if remote.host and not self.local_sources:
            extra |= await self._pin(remote, config)
        return extra | _as_variables(config)

    async def _pin(self, remote: Remote, config: dict[str, str]) -> dict[str, str]:
        """Refuse private addresses, forbid redirects, and connect only to the addresses looked at."""
        config["http.followRedirects"] = "false"
        if remote.scheme == "https" and (os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")):
            return {}
        found = await asyncio.to_thread(addresses, remote, local_sources=False)
        if remote.scheme == "ssh":
            return {"GIT_SSH_COMMAND": self._ssh(f"HostName={found[0]}", f"HostKeyAlias={remote.host}")}
        plain = ",".join(f"[{address}]" if ":" in address else address for address in found)
        config["http.curloptResolve"] = f"{remote.host}:{remote.port}:{plain}"
        return {}

    def _waive_ownership(self, path: str) -> None:
        """A repository of another user is meant when its path is given. git reads this only from a file."""
        real = os.path.realpath(path)
        names = dict.fromkeys(p + end for p in (path, real) for end in ("", "/.git", ".git"))
        quoted = (name.replace("\\", "\\\\").replace('"', '\\"') for name in names)
        text = "[safe]\n" + "".join(f'\tdirectory = "{name}"\n' for name in quoted)
        (self.home / "config").write_text(text)


async def _communicate(process: asyncio.subprocess.Process, stdin: bytes | None) -> tuple[bytes, bytes]:
    """What it prints until it ends; raises TooMuchOutput as soon as that is clear."""
    assert process.stdout is not None and process.stderr is not None
    reading = [asyncio.ensure_future(_bounded(pipe)) for pipe in (process.stdout, process.stderr)]
    try:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(stdin or b"")
                await process.stdin.drain()
            process.stdin.close()
        output, error = await asyncio.gather(*reading)
        await process.wait()
    finally:
        for task in reading:
            task.cancel()
    return output, error


async def _bounded(pipe: asyncio.StreamReader) -> bytes:
    chunks: list[bytes] = []
    left = OUTPUT
    while chunk := await pipe.read(65536):
        chunks.append(chunk)
        left -= len(chunk)
        if left < 0:
            raise TooMuchOutput(f"git printed more than {OUTPUT // 1024**2} MB")
    return b"".join(chunks)


def _as_variables(config: Mapping[str, str]) -> dict[str, str]:
    """Configuration for one call, as git takes it from the environment: no process list shows it."""
    variables = {"GIT_CONFIG_COUNT": str(len(config))}
    for number, (key, value) in enumerate(config.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return variables
