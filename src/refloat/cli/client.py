"""A thin client of the public API: the command line knows nothing that other clients cannot know."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx

from refloat import __version__
from refloat.cli import context
from refloat.cli.problems import Missing, Problem, Unreachable
from refloat.cli.trust import distrust, trusted

Json = dict[str, Any]
_BUSY = (502, 503, 504)
"""Answers of a server, or of a proxy before it, that is starting or going away."""
_HERE = "is the server running? `refloat up` starts one; another address is set by REFLOAT_URL"
_ELSEWHERE = "check the address, which REFLOAT_URL names, and whether the server runs there"


class Client:
    """Calls of the API. An error answer becomes a Problem, silence becomes Unreachable."""

    def __init__(self, url: str, token: str, *, timeout: float = 30) -> None:
        self.url = url
        token = _sendable(token)
        verify = trusted() if url.startswith("https:") else True
        try:
            self._http = httpx.Client(
                base_url=url,
                headers={"Authorization": f"Token {token}", "User-Agent": f"refloat-cli/{__version__}"},
                timeout=timeout,
                trust_env=not context.is_loopback(url),  # no proxy leads back to this machine
                verify=verify,
            )
        except (ImportError, ValueError, httpx.InvalidURL):  # of SOCKS, of another scheme, no URL at all
            raise Problem(
                f"{url} cannot be asked through the proxy that this shell names",
                hint="set HTTPS_PROXY and HTTP_PROXY to http://host:port and unset ALL_PROXY;"
                f" or set NO_PROXY={urlsplit(url).hostname}",
            ) from None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Client":
        """The server and the token that this shell means."""
        meant = context.with_remembered(environ)
        return cls(context.server_url(meant), context.token(meant))

    def get(self, path: str, **query: str | int) -> Any:
        return self._call("GET", path, query, None)

    def post(self, path: str, body: Json | None = None, query: Mapping[str, Any] | None = None) -> Any:
        return self._call("POST", path, query or {}, body)

    def put(self, path: str, body: Json) -> Any:
        return self._call("PUT", path, {}, body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path, {}, None)

    def _call(self, method: str, path: str, query: Mapping[str, Any], body: Json | None) -> Any:
        try:
            answer = self._http.request(method, path, params=query, json=body)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            self._unreachable(error)
        _check(answer, self.url)
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise Unreachable(f"{self.url} does not speak this API", hint="check REFLOAT_URL") from None

    @contextmanager
    def stream(self, path: str, quiet_seconds: float, **query: str | int) -> Iterator[Iterator[str]]:
        """The lines of a stream; Unreachable when it breaks or says nothing for `quiet_seconds`."""
        timeout = httpx.Timeout(30, read=quiet_seconds)
        try:
            with self._http.stream("GET", path, params=query, timeout=timeout) as answer:
                if answer.status_code >= 400:
                    answer.read()
                _check(answer, self.url)
                yield answer.iter_lines()
        except httpx.TransportError as error:
            self._unreachable(error)

    def _unreachable(self, error: Exception) -> NoReturn:
        why, hint = distrust(error)
        if why:
            raise Unreachable(f"{self.url}: {why}", hint=hint) from None
        raise Unreachable(
            f"{self.url} does not answer: {str(error) or type(error).__name__}",
            hint=_proxy(self.url) or (_HERE if context.is_loopback(self.url) else _ELSEWHERE),
        ) from None


def _sendable(token: str) -> str:
    """The token as a header carries it; else a Problem, which does not show it."""
    token = token.strip()  # a file from Windows ends with a carriage return
    if token.isascii() and token.isprintable() and " " not in token:
        return token
    raise Problem(
        "the token holds a character that no token has", hint="copy it again: letters, digits, _ and -"
    )


def _proxy(url: str) -> str:
    """What to do about the proxy that was asked in between; "" when there was none."""
    parts = urlsplit(url)
    names = [f"{parts.scheme}_proxy", "all_proxy"]
    named = next((it for name in names for it in (name, name.upper()) if os.environ.get(it)), "")
    if not named or context.is_loopback(url):
        return ""
    return f"it was asked through the proxy of {named}; NO_PROXY={parts.hostname} goes without it"


def _check(answer: httpx.Response, url: str) -> None:
    if answer.status_code in _BUSY:
        raise Unreachable(f"{url} answers {answer.status_code}", hint=error_words(answer)[0])
    if answer.status_code >= 300:
        message, hint = error_words(answer)
        if answer.status_code == 401:
            hint = _other_token(url)
        raise (Missing if answer.status_code == 404 else Problem)(message, hint=hint)


def _other_token(url: str) -> str:
    if os.environ.get("REFLOAT_TOKEN"):
        return "correct REFLOAT_TOKEN, or unset it: on the server's machine its admin token is taken"
    return f"the server at {url} may be of another data directory: set REFLOAT_DATA_DIR or REFLOAT_PORT"


def error_words(answer: httpx.Response) -> tuple[str, str]:
    """Message and hint of an error answer, whoever wrote it."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return f"the server answered {answer.status_code} {answer.reason_phrase}", ""
    message = body.get("message") or body.get("detail") or f"the server answered {answer.status_code}"
    return str(message), str(body.get("hint") or "")
