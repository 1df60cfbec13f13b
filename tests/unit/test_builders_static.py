"""Guarantees of the server for static files, shown on the real process."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from refloat.builders import static_server


class Served:
    """The process, and requests to it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        argv = (sys.executable, "-I", "-S", static_server.__file__, str(folder))
        self.process = subprocess.Popen(argv, env={"PORT": str(self.port)})
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.01)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        connection = self.connection()
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    (folder / "css").mkdir(parents=True)
    (folder / "index.html").write_text("home")
    (folder / "css/a.css").write_text("body {}")
    (folder / "big").write_bytes(b"x" * 8_000_000)
    (folder / ".env").write_text("secret")
    (tmp_path / "outside").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "outside")
    return folder


@pytest.fixture
def served(folder: Path) -> Iterator[Served]:
    served = Served(folder)
    yield served
    served.process.kill()
    served.process.wait()


def test_files_are_served_with_their_type_on_one_connection(served: Served) -> None:
    connection = served.connection()
    for path, body, kind in (("/", b"home", "text/html"), ("/css/a.css?v=1", b"body {}", "text/css")):
        connection.request("GET", path)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, body)
        assert (response.headers.get_content_type(), response.version) == (kind, 11)
    connection.close()


@pytest.mark.parametrize(
    "path", ["/nope", "/css/", "/.env", "/link", "/../outside", "/%2e%2e/outside", "//etc/passwd", "/a%00b"]
)
def test_nothing_outside_hidden_or_listed_is_shown(served: Served, path: str) -> None:
    status, body = served.get(path)
    assert status == 404
    assert b"secret" not in body


def test_a_page_for_missing_files_is_used(served: Served, folder: Path) -> None:
    (folder / "404.html").write_text("sorry")
    assert served.get("/nope") == (404, b"sorry")
    assert served.get("/nope", "HEAD") == (404, b"")


def test_a_body_that_nobody_reads_cannot_become_a_request(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), 10) as raw:
        hidden = b"GET /css/a.css HTTP/1.1\r\nHost: x\r\n\r\n"
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden)
        answer = b""
        while data := raw.recv(65536):
            answer += data
    assert answer.count(b"HTTP/1.1 200") == 1


def test_many_connections_at_once_are_served(served: Served) -> None:
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(served.get("/")[0])) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 100


def test_a_stop_finishes_requests_in_flight_and_ends_idle_connections(served: Served) -> None:
    idle, busy = served.connection(), served.connection()
    idle.request("GET", "/")
    idle.getresponse().read()
    busy.request("GET", "/big")
    response = busy.getresponse()
    first = response.read(1000)
    os.kill(served.process.pid, signal.SIGTERM)
    time.sleep(0.3)
    assert len(first + response.read()) == 8_000_000
    assert served.process.wait(10) == 0
    busy.close()
    idle.close()
