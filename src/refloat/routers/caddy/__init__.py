"""The router on Caddy: static routes, endpoints in files, a switch is one rename."""

from refloat.routers.caddy.binary import CaddyBinary, find_caddy
from refloat.routers.caddy.edge import CaddyRouter

__all__ = ["CaddyBinary", "CaddyRouter", "find_caddy"]
