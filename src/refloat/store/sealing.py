"""Values at rest: encrypted with one key, and compared by keyed digests.

The key lies beside the database in a file of its own (0600), so that a copy of the database alone
reveals no value. Digests are keyed as well: a short password cannot be guessed from its digest.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from refloat.domain.errors import Unavailable

_VERSION = b"\x01"
_NONCE_BYTES = 12


class Sealer:
    """Seals and opens text, and digests it, under one 32-byte key. `entropy(n)` gives n random bytes."""

    def __init__(self, key: bytes, entropy: Callable[[int], bytes] = os.urandom) -> None:
        if len(key) != 32:
            raise ValueError("the sealing key has 32 bytes")
        self._aead = AESGCM(hmac.digest(key, b"refloat seal", "sha256"))
        self._entropy = entropy
        self._digest_key = hmac.digest(key, b"refloat digest", "sha256")

    def seal(self, text: str) -> str:
        """Encrypted and authenticated; differs at every call."""
        nonce = self._entropy(_NONCE_BYTES)
        sealed = self._aead.encrypt(nonce, text.encode(), _VERSION)
        return base64.b64encode(_VERSION + nonce + sealed).decode()

    def open(self, sealed: str) -> str:
        """The text again; raises Unavailable when the key is another one or the data was changed."""
        raw = base64.b64decode(sealed)
        nonce, body = raw[1 : 1 + _NONCE_BYTES], raw[1 + _NONCE_BYTES :]
        try:
            return self._aead.decrypt(nonce, body, raw[:1]).decode()
        except InvalidTag:
            raise Unavailable(
                "a stored value cannot be opened with this key",
                hint="restore the file secret.key that belongs to this database",
            ) from None

    def digest(self, text: str) -> str:
        """32 hexadecimal digits, the same for the same text under the same key."""
        return hmac.new(self._digest_key, text.encode(), hashlib.sha256).hexdigest()[:32]


def load_sealer(path: Path) -> Sealer:
    """The sealer of an installation; makes its key at the first start.

    Servers that share the file and start together get the same key.
    """
    try:
        if not path.exists():
            _create(path)
        return Sealer(path.read_bytes())
    except OSError as error:
        raise Unavailable(
            f"the key file {path} cannot be used: {error.strerror}", hint="check REFLOAT_SECRET_KEY_FILE"
        ) from None
    except ValueError:
        raise Unavailable(
            f"the key file {path} does not hold 32 bytes", hint="restore it from a backup"
        ) from None


def _create(path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(32))
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(temporary)
    temporary.unlink()
