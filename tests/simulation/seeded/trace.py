"""What happened, in order: the evidence of a run, equal for equal seeds."""

import hashlib
import random
from collections.abc import Callable


class Broken(AssertionError):
    """A guarantee does not hold."""


class Trace:
    """Lines with their virtual time, and the first guarantee that was found broken."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.lines: list[str] = []
        self.broken: Broken | None = None
        self.on_broken: Callable[[], None] = lambda: None

    def note(self, who: str, what: str) -> None:
        self.lines.append(f"{self._now():10.3f} {who:<12} {what}")

    def require(self, holds: object, guarantee: str, details: str) -> None:
        """Record a broken guarantee; the product may catch exceptions, so nothing is raised here."""
        if not holds and self.broken is None:
            self.note("BROKEN", f"{guarantee}: {details}")
            self.broken = Broken(f"{guarantee}: {details}")
            self.on_broken()

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()


def stream(seed: int, purpose: str) -> random.Random:
    """Random numbers of one purpose: a change in one place does not shift what happens in another."""
    return random.Random(f"{seed} {purpose}")
