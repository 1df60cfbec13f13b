"""Free ports on this machine for instances, each given to one at a time."""

import random
import socket
from collections.abc import Collection

from refloat.domain.errors import Unavailable
from refloat.supervisor.ports import Held, candidates, first_outgoing, hold

_TRIES = 2000


class Ports:
    """Chooses by binding. `dice` decides where the search begins, so that two installations do not meet."""

    def __init__(self, dice: random.Random | None = None) -> None:
        self._dice = dice or random.SystemRandom()

    def take(self, taken: Collection[int], wish: int | None = None) -> Held:
        """A free port that is not among `taken`, the wished one if possible.

        Raises Unavailable when none is free.
        """
        among = candidates(first_outgoing())
        wished = [wish] if wish else []
        for port in (*wished, *(self._dice.randint(among[0], among[-1]) for _ in range(_TRIES))):
            if port not in taken and (held := hold(port, _is_free)):
                return held
        raise Unavailable(
            f"no free port from {among[0]} to {among[-1]}", hint="stop something that listens there"
        )


def _is_free(port: int) -> bool:
    """On every address: the application may not keep to the loopback."""
    with socket.socket() as attempt:
        try:
            attempt.bind(("", port))
        except OSError:
            return False
    return True
