"""Serves the files of a folder over HTTP/1.1 on 127.0.0.1:$PORT. Standard library only.

Copied into each static release and run there by `python -I -S static_server.py FOLDER`, so it imports
nothing of ours. The standard handler alone is not enough behind a proxy: it closes after every
response, lists folders, shows dotfiles, and drops requests when it is told to stop.
"""

import contextlib
import io
import os
import select
import signal
import socket
import sys
import threading
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, BinaryIO


class Handler(SimpleHTTPRequestHandler):
    """GET and HEAD of files below the folder; everything else is 404."""

    protocol_version = "HTTP/1.1"
    server_version = "static"
    sys_version = ""
    timeout = 300
    disable_nagle_algorithm = True

    def parse_request(self) -> bool:
        ok = super().parse_request()
        if ok and (self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers):
            self.close_connection = True  # its body is not read, so the next request cannot be found
        return ok

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        if not self._is_open():
            return self._missing()
        return super().send_head()

    def list_directory(self, path: str | os.PathLike[str]) -> io.BytesIO | None:
        return self._missing()

    def _is_open(self) -> bool:
        """Whether the path leads to something inside the folder that is not hidden."""
        root = os.path.realpath(self.directory)
        try:
            place = os.path.realpath(self.translate_path(self.path))
        except ValueError:
            return False
        if not (place + "/").startswith(root + "/"):
            return False
        parts = place[len(root) :].split("/")
        return Path(place).exists() and not any(p.startswith(".") and p != ".well-known" for p in parts)

    def _missing(self) -> io.BytesIO | None:
        """The folder's own 404.html, else a plain answer."""
        try:
            body = Path(self.directory, "404.html").read_bytes()
        except OSError:
            body = b"not found\n"
        html = body != b"not found\n"
        self.send_response(404)
        self.send_header("Content-Type", "text/html" if html else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the edge has an access log."""


class Server(ThreadingMixIn, HTTPServer):
    """A thread per connection; `finish` ends when the last request has its answer."""

    daemon_threads = False
    request_queue_size = 1024

    def __init__(self, port: int, folder: str) -> None:
        self.folder = folder
        self.open: set[socket.socket] = set()
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # without HTTPServer's look-up of the host's own name
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            self.open.add(request)
        try:
            Handler(request, client_address, self, directory=self.folder)
        finally:
            with self.lock:
                self.open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""

    def finish(self) -> None:
        """Answer whoever connected already, end idle connections, wait for the others."""
        while select.select([self.socket], [], [], 0)[0]:
            self.handle_request()
        self.socket.close()
        ender = threading.Thread(target=self._end_idle, daemon=True)
        ender.start()
        self.server_close()

    def _end_idle(self) -> None:
        """No connection is read from again; what was read already is answered."""
        while True:
            with self.lock:
                for connection in self.open:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RD)
            threading.Event().wait(0.05)


def main() -> None:
    server = Server(int(os.environ["PORT"]), sys.argv[1])

    def stop(number: int, frame: object) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server.serve_forever(poll_interval=0.1)
    server.finish()


if __name__ == "__main__":
    main()
