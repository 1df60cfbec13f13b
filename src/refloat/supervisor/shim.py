"""Keeps one process running and ends its whole tree; outlives whoever started it.

Run as `python -I -S shim.py DIR [FD...]`. Only the standard library, one file: it is copied into the node
directory, and a copy goes on running after an upgrade, so what is on disk carries a format number. The
descriptors stay open until it is over, and are not the process's.

    DIR/spec.json    what to run, 0600: it may hold secrets
    DIR/lock         an flock held for life: whether the shim is alive, whatever became of its pid
    DIR/state.json   what became of the process; replaced atomically
    DIR/ctl.sock     JSON lines {"op": "status" | "signal" | "stop" | "wait"}; closes when the shim ends
    DIR/log/current  lines `<UTC time> <out|err|shim> <text>`; older files are current.1, current.2, …
"""

# ruff: noqa: PTH105, PTH110, PTH208, SIM115  (pathlib would cost a fifth of the start-up time)

import ctypes
import fcntl
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn

FORMAT = 1
CHUNK, LINE = 65536, 16384
FIRST_PAUSE, LONGEST_PAUSE, HEALTHY_AFTER = 0.5, 30.0, 10.0
NOT_RUNNABLE, NOT_FOUND = 126, 127
OVER = ("exited", "stopped")
PR_SET_CHILD_SUBREAPER = 36


class Tree:
    """Every process of a spec: its control groups' members, descendants of `root`, carriers of its marks.

    While the shim lives, all are its descendants: it is their subreaper. Later, groups and marks tell.
    """

    def __init__(self, spec: dict[str, Any], root: int = -1) -> None:
        self._groups, self._freezer, self._root = spec["groups"], spec["freezer"], root
        self._marks = {mark.encode() for mark in spec["marks"]}

    def members(self) -> set[int]:
        """Zombies do not count: they run nothing."""
        family, parents = {self._root}, {}
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with suppress(OSError):
                state, parent = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[:2]
                if state not in (b"Z", b"X"):
                    parents[pid] = int(parent)
                    if self._marks <= set(read(f"/proc/{pid}/environ").split(b"\0")):
                        family.add(pid)
        for group in self._groups:
            with suppress(OSError):
                family.update(map(int, read(f"{group}/cgroup.procs").split()))
        while born := {pid for pid in parents if pid not in family and parents[pid] in family}:
            family |= born
        return (family & parents.keys()) - {self._root, os.getpid()}

    def signal(self, number: int) -> set[int]:
        members = self.members()
        for pid in members:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        return members

    def kill(self) -> None:
        """KILL all, and what they forked meanwhile; a frozen group cannot fork away from it."""
        write(self._freezer["file"], self._freezer["on"])
        seen: set[int] = set()
        while born := self.signal(signal.SIGKILL) - seen:
            seen |= born
        write(self._freezer["file"], self._freezer["off"])


class Log:
    """Lines on disk: bounded in length, file size and number of files, whatever the process writes."""

    def __init__(self, path: str, size: int, files: int) -> None:
        self._limit = size
        self._names = [path, *(f"{path}.{number}" for number in range(1, files))]
        self._rest: dict[str, bytes] = {}
        self._file = open(path, "ab", 0)

    def feed(self, stream: str, data: bytes) -> None:
        *lines, rest = (self._rest.pop(stream, b"") + data).split(b"\n")
        if len(rest) >= LINE:
            lines, rest = [*lines, rest], b""
        self._rest[stream] = rest
        prefix = f"{utc()} {stream} ".encode()
        pieces = [line[at : at + LINE] for line in lines for at in range(0, len(line) or 1, LINE)]
        records = [prefix + piece.removesuffix(b"\r") + b"\n" for piece in pieces]
        for at in range(0, len(records), 64):
            with suppress(OSError):  # a full disk loses lines, never the process
                self._file.write(b"".join(records[at : at + 64]))
            if self._file.tell() >= self._limit:
                self._rotate()

    def say(self, text: str) -> None:
        for stream in [stream for stream, rest in self._rest.items() if rest]:
            self.feed(stream, b"\n")
        self.feed("shim", f"{text}\n".encode())

    def _rotate(self) -> None:
        with suppress(OSError):  # where no new file can be made, the old one goes on
            for older, newer in zip(self._names[:0:-1], self._names[-2::-1], strict=True):
                if os.path.exists(newer):
                    os.replace(newer, older)
            self._file = open(self._names[0], "wb", 0)


class Shim:
    """The life of one process: started, watched, started again after a pause, ended."""

    def __init__(self, spec: dict[str, Any], kept: list[int]) -> None:
        self._spec, self._tree, self._kept = spec, Tree(spec, os.getpid()), kept
        self._log = Log("log/current", spec["log_bytes"], spec["log_files"])
        self._state: dict[str, Any] = {"format": FORMAT, "id": spec["id"], "shim": os.getpid()}
        self._state |= {"status": "starting", "pid": 0, "restarts": 0, "exit_code": None, "started_at": None}
        self._selector = selectors.DefaultSelector()
        self._watch = partial(self._selector.register, events=selectors.EVENT_READ)
        self._outputs: dict[str, tuple[int, int]] = {}
        self._childless, self._outcome = True, "stopped"
        self._pause, self._since, self._due = FIRST_PAUSE, 0.0, 0.0

    def run(self) -> None:
        self._listen()
        self._spawn()
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)  # the supervisor waits until our output closes
        while self._state["status"] not in OVER:
            left = min(0.1, max(0.0, self._due - time.monotonic()))
            for key, _ in self._selector.select(None if self._state["status"] == "running" else left):
                key.data(key.fileobj)
            self._reap()
            self._advance()

    def _listen(self) -> None:
        """Signals, output and requests all wake the one loop; nothing happens inside a signal handler."""
        wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        self._watch(wake, data=lambda _: self._stop() if signal.SIGTERM in os.read(wake, CHUNK) else None)
        for stream in ("out", "err"):
            self._outputs[stream] = readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            os.set_blocking(writable, True)
            if os.geteuid() == 0 and self._spec["uid"] is not None:  # so that it may open /dev/stdout
                os.fchown(writable, self._spec["uid"], -1)
            self._watch(readable, data=partial(self._read, stream))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("ctl.sock")
        listener.listen(64)
        self._watch(listener, data=lambda _: self._watch(listener.accept()[0], data=self._answer))

    def _read(self, stream: str, readable: int, chunks: int = 1) -> None:
        with suppress(BlockingIOError):
            for _ in range(chunks):
                self._log.feed(stream, os.read(readable, CHUNK))

    def _set(self, **changes: Any) -> None:
        self._state |= changes
        while self._kept and self._state["status"] in OVER:  # whoever is told of the end may have them
            os.close(self._kept.pop())
        with suppress(OSError):  # a full disk: whoever asks through the socket still learns it
            with open("state.tmp", "w") as file:
                json.dump(self._state, file)
            os.replace("state.tmp", "state.json")

    def _spawn(self) -> None:
        reason, failing = os.pipe()
        self._since, self._childless, pid = time.monotonic(), False, os.fork()
        if pid == 0:
            self._become(failing)
        os.close(failing)
        self._set(status="running", pid=pid, started_at=utc())
        if complaint := read(reason).decode():  # at its end exec has happened, or said why not
            self._log.say(complaint)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            self._set(status="exited", pid=0, exit_code=code)

    def _become(self, failing: int) -> NoReturn:
        spec, doing, code = self._spec, "prepare the process", NOT_RUNNABLE
        try:
            os.setsid()
            for each in signal.valid_signals():  # by Python, or by the script that began the server with &
                if signal.getsignal(each) == signal.SIG_IGN:
                    signal.signal(each, signal.SIG_DFL)
            for group in spec["groups"]:
                write(f"{group}/cgroup.procs", "0")
            ends = os.open(os.devnull, os.O_RDONLY), self._outputs["out"][1], self._outputs["err"][1]
            for number, end in enumerate(ends):
                os.dup2(end, number)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.umask(spec["umask"])
            if spec["uid"] is not None:
                os.setgroups([])
                os.setresgid(*[spec["gid"]] * 3)
                os.setresuid(*[spec["uid"]] * 3)
            doing = f"enter the directory {spec['cwd']!r}"
            os.chdir(spec["cwd"])
            doing, code = f"run {spec['argv'][0]!r}", NOT_FOUND
            os.execvpe(spec["argv"][0], spec["argv"], spec["environment"])
        except Exception as error:
            code = code if isinstance(error, FileNotFoundError) else NOT_RUNNABLE
            text = "command not found" if code == NOT_FOUND else getattr(error, "strerror", error)
            os.write(failing, f"cannot {doing}: {text}".encode())
        finally:
            os._exit(code)

    def _reap(self) -> None:
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._state["pid"]:
                    self._ended(os.waitstatus_to_exitcode(ended[1]))
        except ChildProcessError:
            self._childless = True

    def _ended(self, code: int) -> None:
        """At a stop the rest of the tree keeps its grace; else it is killed before anything is started."""
        code, now = code if code >= 0 else 128 - code, time.monotonic()
        self._state |= {"pid": 0, "exit_code": code}
        self._drain()
        self._log.say(f"ended with exit code {code} after {now - self._since:.1f} s")
        if self._state["status"] != "stopping" and self._spec["restart"] == "never":
            self._state["status"], self._outcome, self._due = "stopping", "exited", now
        elif self._state["status"] != "stopping":
            self._tree.kill()
            self._pause = FIRST_PAUSE if now - self._since >= HEALTHY_AFTER else self._pause
            self._due, self._pause = now + self._pause, min(LONGEST_PAUSE, self._pause * 2)
            self._set(status="backoff", restarts=self._state["restarts"] + 1)

    def _stop(self, grace: float | None = None) -> None:
        """TERM to the whole tree; what is left after the grace gets KILL. Again: the shorter counts."""
        due = time.monotonic() + (self._spec["grace_seconds"] if grace is None else grace)
        if self._state["status"] != "stopping":
            self._due = due
            self._set(status="stopping")
            self._tree.signal(signal.SIGTERM)
        self._due = min(self._due, due)

    def _advance(self) -> None:
        status, now = self._state["status"], time.monotonic()
        if status == "stopping" and self._childless and not self._tree.members():
            self._drain()
            self._set(status=self._outcome)
        elif status == "stopping" and now >= self._due:
            self._tree.kill()
            self._due = now + 0.1
        elif status == "backoff" and now >= self._due:
            self._spawn()

    def _drain(self) -> None:
        for stream, (readable, _) in self._outputs.items():
            self._read(stream, readable, 32)

    def _answer(self, client: socket.socket) -> None:
        """The state at once; the connection then lasts as long as we do. Nothing to read: they hung up."""
        try:
            request = json.loads(client.recv(CHUNK))
            if request["op"] == "stop":
                self._stop(request.get("grace"))
            elif request["op"] == "signal" and self._state["pid"]:
                os.kill(self._state["pid"], request["signal"])
            client.send(json.dumps(self._state).encode() + b"\n", socket.MSG_DONTWAIT)
        except (OSError, ValueError, TypeError, KeyError):
            self._selector.unregister(client)
            client.close()


def read(file_or_path: str | int) -> bytes:
    with open(file_or_path, "rb") as file:
        return file.read()


def write(path: str, text: str) -> None:
    with suppress(OSError), open(path, "w") as file:  # control groups may vanish
        file.write(text)


def utc() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def main(folder: str, kept: list[int]) -> None:
    """Detach from the caller, who waits only until our standard output closes."""
    if os.fork():
        os._exit(0)
    for descriptor in kept:
        os.set_inheritable(descriptor, False)
    os.umask(0o077)
    os.chdir(folder)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    lock = os.open("lock", os.O_CREAT | os.O_RDWR, 0o600)
    signal.alarm(1)  # a second shim ends here; others who look at the lock hold it for an instant only
    fcntl.flock(lock, fcntl.LOCK_EX)
    signal.alarm(0)
    Shim(json.loads(read("spec.json")), kept).run()


if __name__ == "__main__":
    main(sys.argv[1], [int(descriptor) for descriptor in sys.argv[2:]])
