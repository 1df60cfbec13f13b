"""How a command ends when it does not end well: exit codes, and the one exception that carries them."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, so that scripts can tell endings apart."""

    DONE = 0
    FAILED = 1
    CANCELED = 2
    TIMEOUT = 3
    UNREACHABLE = 4
    USAGE = 64
    INTERRUPTED = 130
    UNREAD = 141


class Problem(Exception):
    """Ends the command: the message and the hint go to stderr, the code to the shell."""

    def __init__(self, message: str, *, hint: str = "", code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def words(self) -> str:
        """What a person reads: the message, and the hint on a line of its own."""
        return f"refloat: {self.message}" + (f"\n  hint: {self.hint}" if self.hint else "")


class Unreachable(Problem):
    """The server does not answer, or not as one of ours; asking again may help."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, code=Exit.UNREACHABLE)


class Missing(Problem):
    """The server knows no such thing; after a delete that is what was wanted."""
