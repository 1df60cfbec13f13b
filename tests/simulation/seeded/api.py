"""Clients of a run: the real HTTP application, called in this loop without a socket."""

from typing import Any, NamedTuple

import msgspec

from tests.simulation.seeded.doors import Door


class Answer(NamedTuple):
    status: int
    body: Any


class Client:
    """One principal."""

    def __init__(self, door: Door, token: str) -> None:
        self._door = door
        self._token = token

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        raw = msgspec.json.encode(body) if body is not None else b""
        plain, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": plain,
            "raw_path": plain.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "scheme": "http",
            "server": ("refloat", 80),
            "client": ("127.0.0.1", 1),
            "headers": [
                (b"authorization", f"Token {self._token}".encode()),
                (b"content-length", str(len(raw)).encode()),
            ],
        }
        parts: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            parts.append(message)

        await self._door.application(scope, receive, send)
        text = b"".join(p.get("body", b"") for p in parts)
        return Answer(parts[0]["status"], msgspec.json.decode(text) if text.strip() else None)
