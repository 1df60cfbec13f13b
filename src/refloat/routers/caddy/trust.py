"""Whom we trust when we ask through the edge over TLS: exactly who is to have certified the name."""

import ssl
from pathlib import Path

from refloat.routers.caddy.layout import CANARY_HOST
from refloat.routers.caddy.tls import Issuer, Tls


class Trust:
    """Names are always compared and certificates always checked; nothing here can switch that off."""

    def __init__(self, tls: Tls, storage: Path) -> None:
        self._tls = tls
        self._storage = storage
        self._public: ssl.SSLContext | None = None

    @property
    def root(self) -> Path:
        """The root certificate of the edge's own issuer, made at its first start."""
        return self._storage / "pki" / "authorities" / "local" / "root.crt"

    def of(self, host: str) -> ssl.SSLContext:
        """For a connection to this name. Raises OSError while the issuer's root is not there."""
        if host == CANARY_HOST:
            return self._internal()
        if self._tls.issuer is Issuer.INTERNAL:
            return self._with_own(self._internal())
        if self._public is None:
            self._public = self._with_own(self._authorities())
        return self._public

    def _internal(self) -> ssl.SSLContext:
        """Read anew each time: it is one certificate, and another one after the edge's files were lost."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=self.root)
        return context

    def _authorities(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._tls.roots:
            context.load_verify_locations(cadata=self._tls.roots)
        return context

    def _with_own(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """The owner's certificate is trusted as it is, whoever has made it."""
        if self._tls.certificate:
            context.load_verify_locations(cadata=self._tls.certificate)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context
