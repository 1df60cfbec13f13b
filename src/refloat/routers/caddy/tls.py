"""What the edge needs to know to serve HTTPS, and the certificate of its owner's own."""

import datetime
from enum import StrEnum
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from refloat.domain.errors import Unavailable


class Issuer(StrEnum):
    """Who certifies the names that no own certificate is for."""

    ACME = "acme"
    """A public authority, or the one of the `directory`."""
    INTERNAL = "internal"
    """One that the edge makes itself; clients must be told to trust its root."""


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """How HTTPS is served. Certificates and keys are texts (PEM), so that another one is another edge.

    `roots` are trusted, besides the machine's, for the ACME server itself and for what it issues.
    """

    port: int
    issuer: Issuer
    email: str = ""
    directory: str = ""
    roots: str = ""
    certificate: str = ""
    key: str = ""


def read_own(certificate: str, key: str, now: datetime.datetime) -> tuple[str, str]:
    """A certificate (its chain after it) and its key, from two files.

    Raises Unavailable for what cannot be read or used, naming the setting: Caddy would only fail later.
    """
    chain, secret = read_roots("REFLOAT_TLS_CERT", certificate), _read("REFLOAT_TLS_KEY", key)
    first = x509.load_pem_x509_certificates(chain.encode())[0]
    if first.not_valid_after_utc <= now:
        raise Unavailable(
            f"REFLOAT_TLS_CERT: the certificate in {certificate} ended on {first.not_valid_after_utc:%F}",
            hint="put a renewed one in its place, or leave the setting out",
        )
    if _public_part(secret, key) != first.public_key().public_bytes(*_PUBLIC):
        raise Unavailable(
            f"REFLOAT_TLS_KEY: the key in {key} does not belong to the certificate in {certificate}",
            hint="give the key it was made with; the certificate comes first in its file, its chain after it",
        )
    return chain, secret


def read_roots(setting: str, path: str) -> str:
    """One or more certificates from a file; raises Unavailable naming the setting."""
    text = _read(setting, path)
    try:
        x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise Unavailable(
            f"{setting}: {path} holds no certificate",
            hint="a PEM file is wanted: -----BEGIN CERTIFICATE-----",
        ) from None
    return text


_PUBLIC = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(setting: str, path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise Unavailable(
            f"{setting}: {path} cannot be read: {error.strerror}", hint="check the path and who may read it"
        ) from None
    except UnicodeDecodeError:
        raise Unavailable(f"{setting}: {path} is not text", hint="a PEM file is wanted, not DER") from None


def _public_part(secret: str, path: str) -> bytes:
    try:
        return load_pem_private_key(secret.encode(), None).public_key().public_bytes(*_PUBLIC)
    except TypeError:
        raise Unavailable(
            f"REFLOAT_TLS_KEY: the key in {path} is encrypted",
            hint=f"`openssl pkey -in {path}` writes it without a passphrase",
        ) from None
    except ValueError:
        raise Unavailable(
            f"REFLOAT_TLS_KEY: {path} holds no private key",
            hint="a PEM file is wanted: -----BEGIN PRIVATE KEY-----",
        ) from None
