"""The command line without a server: what it prints, how it ends, what it loads."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner

from refloat.cli import client, render, watch
from refloat.cli.main import main
from refloat.cli.problems import Exit, Problem, Unreachable
from refloat.cli.watch import parse_events

SERVICE = {
    "service_id": "1",
    "name": "api",
    "change": "replace",
    "causes": ["cpu", "variable GREETING"],
    "interruption": None,
    "expected_seconds": 2.34,
}
PLAN = {
    "stages": [
        {"name": "BACKEND", "services": [SERVICE]},
        {
            "name": "FRONTEND",
            "services": [
                {
                    **SERVICE,
                    "name": "web",
                    "change": "recreate",
                    "interruption": {"reason": "its storage can be held once"},
                    "expected_seconds": None,
                }
            ],
        },
    ],
    "omitted": [{"service_id": "3", "name": "old", "reason": "skipped"}],
    "hash": "abcd",
}


def of_service(status: str, **more: Any) -> dict[str, Any]:
    own = {"identifier": {"name": "api", "service_id": "1"}, "status": status}
    return {**own, "reason": None, "swap": None, **more}


def ended(action_status: str, *services: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"action_status": action_status, "reason": reason, "stages": [{"services": list(services)}]}


def run(*words: str, **environ: str) -> tuple[int, str, str]:
    kept = {"REFLOAT_TOKEN": "t", "REFLOAT_URL": "http://127.0.0.1:9", **environ}
    result = CliRunner().invoke(main, list(words), env=kept)
    return result.exit_code, result.stdout, result.stderr


# -- what is printed


def test_the_plan_is_a_table_with_its_hash() -> None:
    lines = click.unstyle(render.plan(PLAN, "shop")).splitlines()
    assert lines[0].split() == ["STAGE", "SERVICE", "CHANGE", "CAUSES", "INTERRUPTION", "EXPECTED"]
    assert lines[1].split("  ")[0] == "BACKEND"
    assert "cpu, variable GREETING" in lines[1] and lines[1].endswith("2.3s")
    assert "its storage can be held once" in lines[2] and lines[2].endswith("-")
    assert lines[3:] == [
        "left alone: old (skipped)",
        "plan abcd",
        "do exactly this: refloat redeploy shop --if-plan abcd --watch",
    ]


def test_columns_are_as_wide_as_they_look() -> None:
    text = render.table([[click.style("a", fg="red"), "x"], ["bbb", "y"]])
    assert click.unstyle(text) == "a    x\nbbb  y"


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.04, "0.0s"), (59.9, "59.9s"), (83, "1m23s")])
def test_durations_are_short(value: float | None, text: str) -> None:
    assert render.seconds(value) == text


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (
            ended(
                "SUCCESS",
                of_service("DEPLOYED", swap={"served": 40, "failed": 0, "undrained": 0}),
                of_service("DEPLOYED", swap={"served": 2, "failed": 0, "undrained": 0}),
                of_service("DEPLOYED", swap={"traffic": "no traffic", "undrained": 0}),
            ),
            "done: 0 of 42 requests failed",
        ),
        (
            ended("SUCCESS", of_service("DEPLOYED", swap={"served": 9, "failed": 1, "undrained": 2})),
            "done: 1 of 9 requests failed, 2 still open at the end of the drain time",
        ),
        (ended("SUCCESS", of_service("DEPLOYED")), "done: no traffic"),
        (ended("CANCELED", reason="asked for"), "canceled: asked for"),
        (
            ended(
                "ERROR",
                of_service("CANCELED", reason="another failed"),
                of_service("BUILD_ERROR", reason="no Procfile"),
            ),
            "failed: api is BUILD_ERROR: no Procfile",
        ),
        (ended("ERROR", reason="the plan cannot be made"), "failed: the plan cannot be made"),
        (ended("ERROR"), "failed: the server gives no reason"),
    ],
)
def test_the_outcome_is_one_line(item: dict[str, Any], text: str) -> None:
    assert click.unstyle(render.outcome(item)) == text


def test_a_heartbeat_names_what_has_not_ended() -> None:
    assert click.unstyle(render.heartbeat({})).strip() == "…  still waiting"
    told = render.heartbeat({"a": "DEPLOYED", "b": "BUILDING", "c": "BUILD_ERROR"})
    assert click.unstyle(told).strip() == "…  still b BUILDING"


# -- errors


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(409, json={"message": "stale", "hint": "read again"}), ("stale", "read again")),
        (httpx.Response(400, json={"detail": "wrong"}), ("wrong", "")),
        (httpx.Response(502, text="<html>"), ("the server answered 502 Bad Gateway", "")),
        (httpx.Response(500, json=[]), ("the server answered 500 Internal Server Error", "")),
    ],
)
def test_error_words_come_from_the_answer(answer: httpx.Response, words: tuple[str, str]) -> None:
    assert client.error_words(answer) == words


def test_a_hint_has_its_own_line() -> None:
    assert Problem("no", hint="try").words() == "refloat: no\n  hint: try"
    assert Problem("no").words() == "refloat: no"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("status", "x", "y"),
        ("env", "delete"),
        ("redeploy", "x", "--timeout", "3"),
        ("logs", "x", "--timeout", "3"),
        ("redeploy", "x", "--watch", "--timeout", "0"),
        ("token", "create", "ci", "--organization", "o", "--role", "king"),
    ],
)
def test_wrong_usage_is_64(words: tuple[str, ...]) -> None:
    code, out, _ = run(*words)
    assert (code, out) == (64, "")


def test_a_wrong_url_is_wrong_usage() -> None:
    code, _, err = run("status", "x", REFLOAT_URL="127.0.0.1:80")
    assert code == 64 and "REFLOAT_URL" in err and "Traceback" not in err


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "ftp://proxy:1"])
def test_a_proxy_that_is_not_spoken_is_told_and_none_leads_to_this_machine(proxy: str) -> None:
    elsewhere = "http://refloat.example.org"
    code, _, err = run("status", "x", REFLOAT_URL=elsewhere, ALL_PROXY=proxy, all_proxy=proxy)
    assert code == 1 and "through the proxy" in err and "NO_PROXY=refloat.example.org" in err
    code, _, err = run("status", "x", REFLOAT_URL=elsewhere, HTTP_PROXY="http://127.0.0.1:9", http_proxy="")
    assert code == 4 and "through the proxy of HTTP_PROXY; NO_PROXY=refloat.example.org" in err
    code, _, err = run("status", "x", ALL_PROXY=proxy, all_proxy=proxy)
    assert code == 4 and "http://127.0.0.1:9 does not answer" in err


def test_nobody_listening_is_4() -> None:
    code, out, err = run("status", "x")
    assert (code, out) == (4, "") and "http://127.0.0.1:9 does not answer" in err and "hint:" in err


def test_a_server_elsewhere_that_is_silent_is_not_one_that_up_would_start() -> None:
    code, _, err = run("status", "x", REFLOAT_URL="http://refloat.invalid", REFLOAT_TOKEN="t")
    assert code == 4 and "check the address" in err and "REFLOAT_URL" in err and "refloat up" not in err


def test_a_wrong_setting_is_one_line_with_a_hint() -> None:
    code, _, err = run("status", "x", REFLOAT_URL="", REFLOAT_PORT="many")
    assert code == 1 and err.startswith("refloat: REFLOAT_PORT is 'many'") and "hint:" in err
    code, _, err = run("serve", REFLOAT_PORT="many")
    assert code == 1 and err.startswith("refloat: REFLOAT_PORT is 'many'")


def test_an_unwritable_data_directory_is_told_by_serve(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run("serve", REFLOAT_DATA_DIR=str(tmp_path / "file"))
    assert code == 1 and "cannot be written" in err and "REFLOAT_DATA_DIR" in err


# -- tokens


def test_the_admin_token_is_the_file_of_the_data_directory(tmp_path: Path) -> None:
    code, _, err = run("token", REFLOAT_DATA_DIR=str(tmp_path), REFLOAT_ADMIN_TOKEN="")
    assert code == 1 and "admin.token" in err and "REFLOAT_TOKEN" in err
    (tmp_path / "admin.token").write_text("secret\n")
    assert run("token", REFLOAT_DATA_DIR=str(tmp_path), REFLOAT_ADMIN_TOKEN="")[:2] == (0, "secret\n")
    code, out, _ = run("token", "--json", REFLOAT_DATA_DIR=str(tmp_path), REFLOAT_ADMIN_TOKEN="")
    assert json.loads(out) == {"token": "secret"}


# -- the stream


def test_events_are_parsed_and_comments_are_signs_of_life() -> None:
    text = 'id: 7\nevent: status\ndata: {"a": 1}\n\n: still here\n\nid: 8\nevent: log\ndata: {}\n\nid: 9\n'
    assert list(parse_events(iter(text.splitlines()))) == [(7, "status", {"a": 1}), None, (8, "log", {})]


def test_a_stream_gives_up_after_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(watch, "_RETRY_SECONDS", 0.05)
    told: list[str] = []
    nobody = client.Client("http://127.0.0.1:9", "t")
    with pytest.raises(Unreachable) as caught:
        list(watch.Stream(nobody, "/events", "d", float("inf"), told.append))
    assert caught.value.code is Exit.UNREACHABLE and len(told) > 1


def test_the_deadline_ends_a_stream_that_cannot_connect() -> None:
    nobody = client.Client("http://127.0.0.1:9", "t")
    with pytest.raises(Problem) as caught:
        list(watch.Stream(nobody, "/events", "d", time.monotonic() + 0.1, lambda _: None))
    assert caught.value.code is Exit.TIMEOUT


# -- what is loaded


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, refloat.cli.main; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ("litestar", "httpx", "rich", "sqlalchemy", "msgspec", "asyncio", "structlog")
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert run("--help")[0] == 0
