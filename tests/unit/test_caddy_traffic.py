"""What access log lines mean, also when files are rotated, cut or gone."""

import json
from pathlib import Path

import pytest

from refloat.routers.base import Counts
from refloat.routers.caddy.traffic import count, mark, tally

NOTHING: frozenset[str] = frozenset()


def line(service: str = "a", status: int = 200, port: str = "1", **more: object) -> str:
    request = {"remote_ip": "127.0.0.1", "remote_port": port, "host": "a.localhost"}
    return json.dumps(
        {"service": service, "status": status, "request": request, **more}, separators=(",", ":")
    )


def answered(service: str = "a", status: int = 200) -> str:
    return line(service, status, upstream="127.0.0.1:9")


def aborted(reason: str, port: str = "1") -> str:
    fields = {"msg": "aborting with incomplete response", "error": reason}
    return line("", 0, port, **fields) + "\n" + line("a", 200, port)


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        (answered(), 0),
        (answered(status=500), 0),
        (answered(status=503), 0),
        (line(status=502, upstream="127.0.0.1:9", error="EOF"), 1),
        (line(status=503, error="not running"), 1),
        (line(status=504, upstream="127.0.0.1:9", error="i/o timeout"), 1),
        (line(status=499, upstream="127.0.0.1:9", error="context canceled"), 0),
        (aborted("reading: unexpected EOF"), 1),
        (aborted("reading: read tcp 127.0.0.1:1->127.0.0.1:9: read: connection reset by peer"), 1),
        (aborted("reading: context canceled"), 0),
        (aborted("writing: write tcp 127.0.0.1:1: broken pipe"), 0),
        (line(), 0),
    ],
)
def test_a_failure_is_what_the_edge_could_not_get_answered(text: str, failed: int) -> None:
    assert tally(text.encode(), "a") == Counts(served=1, failed=failed)


def test_other_services_and_broken_lines_are_not_counted() -> None:
    text = "\n".join([answered("b"), answered("ab"), answered()[:-20], "{", "", answered()])
    assert tally(text.encode(), "a") == Counts(served=1, failed=0)
    assert tally(answered("b").encode(), "a") is None


def test_an_abort_belongs_to_the_connection_it_happened_on() -> None:
    text = "\n".join([aborted("reading: unexpected EOF", "1"), aborted("reading: context canceled", "2")])
    assert tally(text.encode(), "a") == Counts(served=2, failed=1)


async def test_a_mark_holds_across_rotations_and_in_both_logs(tmp_path: Path) -> None:
    logs = (tmp_path / "a", tmp_path / "b")
    current = logs[0] / "access.log"
    logs[0].mkdir()
    current.write_text(answered() + "\n")
    since = mark(logs)
    append(current, answered())
    current.rename(logs[0] / "access-2026-11-24T09-00-00.000.log")
    append(current, answered())
    logs[1].mkdir()
    append(logs[1] / "access.log", answered())
    assert await count(logs, since, "a", NOTHING) == Counts(served=3, failed=0)
    assert await count(logs, mark(logs), "a", NOTHING) is None


async def test_when_the_marked_file_is_gone_all_that_is_left_counts(tmp_path: Path) -> None:
    append(tmp_path / "access.log", answered())
    since = mark([tmp_path])
    (tmp_path / "access.log").rename(tmp_path / "gone")
    append(tmp_path / "access.log", answered())
    append(tmp_path / "access.log", answered())
    assert await count([tmp_path], since, "a", NOTHING) == Counts(served=2, failed=0)


async def test_a_mark_that_never_comes_is_not_waited_for_forever(tmp_path: Path) -> None:
    append(tmp_path / "access.log", answered())
    assert await count([tmp_path], "", "a", frozenset({"/never"})) == Counts(served=1, failed=0)


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text + "\n")
