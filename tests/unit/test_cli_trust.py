"""A server whose certificate nobody here has heard of."""

import contextlib
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.certificates import Authority

from refloat.cli.main import main


class Empty(BaseHTTPRequestHandler):
    """Has no organization."""

    def do_GET(self) -> None:
        body = b'{"results": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class Quiet(HTTPServer):
    """A client that hangs up in the handshake is no event."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Expected here."""


@contextlib.contextmanager
def serving(certificate: Path, key: Path) -> Iterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with Quiet(("127.0.0.1", 0), Empty) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("an issuer of one's own")


def status(port: int, **environ: str) -> tuple[int, str]:
    kept = {"REFLOAT_TOKEN": "t", "REFLOAT_URL": f"https://localhost:{port}", "SSL_CERT_FILE": "", **environ}
    result = CliRunner().invoke(main, ["status", "shop"], env=kept)
    return result.exit_code, result.output


def test_an_issuer_that_nobody_knows_is_told_with_the_variable_that_names_it(
    authority: Authority, tmp_path: Path
) -> None:
    with serving(*authority.issue(tmp_path, "localhost")) as port:
        code, told = status(port)
        assert code == 4 and f"https://localhost:{port}: its certificate is not trusted here" in told
        assert "SSL_CERT_FILE" in told and "is the server running" not in told


def test_one_that_the_variable_names_is_trusted_on_this_machine_too(
    authority: Authority, tmp_path: Path
) -> None:
    root = tmp_path / "root.pem"
    root.write_text(authority.certificate)
    with serving(*authority.issue(tmp_path, "localhost")) as port:
        code, told = status(port, SSL_CERT_FILE=str(root))
        assert code == 1 and "no environment 'shop'" in told


@pytest.mark.parametrize(
    ("names", "days", "words"), [(("other",), 30, "mismatch"), (("localhost",), -1, "expired")]
)
def test_another_fault_of_the_certificate_is_told_as_what_it_is(
    names: tuple[str, ...], days: int, words: str, authority: Authority, tmp_path: Path
) -> None:
    root = tmp_path / "root.pem"
    root.write_text(authority.certificate)
    with serving(*authority.issue(tmp_path, *names, days=days)) as port:
        code, told = status(port, SSL_CERT_FILE=str(root))
        assert code == 4 and words in told and "SSL_CERT_FILE" not in told


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_variable_that_names_no_certificate_is_told(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "root.pem"
    if content:
        file.write_text(content)
    code, told = status(9, SSL_CERT_FILE=str(file))
    assert code == 1 and f"SSL_CERT_FILE is {file}" in told and "Traceback" not in told
