"""Where certificates come from, as the part of Caddy's configuration that says so.

A certificate is made when its name is first asked for, and only for a name that leads somewhere. The edge
answers that question itself, from the same files that route: it goes on while the control plane is down,
also after a restart, when every certificate is looked up anew. The canary's certificate is always one of
our own issuer: no authority knows that name.
"""

from pathlib import Path
from typing import Any

from refloat.routers.caddy.layout import CANARY_HOST
from refloat.routers.caddy.tls import Issuer, Tls

PERMIT_PATH = "/permit"
"""Where the private port says whether a name may have a certificate (`?domain=`): 200 or 404."""

Json = dict[str, Any]
_INTERNAL: Json = {"module": "internal"}


def tls_app(tls: Tls, http_port: int, control_port: int, roots: Path) -> Json:
    """The `tls` app. `roots` is where the roots of the ACME server lie, if it has any of its own."""
    issuer = _INTERNAL if tls.issuer is Issuer.INTERNAL else _acme(tls, http_port, roots)
    policies = [
        {"subjects": [CANARY_HOST], "issuers": [_INTERNAL], "on_demand": True},
        {"issuers": [issuer], "on_demand": True},
    ]
    permission = {"module": "http", "endpoint": f"http://127.0.0.1:{control_port}{PERMIT_PATH}"}
    own = [{"certificate": tls.certificate, "key": tls.key}] if tls.certificate else []
    return {
        **({"certificates": {"load_pem": own}} if own else {}),
        "automation": {"policies": policies, "on_demand": {"permission": permission}},
    }


def permit_routes(known: list[Json]) -> list[Json]:
    """Answers 200 for what one of the `known` matchers recognizes by its Host, which the name becomes."""
    asked = {"handler": "headers", "request": {"set": {"Host": ["{http.request.uri.query.domain}"]}}}
    answers = [
        {"match": known, "handle": [{"handler": "static_response", "status_code": 200}]},
        {"handle": [{"handler": "static_response", "status_code": 404}]},
    ]
    quietly = {"handler": "vars", "log_skip": True}
    routes = {"handler": "subroute", "routes": answers}
    return [{"match": [{"path": [PERMIT_PATH]}], "handle": [quietly, asked, routes], "terminal": True}]


def _acme(tls: Tls, http_port: int, roots: Path) -> Json:
    return {
        "module": "acme",
        **({"email": tls.email} if tls.email else {}),
        **({"ca": tls.directory} if tls.directory else {}),
        **({"trusted_roots_pem_files": [str(roots)]} if tls.roots else {}),
        "challenges": {
            "http": {"alternate_port": http_port},
            "tls-alpn": {"alternate_port": tls.port},
        },
    }
