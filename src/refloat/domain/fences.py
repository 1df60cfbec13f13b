"""In whose hands a service is: which deployment, under which owner, may still act on it."""

from collections.abc import Sequence

import msgspec

from refloat.domain.errors import Fenced
from refloat.domain.revision import Revision


class Fence(msgspec.Struct, frozen=True):
    """A deployment that acted on a service, with the highest fence that it had then."""

    deployment_id: str
    fence: int


def handed_on(known: Sequence[Fence], revision: Revision) -> list[Fence]:
    """What is known of a service, oldest first, after this revision was touched.

    Raises Fenced for an owner that was replaced, and for a deployment that a later one followed.
    """
    ours = Fence(revision.deployment_id, revision.fence)
    followed = any(it.deployment_id == ours.deployment_id for it in known[:-1])
    same = [it for it in known[-1:] if it.deployment_id == ours.deployment_id]
    if followed or any(it.fence > ours.fence for it in same):
        raise Fenced(f"deployment {ours.deployment_id} has a newer owner or was followed by another one")
    return [*known[: len(known) - len(same)], ours]
