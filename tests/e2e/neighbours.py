"""What can be seen of one environment which nothing that others do may change."""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.installation import Installation, Repository, eventually
from tests.e2e.visitors import Visitor


class Neighbour:
    """An environment that nobody touches, with an application that everybody asks."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self.installation = installation
        self.environment = installation.environment("shop")
        url = Repository(folder / "neighbour").url
        self.services = [installation.application(self.environment, name, url) for name in ("api", "web")]
        assert installation.roll(self.environment)["state"] == "DEPLOYED"

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Whatever is done in the body: the same afterwards, bit by bit, and no request failed meanwhile."""
        before = self.observed()
        link = self.installation.call("GET", f"/application/{self.services[0]}/link")["results"][0]["url"]
        visitor = Visitor(self.installation.http_port, link.removeprefix("http://"))
        visitor.start()
        try:
            yield
            asked = visitor.sent
            eventually(lambda: visitor.sent > asked + 2)
        finally:
            visitor.over.set()
            visitor.join()
        assert visitor.failures == []
        assert self.observed() == before

    def observed(self) -> dict[str, Any]:
        """Records, processes, routes and files."""
        node, call = self.installation.node, self.installation.call
        paths = ("statuses", "deploymentHistoryV2", "logs", "link", "services", "deploymentStage")
        seen: dict[str, Any] = {it: call("GET", f"/environment/{self.environment}/{it}") for it in paths}
        seen["journal"] = self.installation.journal(self.environment)
        slots = json.loads((node / "edge" / "slots.json").read_text())
        for service in self.services:
            seen[f"variables of {service}"] = call("GET", f"/variable?parent_id={service}&scope=APPLICATION")
            processes = sorted((node / "run").glob(f"app.{service}.*"))
            assert processes
            seen[f"processes of {service}"] = [
                (it.name, (it / "state.json").read_text(), (it / "spec.json").read_text()) for it in processes
            ]
            seen[f"files of {service}"] = dict(_files(node / "services" / service))
            seen[f"route of {service}"] = _entries(slots, service)
        return seen


def _files(folder: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every file with owner, mode, time of its last change, and content."""
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        where = str(path.readlink()) if path.is_symlink() else content
        yield (
            str(path.relative_to(folder)),
            (about.st_mode, about.st_uid, about.st_mtime_ns, about.st_ino, where),
        )


def _entries(document: Any, service: str) -> list[Any]:
    """Everything that is said of a service, wherever it stands."""
    if isinstance(document, dict):
        own = [document] if service in document.values() else []
        own += [{key: value} for key, value in document.items() if key == service]
        return own + [it for value in document.values() for it in _entries(value, service)]
    if isinstance(document, list):
        return [it for value in document for it in _entries(value, service)]
    return []


class SilentServer:
    """A host that takes every connection and never says a word."""

    def __enter__(self) -> "SilentServer":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def asked(self) -> int:
        """How many connections it holds."""
        return len(self._held)

    def _accept(self) -> None:
        try:
            while True:
                self._held.append(self._listener.accept()[0])
        except OSError:
            return

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._held:
            connection.close()
        self._thread.join()
