"""The router on Caddy: static routes, endpoints in files, a switch is one rename."""

from refloat.routers.caddy.binary import CaddyBinary, find_caddy
from refloat.routers.caddy.edge import CaddyRouter
from refloat.routers.caddy.tls import Issuer, Tls

__all__ = ["CaddyBinary", "CaddyRouter", "Issuer", "Tls", "find_caddy"]
