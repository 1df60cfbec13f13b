"""Whose certificates the command line trusts, and what to say of one that it does not."""

import os
import ssl
from collections.abc import Iterator

import httpx

from refloat.cli.problems import Problem

_UNKNOWN_ISSUER = (18, 19, 20, 21)
"""OpenSSL's numbers of a certificate that nobody known has signed."""
_HINT = (
    "let SSL_CERT_FILE name the root certificate of its issuer; of a server with REFLOAT_TLS=internal it is"
    " <data>/node/edge/storage/pki/authorities/local/root.crt"
)


def trusted() -> ssl.SSLContext:
    """What `SSL_CERT_FILE` or `SSL_CERT_DIR` name, else the public authorities.

    Raises Problem for a file that is no use.
    """
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        raise Problem(
            f"SSL_CERT_FILE is {named}, which cannot be read as certificates: {error.strerror or error}",
            hint="name a PEM file, or unset it",
        ) from None


def distrust(error: BaseException) -> tuple[str, str]:
    """What is wrong with the server's certificate, and what to do; "" if the error is another one."""
    refused = next((it for it in _causes(error) if isinstance(it, ssl.SSLCertVerificationError)), None)
    if refused is None:
        return "", ""
    why = f"its certificate is not trusted here: {refused.verify_message}"
    return (
        why,
        _HINT if refused.verify_code in _UNKNOWN_ISSUER else "check the address, and the server's clock",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made from, innermost last."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
