"""The configuration of Caddy, as a pure function of the layout.

It is written once and never changed while it serves: whatever moves (which service a host belongs to,
whether it runs, where its endpoints are) is read from files at every request. The path of a request:

    public port:    host name -> entry -> `<entry>/slot` (a symlink to a slot) -> `current` -> upstream
    loopback port:  slot -> `current` -> upstream

With TLS the public port is the HTTPS one, and plain HTTP is told to go there.

`current` is a symlink, so that one rename changes all upstream files at once. `up` in it says "1" (ask
an upstream), "0" (503: not running) or "-" (404: nobody's). Connections to endpoints are used for one
request only. Thus an open connection is a request in flight, which is how draining looks, and no request
meets an application that is just closing an idle connection. Only a connection that could not be made
is tried again, because then the application cannot have seen the request.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from refloat.routers.caddy.issuing import permit_routes, tls_app
from refloat.routers.caddy.layout import Entry, Layout
from refloat.routers.caddy.tls import Tls

UPSTREAMS = 12
"""Upstream files of a slot. 12 divides evenly among 1, 2, 3, 4, 6 and 12 endpoints; more are refused."""
ASK_HEADER = "X-Refloat-Ask"
ENDPOINT_HEADER = "X-Refloat-Endpoint"
ERROR_HEADER = "X-Refloat-Error"
SHUTDOWN_DELAY_SECONDS = 1
"""How long a process that is asked to end goes on accepting, and asks clients to come back elsewhere."""
GRACE_SECONDS = 60
"""How long requests in flight may take to finish after that."""

Json = dict[str, Any]


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change from layout to layout. `listen` are Caddy addresses of the port for HTTP,
    `tls_listen` of the one for HTTPS, if there is any."""

    root: Path
    listen: tuple[str, ...]
    tls_listen: tuple[str, ...] = ()
    tls: Tls | None = None
    secret: str
    hold_seconds: float
    log_megabytes: int = 16

    def process_dir(self, process: str) -> Path:
        """What one Caddy process has for itself: its configuration, access log and home."""
        return self.root / process

    @property
    def storage(self) -> Path:
        """Certificates and keys. Both processes have it: whoever takes over has them all."""
        return self.root / "storage"

    @property
    def acme_roots(self) -> Path:
        """The roots of an ACME server that has its own, named by what is in it."""
        text = self.tls.roots if self.tls else ""
        return self.root / f"acme-roots-{hashlib.sha256(text.encode()).hexdigest()[:16]}.pem"

    def slot_dir(self, number: int | str) -> Path:
        """A slot's `service` and `current`; the slot "none" is where free entries lead."""
        return self.root / "slots" / str(number)

    def entry_dir(self, generation: int, number: int) -> Path:
        """An entry's `name` and `slot`."""
        return self.root / "hosts" / str(generation) / str(number)


def render(edge: Edge, layout: Layout, process: str) -> bytes:
    """The configuration file of one process."""
    return msgspec.json.format(msgspec.json.encode(_config(edge, layout, process)), indent=1)


def digest(config: bytes) -> str:
    """Equal for configurations that are equal."""
    return hashlib.sha256(config).hexdigest()


def ports(edge: Edge, layout: Layout, process: str) -> frozenset[int]:
    """Every port a process with this configuration listens on."""
    public = {int(address.rpartition(":")[2]) for address in (*edge.listen, *edge.tls_listen)}
    return frozenset(public | {slot.port for slot in layout.slots} | {layout.control_ports[process]})


def _config(edge: Edge, layout: Layout, process: str) -> Json:
    servers = _public(edge, layout)
    for number, slot in enumerate(layout.slots):
        routes = [{"handle": _to_slot(edge, edge.slot_dir(number))}]
        servers[f"slot{number}"] = _server(edge, (f"127.0.0.1:{slot.port}",), routes)
    servers["control"] = _control(edge, layout, process)
    http = {
        "grace_period": f"{GRACE_SECONDS}s",
        "shutdown_delay": f"{SHUTDOWN_DELAY_SECONDS}s",
        "servers": servers,
    }
    directory = edge.process_dir(process)
    apps: Json = {"http": http, "pki": {"certificate_authorities": {"local": {"install_trust": False}}}}
    if edge.tls:
        apps["tls"] = tls_app(edge.tls, _port(edge.listen), layout.control_ports[process], edge.acme_roots)
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "storage": {"module": "file_system", "root": str(edge.storage)},
        "logging": {"logs": _logs(directory / "access.log", edge.log_megabytes)},
        "apps": apps,
    }


def _public(edge: Edge, layout: Layout) -> dict[str, Json]:
    """The servers that everybody reaches. Caddy answers ACME challenges before any of their routes."""
    hosts = [_host_route(edge, layout, number, entry) for number, entry in enumerate(layout.entries)]
    if edge.tls is None:
        return {"public": _server(edge, edge.listen, hosts)}
    secure = {**_server(edge, edge.tls_listen, hosts), "tls_connection_policies": [{}]}
    plain = [_plain_route(edge, layout, number, entry) for number, entry in enumerate(layout.entries)]
    redirect = {"match": _known(edge, layout), "handle": _to_https(edge.tls.port)}
    return {"public": secure, "plain": _server(edge, edge.listen, [*plain, redirect])}


def _plain_route(edge: Edge, layout: Layout, number: int, entry: Entry) -> Json:
    """As the public one, for a name whose certificate is somebody else's business."""
    plain = _equals(_file(edge.entry_dir(layout.generation, number) / "plain"), "1")
    route = _host_route(edge, layout, number, entry)
    return {**route, "match": [{**match, **plain} for match in route["match"]]}


def _known(edge: Edge, layout: Layout) -> list[Json]:
    """Matches a host that leads to a service, which must be one to have a certificate of ours."""
    matches: list[Json] = []
    for number, entry in enumerate(layout.entries):
        directory = edge.entry_dir(layout.generation, number)
        [match] = _host_route(edge, layout, number, entry)["match"]
        up = {_file(directory / "slot" / "current" / "up"): ["0", "1"]}
        matches.append({**match, "vars": up, "not": [_equals(_file(directory / "plain"), "1")]})
    return matches


def _to_https(port: int) -> list[Json]:
    """308: the method and the body stay what they were."""
    place = "https://{http.request.host}" + ("" if port == 443 else f":{port}") + "{http.request.uri}"
    answer = {"handler": "static_response", "status_code": 308, "headers": {"Location": [place]}}
    return [{"handler": "vars", "log_skip": True}, answer]


def _port(listen: tuple[str, ...]) -> int:
    return int(listen[0].rpartition(":")[2])


def _server(edge: Edge, listen: Iterable[str], routes: list[Json]) -> Json:
    return {
        "listen": list(listen),
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "logs": {},
        "routes": [
            {
                "match": [_equals("{http.shutting_down}", "true")],
                "handle": [_set_later("Connection", "close")],
            },
            {"match": [{"header": {ASK_HEADER: [edge.secret]}}], "handle": _asked()},
            {"handle": [{"handler": "headers", "request": {"delete": [ASK_HEADER]}}]},
            *routes,
            {"handle": [{"handler": "vars", "log_skip": True}, _answer("404", "no service answers here")]},
        ],
        "errors": {"routes": _error_routes()},
    }


def _control(edge: Edge, layout: Layout, process: str) -> Json:
    """A private port: shows that the process serves, says which names may have a certificate, and writes
    a mark into its log on request."""
    mark = {"handler": "log_append", "key": "mark", "value": "{http.request.uri.path}"}
    permit = permit_routes(_known(edge, layout)) if edge.tls else []
    return {
        "listen": [f"127.0.0.1:{layout.control_ports[process]}"],
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "logs": {},
        "routes": [*permit, {"handle": [mark, {"handler": "static_response", "status_code": 204}]}],
    }


def _host_route(edge: Edge, layout: Layout, number: int, entry: Entry) -> Json:
    """The file is named from the process's own folder: Caddy would rewrite other letters than ASCII, for they
    stand in a host."""
    directory = edge.entry_dir(layout.generation, number)
    name = Path("..") / directory.relative_to(edge.root) / "name"
    host = entry.host if entry.static else _file(name)
    return {"match": [{"host": [host]}], "handle": _to_slot(edge, directory / "slot")}


def _to_slot(edge: Edge, slot: Path) -> list[Json]:
    """Handlers from a slot's directory to one of its endpoints; passes on when the slot is nobody's."""
    up = _file(slot / "current" / "up")
    service = {"handler": "log_append", "key": "service", "value": "{http.vars.service}", "early": True}
    upstream = {"handler": "log_append", "key": "upstream", "value": "{http.reverse_proxy.upstream.hostport}"}
    down = {"handler": "error", "status_code": 503, "error": "not running"}
    return [
        {"handler": "vars", "service": _file(slot / "service")},
        {
            "handler": "subroute",
            "routes": [
                {"match": [_equals(up, "1")], "handle": [service, upstream, _proxy(edge, slot)]},
                {"match": [_equals(up, "0")], "handle": [service, down]},
            ],
        },
    ]


def _proxy(edge: Edge, slot: Path) -> Json:
    balancing: Json = {"selection_policy": {"policy": "round_robin"}}
    if edge.hold_seconds > 0:
        balancing["try_duration"] = f"{edge.hold_seconds}s"
        balancing["try_interval"] = "20ms"
        balancing["retry_match"] = [{"method": ["NONE"]}]
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": _file(slot / "current" / f"u{n}")} for n in range(UPSTREAMS)],
        "load_balancing": balancing,
        "transport": {
            "protocol": "http",
            "keep_alive": {"enabled": False},
            "compression": False,
            "dial_timeout": "3s",
        },
        "stream_close_delay": "1h",
    }


def _asked() -> list[Json]:
    """For whoever knows the secret: tell the endpoint, count nothing."""
    return [
        {"handler": "vars", "log_skip": True, "asked": "1"},
        _set_later(ENDPOINT_HEADER, "{http.reverse_proxy.upstream.hostport}"),
    ]


def _error_routes() -> list[Json]:
    """What the edge answers itself when no application did; details go to the log, not to the client."""
    reason = {"handler": "headers", "response": {"set": {ERROR_HEADER: ["{http.error.message}"]}}}
    failed = {"handler": "log_append", "key": "error", "value": "{http.error.message}"}
    return [
        {"match": [_equals("asked", "1")], "handle": [reason]},
        {"handle": [failed]},
        {
            "match": [_equals("{http.error.message}", "not running")],
            "handle": [_answer("503", "{http.vars.service} is not running")],
        },
        {
            "match": [{"vars": {"{http.error.status_code}": ["502", "503", "504"]}}],
            "handle": [_answer("{http.error.status_code}", "{http.vars.service} did not answer")],
        },
        {"handle": [_answer("{http.error.status_code}", "{http.error.status_text}")]},
    ]


def _answer(status: str, message: str) -> Json:
    return {
        "handler": "static_response",
        "status_code": status,
        "headers": {"Content-Type": ["application/json"], "Cache-Control": ["no-store"]},
        "body": '{"status":' + status + ',"message":"' + message + '"}\n',
    }


def _set_later(header: str, value: str) -> Json:
    """A response header that wins over the application's own."""
    return {"handler": "headers", "response": {"deferred": True, "set": {header: [value]}}}


def _equals(value: str, wanted: str) -> Json:
    return {"vars": {value: [wanted]}}


def _file(path: Path) -> str:
    return "{file." + str(path) + "}"


def _logs(access: Path, megabytes: int) -> Json:
    """Access log: only what counting reads, no address paths, no headers. The rest: warnings to stderr."""
    dropped = ["headers", "uri", "tls", "proto", "method", "client_ip"]
    fields = [*(f"request>{name}" for name in dropped), "bytes_read", "user_id", "resp_headers"]
    plain = {"level_key": "", "name_key": "", "caller_key": "", "stacktrace_key": "", "time_key": "ts"}
    return {
        "default": {
            "level": "WARN",
            "exclude": ["http.log.access", "http.log.error", "http.handlers.reverse_proxy", "admin"],
        },
        "access": {
            "include": ["http.log.access", "http.handlers.reverse_proxy"],
            "level": "INFO",
            "writer": {
                "output": "file",
                "filename": str(access),
                "mode": "0600",
                "roll_size_mb": megabytes,
                "roll_gzip": False,
                "roll_keep": 4,
            },
            "encoder": {
                "format": "filter",
                "wrap": {"format": "json", **plain},
                "fields": {field: {"filter": "delete"} for field in fields},
            },
        },
    }
