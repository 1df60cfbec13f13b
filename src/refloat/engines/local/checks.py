"""Asking an instance whether it is well: by connecting, by HTTP, or by a command run beside it.

An instance has one address, so a check without a host goes there whatever port it names: the port
people configure is the one inside a container, `$PORT` is what it stands for here.
"""

import asyncio
import contextlib
import os
import signal
import ssl
import subprocess

from refloat.domain.services import HttpCheck, Probe
from refloat.supervisor.base import Spec

_HEAD = 4096


async def ask(endpoint: str, spec: Spec, probe: Probe, timeout: float) -> str:
    """One question; "" when the instance is well, else what it answered."""
    host, _, port = endpoint.rpartition(":")
    try:
        async with asyncio.timeout(timeout):
            if probe.exec:
                return await _execute(probe.exec.command, spec)
            if probe.http:
                return await _request(host, int(port), probe.http)
            if probe.tcp and probe.tcp.host:
                host, port = probe.tcp.host, str(probe.tcp.port or port)
            return await _connect(host, int(port))
    except TimeoutError:
        return f"no answer within {timeout:g} s"


def asks_the_instance(probe: Probe) -> bool:
    """Whether it is put to what listens at the instance's endpoint."""
    return not probe.exec and not (probe.tcp and probe.tcp.host and not probe.http)


async def _connect(host: str, port: int) -> str:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return f"nothing listens on {host}:{port}"
    writer.close()
    return ""


async def _request(host: str, port: int, check: HttpCheck) -> str:
    """A GET whose status decides: 200 to 399 is well. A certificate is not verified: it is ours to trust."""
    try:
        secure = _unverified() if check.scheme.upper() == "HTTPS" else None
        reader, writer = await asyncio.open_connection(host, port, ssl=secure)
    except OSError:
        return f"nothing listens on {host}:{port}"
    try:
        path = check.path if check.path.startswith("/") else f"/{check.path}"
        head = (
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: refloat\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode())
        line = await reader.readline()
    except (OSError, ValueError):
        return "the connection broke off"
    finally:
        writer.close()
    _, _, status = line.partition(b" ")
    code = status[:3].decode("ascii", "replace")
    if not code.isdecimal():
        return "the answer is not HTTP"
    return "" if 200 <= int(code) < 400 else f"GET {path} answered {code}"


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _execute(command: tuple[str, ...], spec: Spec) -> str:
    """Run it as the instance's user, in its place and with its variables; its group ends with the check."""
    try:
        process = await asyncio.to_thread(_spawn, command, spec)
    except OSError as error:
        return f"{command[0]} cannot be run: {error.strerror}"
    try:
        await _exited(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    return "" if code == 0 else f"{command[0]} ended with exit code {code}"


def _spawn(command: tuple[str, ...], spec: Spec) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        cwd=spec.cwd,
        env=spec.environment,
        user=spec.uid,
        group=spec.gid,
        extra_groups=None if spec.uid is None else [],
        umask=spec.umask,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


async def _exited(pid: int) -> None:
    """Until the child ended; it stays a zombie, so its pid cannot mean another process yet."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
