"""Following a deployment to its end through the stream of events, whatever happens to the connection."""

import json
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import click

from refloat.cli import render
from refloat.cli.advice import awaits_port, waits_for
from refloat.cli.client import Client, Json
from refloat.cli.problems import Exit, Problem, Unreachable

if TYPE_CHECKING:
    from refloat.cli.live import LiveTree

_PATIENCE_SECONDS = 60.0
"""How long a lost server is asked again: longer than any restart takes."""
_RETRY_SECONDS = 0.5
_QUIET_SECONDS = 15.0
"""The server speaks every 5 s even when nothing happens; three times that is a dead connection."""
_BEAT_SECONDS = 5.0
_ADVICE_BEATS = 2
_TAIL = 10

_EXITS = {"SUCCESS": Exit.DONE, "CANCELED": Exit.CANCELED}


class Event(NamedTuple):
    """One event of the stream; `kind` is `status` for a change of progress, `log` otherwise."""

    cursor: int
    kind: str
    line: Json


def parse_events(lines: Iterator[str]) -> Iterator[Event | None]:
    """Server-sent events; None for a sign of life."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            yield None
        elif line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield Event(int(fields.get("id", "0")), fields.get("event", "log"), json.loads(fields["data"]))
            fields = {}


class Stream:
    """The events of one deployment, each once. A lost connection is taken up where it broke off."""

    def __init__(
        self, client: Client, path: str, deployment_id: str, deadline: float, lost: Callable[[str], None]
    ) -> None:
        self._client = client
        self._path = path
        self._deployment_id = deployment_id
        self._deadline = deadline
        self._lost = lost
        self._cursor = 0
        self._heard = time.monotonic()

    def __iter__(self) -> Iterator[Event | None]:
        while True:
            self.check_deadline()
            try:
                yield from self._connection()
            except Unreachable as error:
                self._consider(error)
            time.sleep(_RETRY_SECONDS)

    def _connection(self) -> Iterator[Event | None]:
        quiet = max(0.05, min(_QUIET_SECONDS, self._deadline - time.monotonic()))
        query: dict[str, str | int] = {"after": self._cursor, "deployment": self._deployment_id}
        with self._client.stream(self._path, quiet, **query) as lines:
            self._heard = time.monotonic()
            for event in parse_events(lines):
                self._heard = time.monotonic()
                self.check_deadline()
                if event:
                    self._cursor = event.cursor
                yield event

    def _consider(self, error: Unreachable) -> None:
        self.check_deadline()
        if time.monotonic() - self._heard > _PATIENCE_SECONDS:
            raise error
        self._lost(error.message)

    def check_deadline(self) -> None:
        """Ends the command when its time is over; the deployment goes on."""
        if time.monotonic() >= self._deadline:
            raise Problem("the time given by --timeout is over", code=Exit.TIMEOUT)


class Watch:
    """Tells one deployment until it ends. `logs` also tells its log lines, `as_json` all as NDJSON.

    `advice` is told once, when something that was started does not open its port for long.
    """

    def __init__(
        self,
        client: Client,
        environment: Json,
        deployment_id: str,
        *,
        logs: bool,
        as_json: bool,
        advice: str = "",
    ) -> None:
        self._client = client
        self._advice = advice
        self._beats = 0
        self._environment = environment
        self._deployment_id = deployment_id
        self._logs = logs
        self._as_json = as_json
        self._asked_at: datetime | None = None
        self._shown: dict[str, str] = {}
        self._tail: dict[str, deque[str]] = {}
        self._warnings: dict[str, None] = {}
        self._told = time.monotonic()
        self._tree: LiveTree | None = None

    def run(self, timeout: float | None) -> Exit:
        """Follow to the end; how it ended. Ctrl-C only stops the telling."""
        try:
            self._draw()
            return self._follow(time.monotonic() + timeout if timeout else float("inf"))
        except KeyboardInterrupt:
            self._undraw(ended=False)
            self._note(f"detached; the deployment goes on. Follow it again: {self.resume_command()}")
            return Exit.INTERRUPTED
        except Problem as problem:
            if problem.code in (Exit.TIMEOUT, Exit.UNREACHABLE):
                problem.hint = f"follow it again: {self.resume_command()}"
            raise
        finally:
            self._undraw(ended=False)

    def resume_command(self) -> str:
        """What follows this deployment again, from any shell with the same settings."""
        name = shlex.quote(self._environment["id"])
        return f"refloat logs {name} --follow --version {self._deployment_id}"

    def _follow(self, deadline: float) -> Exit:
        path = f"/refloat/environment/{self._environment['id']}/events"
        stream = Stream(self._client, path, self._deployment_id, deadline, self._lost)
        for event in stream:
            if self._tree:
                self._tree.lost("")
            if event is None:
                self._beat()
            else:
                self._tell(event)
                if event.line["details"]["stage"]["step"] == "RECAP":
                    return self._end(stream)
        raise AssertionError("the stream goes on until it raises")

    # -- telling

    def _draw(self) -> None:
        """On a terminal a tree instead of lines, unless the lines of the log are asked for."""
        if self._as_json or self._logs or not sys.stdout.isatty():
            return
        from refloat.cli import live

        if live.wanted():
            self._tree = live.LiveTree(self._client, self._environment, self._deployment_id)
            self._tree.start()

    def _undraw(self, *, ended: bool) -> None:
        """From here on there are lines again."""
        if self._tree:
            tree, self._tree = self._tree, None
            tree.stop(ended=ended)

    def _tell(self, event: Event) -> None:
        line = event.line
        at = datetime.fromisoformat(line["timestamp"][:26])
        self._asked_at = self._asked_at or at
        self._keep(line)
        if self._as_json:
            self._emit({"event": event.kind, "id": event.cursor, **line})
        elif event.kind == "status" and self._tree:
            self._shown[line["details"]["transmitter"]["name"]] = line["details"]["stage"]["step"]
            self._tree.change(line, at)
        elif event.kind == "status":
            self._tell_change(line, (at - self._asked_at).total_seconds())
        elif self._logs:
            self._say(render.log_line(line))

    def _tell_change(self, line: Json, elapsed: float) -> None:
        who, word = line["details"]["transmitter"]["name"], line["details"]["stage"]["step"]
        if self._shown.get(who) != word:
            self._shown[who] = word
            self._say(render.change(elapsed, line))

    def _keep(self, line: Json) -> None:
        """The last lines of every service, for the case that it fails."""
        tail = self._tail.setdefault(line["details"]["transmitter"]["id"], deque(maxlen=_TAIL))
        tail.append(render.log_line(line))
        if line["type"] == "warning" and line["details"]["stage"]["id"]:
            self._warnings[render.warning(line)] = None

    def _beat(self) -> None:
        if not self._as_json and time.monotonic() - self._told >= _BEAT_SECONDS - 0.5:
            self._told = time.monotonic()
            self._tell_wait(waits_for(self._client, self._deployment_id))
            self._beats += 1
            if (
                self._advice
                and self._beats >= _ADVICE_BEATS
                and awaits_port(self._client, self._deployment_id)
            ):
                self._note(self._advice)
                self._advice = ""

    def _tell_wait(self, why: str) -> None:
        if self._tree:  # which ticks by itself
            self._tree.waits(f"waits: {why}" if why else "")
        else:
            self._say(render.heartbeat(self._shown, why))

    def _lost(self, why: str) -> None:
        if self._tree:
            self._tree.lost(f"connection lost, trying again ({why})")
        elif time.monotonic() - self._told >= _BEAT_SECONDS:
            self._told = time.monotonic()
            self._note(f"connection lost, trying again ({why})")

    def _say(self, text: str) -> None:
        self._told = time.monotonic()
        click.echo(text)

    def _note(self, text: str) -> None:
        if self._tree:
            self._tree.note(text)
            return
        click.echo(f"refloat: {text}", err=True)

    def _emit(self, body: Json) -> None:
        click.echo(json.dumps(body))

    # -- the end

    def _end(self, stream: Stream) -> Exit:
        item = self._history(stream)
        self._undraw(ended=True)
        code = _EXITS.get(item["action_status"], Exit.FAILED)
        if self._as_json:
            self._emit(
                {
                    "event": "end",
                    "exit_code": int(code),
                    "outcome": click.unstyle(render.outcome(item)),
                    **item,
                }
            )
            return code
        for warning in () if self._logs else self._warnings:
            self._note(warning)
        self._say(render.outcome(item))
        failed = render.failed_service(item)
        if code is Exit.FAILED and failed and not self._logs:
            for line in self._tail.get(failed["identifier"]["service_id"], ()):
                self._say(f"  {line}")
        return code

    def _history(self, stream: Stream) -> Json:
        """The deployment's entry; the server may be restarting at this very moment."""
        began = time.monotonic()
        while True:
            try:
                return self._entry()
            except Unreachable:
                stream.check_deadline()
                if time.monotonic() - began > _PATIENCE_SECONDS:
                    raise
                time.sleep(_RETRY_SECONDS)

    def _entry(self) -> Json:
        page = self._client.get(f"/environment/{self._environment['id']}/deploymentHistoryV2", pageSize=100)
        found = [it for it in page["results"] if it["deployment_request_id"] == self._deployment_id]
        if not found:
            raise Problem("the deployment ended, but is not among the last 100 of the environment's history")
        return dict(found[0])
