"""A git server that sends us elsewhere: where local sources are off, nobody follows it."""

import contextlib
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from source_support import Repository
from tests.certificates import Authority

from refloat.builders import git
from refloat.builders.source import Sources
from refloat.domain.errors import BuildFailed
from refloat.domain.services import GitSource

HOST = "git.example.org"


class Server(HTTPServer):
    """Answers with a redirect, or 404 where it has none; remembers what it was asked."""

    redirect = ""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no event."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(302 if self.server.redirect else 404)
        if self.server.redirect:
            self.send_header("Location", self.server.redirect + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextlib.contextmanager
def served(certificate: Path, key: Path) -> Iterator[Server]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with Server() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("target", ["https://localhost:{port}", "file://{folder}", "http://169.254.169.254"])
async def test_a_redirect_to_a_private_place_is_not_followed(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate is good for both names, and the public one resolves to an address that may be asked."""
    authority = Authority("of both")
    root = tmp_path / "root.pem"
    root.write_text(authority.certificate)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(root))
    monkeypatch.setattr(git, "addresses", lambda remote, **_: ("127.0.0.1",))
    secret = Repository(tmp_path / "secret")
    secret.commit({"a": "1"})
    files = authority.issue(tmp_path, HOST, "localhost")
    with served(*files) as public, served(*files) as private:
        public.redirect = target.format(port=private.server_port, folder=secret.path)
        source = GitSource(url=f"https://{HOST}:{public.server_port}/a.git")
        with pytest.raises(BuildFailed):
            await Sources(tmp_path / "node", local_sources=False).resolve("svc", source)
        assert public.asked == ["/a.git/info/refs?service=git-upload-pack"]
        assert private.asked == []
