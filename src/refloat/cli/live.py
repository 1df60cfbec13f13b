"""The tree of a deployment on a terminal, drawn anew four times a second.

The stream of events tells states; steps are read from the journal by a thread of its own, because the
stream is silent between them. What cannot be read is asked for again: the stream tells of a lost server.
"""

import contextlib
import os
import sys
import threading
import time
from datetime import datetime
from textwrap import wrap

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from refloat.cli.client import Client, Json
from refloat.cli.problems import Problem
from refloat.cli.progress import Progress

_LOOK_SECONDS = 0.5
_DRAWN_A_SECOND = 4
_KEPT_FREE = 3
"""Lines of the terminal below the tree."""


def wanted() -> bool:
    """Whether there is a terminal that can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


class LiveTree:
    """Drawn from `start` to `stop`; what it showed last stays."""

    def __init__(self, client: Client, environment: Json, deployment_id: str) -> None:
        self._client = client
        self._path = f"/environment/{environment['id']}"
        self._deployment_id = deployment_id
        self._progress = Progress(self._stages())
        self._lock = threading.Lock()
        self._note = self._lost = self._waits = ""
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read_on, daemon=True)
        self._console = Console(highlight=False)
        self._live = Live(
            console=self._console,
            get_renderable=self._drawn,
            refresh_per_second=_DRAWN_A_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self) -> None:
        self._live.start()
        self._reader.start()

    def stop(self, *, ended: bool) -> None:
        """Of a deployment that ended the last steps are drawn, too; whoever leaves before need not wait."""
        self._over.set()
        if ended:
            self._look()
        self._note = self._lost = self._waits = ""
        self._live.stop()

    def change(self, line: Json, at: datetime) -> None:
        with self._lock:
            self._progress.change(line, at, time.monotonic())

    def note(self, text: str) -> None:
        """A line below the tree."""
        self._note = text

    def waits(self, text: str) -> None:
        """Lines below the tree that say why nothing goes on, until `waits("")`."""
        self._waits = text

    def lost(self, text: str) -> None:
        """A line below the tree until the server is heard again, which is `lost("")`."""
        self._lost = text

    def _stages(self) -> list[str]:
        with contextlib.suppress(Problem):
            return [it["name"] for it in self._client.get(f"{self._path}/deploymentStage")["results"]]
        return []

    def _read_on(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        with contextlib.suppress(Problem):
            journal = self._client.get(f"/refloat{self._path}/journal", version=self._deployment_id)
            with self._lock:
                self._progress.journal(journal["results"], time.monotonic())

    def _drawn(self) -> Text:
        told = [it for it in (self._waits, self._note, self._lost) if it]
        notes = [line for it in told for line in wrap(it, self._console.width)]
        with self._lock:
            lines = self._progress.lines(time.monotonic(), self._console.height - _KEPT_FREE - len(notes))
        if not lines:
            lines = ["waiting …"]
        shown = [*lines, *(click.style(it, fg="yellow") for it in notes)]
        return Text.from_ansi("\n".join(shown), no_wrap=True, overflow="ellipsis")
