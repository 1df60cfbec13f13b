"""Following a deployment on a terminal: a tree that is drawn again and again, then what became of it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import TOKEN, Installation, eventually
from tests.e2e.test_cli import simulated

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m|\x1b\[9[0-9]m")
_UP = "\x1b[1A"


class Terminal:
    """A command on a pseudo-terminal of 80 by 24; `screen` is everything it was sent so far."""

    def __init__(self, installation: Installation, *words: str, **environ: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("REFLOAT_") and k != "NO_COLOR"}
        own = {"REFLOAT_URL": f"http://127.0.0.1:{installation.port}", "REFLOAT_TOKEN": TOKEN}
        size = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        self._ours, theirs = os.openpty()
        refloat = str(Path(sys.executable).parent / "refloat")
        self.process = subprocess.Popen(
            [refloat, *words],
            env={**kept, **own, **size, **environ},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._sent = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # what a terminal says when nobody is there any more
            while data := os.read(self._ours, 65536):
                self._sent += data

    @property
    def screen(self) -> str:
        return self._sent.decode()

    @property
    def text(self) -> str:
        return _ANSI.sub("", self.screen).replace("\r", "")

    def code(self) -> int:
        """Its exit code, when all it said was read."""
        code = self.process.wait(60)
        self._reader.join()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.code()
        os.close(self._ours)


@pytest.fixture
def installation(cleared: Installation) -> Installation:
    return cleared


@contextlib.contextmanager
def terminal(installation: Installation, *words: str, **environ: str) -> Iterator[Terminal]:
    made = Terminal(installation, *words, **environ)
    try:
        yield made
    finally:
        made.close()


def test_a_terminal_shows_a_tree_that_ticks_and_then_how_many_requests_failed(
    installation: Installation,
) -> None:
    simulated(installation, "shop", "boot_seconds=1.5&build_seconds=0.3", "")
    with terminal(installation, "redeploy", "shop", "--watch") as it:
        assert it.code() == 0, it.text
        assert _UP in it.screen and _COLOUR.search(it.screen)
        assert "DEFAULT APPLICATION\n  app0  " in it.text
        assert len(set(re.findall(r"    ready +(\d\.\ds) …", it.text))) > 1, "the step ticks"
        end = it.text.rstrip().splitlines()
        assert re.search(r"  app0  DEPLOYED  \d\.\ds", end[-3]) and end[-1].startswith("done: ")
        assert "→" not in it.text, "no lines besides"


def test_a_failure_ends_with_the_diagnosis_what_serves_and_the_last_lines(installation: Installation) -> None:
    environment = simulated(installation, "shop", "boot=ok,exit")
    assert installation.roll(environment)["state"] == "DEPLOYED"
    application = installation.call("GET", f"/environment/{environment}/application")["results"][0]["id"]
    installation.variable(application, "APPLICATION", "GREETING", "evening")
    with terminal(installation, "redeploy", "shop", "--watch") as it:
        assert it.code() == 1
        end = it.text.rstrip().splitlines()
        [number] = [n for n, line in enumerate(end) if line.startswith("failed: app0 is DEPLOYMENT_ERROR: ")]
        assert "serves" in end[number]
        assert any(re.search(r"    (prepare|ready) .*failed", line) for line in end[:number])
        assert end[number + 1].startswith("  ")


def test_no_color_means_a_tree_without_colours(installation: Installation) -> None:
    simulated(installation, "shop", "boot_seconds=0.5")
    with terminal(installation, "redeploy", "shop", "--watch", NO_COLOR="1") as it:
        assert it.code() == 0
        assert _UP in it.screen and not _COLOUR.search(it.screen)


def test_a_terminal_that_cannot_be_drawn_on_gets_lines(installation: Installation) -> None:
    simulated(installation, "shop", "")
    with terminal(installation, "redeploy", "shop", "--watch", TERM="dumb") as it:
        assert it.code() == 0
        assert _UP not in it.screen and "→ app0  DEPLOYED" in it.text


@pytest.mark.usefixtures("interruptible")
def test_control_c_leaves_the_tree_and_says_how_to_come_back(installation: Installation) -> None:
    simulated(installation, "shop", "build=hang")
    with terminal(installation, "redeploy", "shop", "--watch") as it:
        eventually(lambda: "build " in it.text)
        it.process.send_signal(signal.SIGINT)
        assert it.code() == 130
        assert "Follow it again: refloat logs" in it.text
        assert it.screen.count("\x1b[?25l") == it.screen.count("\x1b[?25h") == 1, "the cursor is back"


def test_a_tree_tells_of_a_lost_server_and_goes_on_when_it_is_back(breakable: Installation) -> None:
    simulated(breakable, "shop", "build_seconds=3")
    with terminal(breakable, "redeploy", "shop", "--watch") as it:
        eventually(lambda: "build " in it.text)
        breakable.kill()
        eventually(lambda: "connection lost, trying again" in it.text)
        breakable.start()
        assert it.code() == 0, it.text
        end = it.text.rstrip().splitlines()
        assert end[-1].startswith("done: ") and "connection lost" not in "".join(end[-3:])
