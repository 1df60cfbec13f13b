"""Free ports on this machine for instances, each given to one at a time.

They come from below the range that outgoing connections use, so that none is taken between the choice
and the moment the application listens.
"""

import random
import socket
from collections.abc import Collection

from refloat.domain.errors import Unavailable

FIRST, LAST = 20_000, 32_767
_TRIES = 2000


class Ports:
    """Chooses by binding. `dice` decides where the search begins, so that two installations do not meet."""

    def __init__(self, dice: random.Random | None = None) -> None:
        self._dice = dice or random.SystemRandom()
        self._reserved: set[int] = set()

    def take(self, taken: Collection[int], wish: int | None = None) -> int:
        """A free port that is not among `taken`, the wished one if possible; nobody gets it until released.

        Raises Unavailable when none is free.
        """
        port = self._choose(taken, wish)
        self._reserved.add(port)
        return port

    def release(self, port: int) -> None:
        """From now on it is for the caller's labels to tell that it is taken."""
        self._reserved.discard(port)

    def _choose(self, taken: Collection[int], wish: int | None) -> int:
        candidates = [wish] if wish else []
        candidates += [self._dice.randint(FIRST, LAST) for _ in range(_TRIES)]
        for port in candidates:
            if port not in taken and port not in self._reserved and _is_free(port):
                return port
        raise Unavailable(f"no free port from {FIRST} to {LAST}", hint="stop something that listens there")


def _is_free(port: int) -> bool:
    """On every address: the application may not keep to the loopback."""
    with socket.socket() as attempt:
        try:
            attempt.bind(("", port))
        except OSError:
            return False
    return True
