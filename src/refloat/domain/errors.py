"""What can go wrong, named by what the caller can do about it.

Each class says the remedy (fix the request, sign in, wait, retry, give up); `code` is stable for
machines, the message names the thing, the hint names the next step. HTTP appears only in `api.errors`.
"""


class RefloatError(Exception):
    """Base of every error a user may see."""

    code = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class Unauthenticated(RefloatError):
    """No principal: the credential is absent, malformed or unknown."""

    code = "unauthenticated"


class Forbidden(RefloatError):
    """A known principal without the right for this operation."""

    code = "forbidden"


class NotFound(RefloatError):
    """No such thing, or not one the principal may know of: the same answer for both."""

    code = "not_found"


class Invalid(RefloatError):
    """The request itself is wrong; sending it again changes nothing."""

    code = "invalid"


class Conflict(RefloatError):
    """The request is fine, the world moved: a name is taken, a plan is stale, a race was lost."""

    code = "conflict"


class TooLarge(RefloatError):
    """The body is larger than the server reads."""

    code = "too_large"


class StorageFull(RefloatError):
    """Nothing can be written; reads go on."""

    code = "storage_full"


class Unavailable(RefloatError):
    """Something this installation needs is absent or too old; the operator can mend it."""

    code = "unavailable"


class StorageLost(Unavailable):
    """The database cannot be reached, or its connection broke in the middle of a unit of work: whether
    that is stored is known only by reading again."""


STORAGE = (StorageFull, StorageLost)
"""What the store may say now and not at the next attempt: nothing about a deployment follows from it."""


class StepFailed(RefloatError):
    """A step of a deployment failed for a reason the user must see; carries the last log lines."""

    code = "step_failed"

    def __init__(self, message: str, *, hint: str = "", log: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.log = log


class CommandStopped(StepFailed):
    """A command did not come to its end: it was stopped, as its revision was."""


class BuildFailed(StepFailed):
    """The source could not be fetched or built: the state is BUILD_ERROR."""

    code = "build_failed"


class Fenced(RefloatError):
    """Another owner has taken this deployment over: stop at once, write nothing more."""

    code = "fenced"


class IllegalTransition(RefloatError):
    """A defect of ours: a progress change that no arrow of the table allows."""

    code = "illegal_transition"
