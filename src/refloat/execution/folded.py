"""What the journal of a deployment says: folding its lines is all that a resumed runner needs."""

from collections.abc import Sequence

import msgspec

from refloat.domain.deployment import Attempt, Deployment, Outcome, Step, Target
from refloat.planning.plan import StepName
from refloat.store import deployments as store
from refloat.store.database import Database

Output = dict[str, object]

_UNDOING = (StepName.REVERT, StepName.DISCARD)
_NOTHING = "{}"


class Folded:
    """What was begun, what ended and how, as far as it is stored."""

    def __init__(
        self, database: Database, deployment: Deployment, fresh: Sequence[Target] | None = None
    ) -> None:
        """`fresh` are the targets of a deployment of which nothing else is written down yet."""
        self.deployment = deployment
        self._database = database
        self._steps: dict[tuple[str, str], Step] = {}
        self._targets = {target.service_id: target for target in fresh or ()}
        self._is_fresh = fresh is not None
        self._ordinal = 0

    async def load(self) -> None:
        """Fold what an earlier owner wrote."""
        if self._is_fresh:
            return
        for step in await store.steps(self._database.read, self.deployment.id):
            self._steps[step.service_id, step.name] = step
            self._ordinal = max(self._ordinal, step.ordinal)
        for target in await store.targets(self._database.read, self.deployment.id):
            self._targets[target.service_id] = target

    def target(self, service_id: str) -> Target:
        return self._targets[service_id]

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(self._targets.values())

    def output(self, service_id: str, name: StepName) -> Output | None:
        """What a step left when it was done; None if it was not."""
        step = self._steps.get((service_id, name))
        if step is None or step.outcome is not Outcome.DONE:
            return None
        return msgspec.json.decode(step.output, type=dict[str, object])

    def failure(self, service_id: str) -> str:
        """Why a service failed, if a former owner wrote that down: it is undone, not tried again; else ""."""
        failed = [
            s
            for s in self._steps.values()
            if s.service_id == service_id and s.outcome is Outcome.FAILED and s.name not in _UNDOING
        ]
        return str(msgspec.json.decode(failed[0].output).get("error")) if failed else ""

    def done(self, service_id: str, name: StepName) -> bool:
        """Whether it is stored that a step ended well."""
        step = self._steps.get((service_id, name))
        return step is not None and step.outcome is Outcome.DONE

    def begun(self, service_id: str, name: StepName) -> bool:
        """Whether a step was ever begun."""
        return (service_id, name) in self._steps

    def attempt(self, service_id: str, name: StepName) -> Attempt | None:
        """What a step that is under way has come to, with us or with a former owner."""
        step = self._steps.get((service_id, name))
        noted = step.output if step else _NOTHING
        return None if noted == _NOTHING else msgspec.json.decode(noted, type=Attempt)


def come_to(earlier: Step | None) -> str:
    """The note with which a step is begun again: what a job has come to goes on, a probe is counted anew."""
    cut = earlier and earlier.name == StepName.EXECUTE and earlier.outcome in (None, Outcome.CANCELED)
    return earlier.output if earlier and cut else _NOTHING
