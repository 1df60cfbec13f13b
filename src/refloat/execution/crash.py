"""Places where a test may end the control plane, named as `<step>:<before|during|after>`.

before: its effect has not begun, and it is not written down, or with the claim or the end before it. during:
it is written down and its effect has begun, or is complete and not recorded. after: its end is recorded.
"""

import asyncio
import os
import signal
from enum import StrEnum
from typing import Protocol

from refloat.settings import SettingError

_INTO_THE_EFFECT = 0.03


class Moment(StrEnum):
    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


class CrashPoints(Protocol):
    """Asked by the runner at every moment of every step."""

    def hit(self, step: str, moment: Moment) -> None:
        """Does not return if the crash is here."""
        ...

    def arm(self, step: str) -> None:
        """The effect of a step begins: a crash DURING it may come from now on."""
        ...


class NoCrash:
    """Outside of tests."""

    def hit(self, step: str, moment: Moment) -> None: ...

    def arm(self, step: str) -> None: ...


class KillAt:
    """Sends SIGKILL to this process at one place, the first time it is reached."""

    def __init__(self, place: str) -> None:
        self._step, _, moment = place.partition(":")
        try:
            self._moment = Moment(moment)
        except ValueError:
            raise SettingError(
                f"REFLOAT_CRASH_AT is {place!r}; it must be <step>:<before|during|after>"
            ) from None

    def hit(self, step: str, moment: Moment) -> None:
        if step == self._step and moment is self._moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def arm(self, step: str) -> None:
        if step == self._step and self._moment is Moment.DURING:
            asyncio.get_running_loop().call_later(_INTO_THE_EFFECT, self.hit, step, Moment.DURING)
