"""What is done for one service after its deployment failed, or was canceled."""

import contextlib
from collections.abc import Iterable, Sequence

from refloat.domain.errors import RefloatError, StepFailed
from refloat.domain.progress import Action
from refloat.domain.revision import Instance, InstanceState, Revision
from refloat.execution.deadline import OBSERVE_SECONDS, Overdue, within
from refloat.execution.domains import reattach
from refloat.execution.folded import Output
from refloat.execution.journal import Effect
from refloat.execution.readiness import ReadinessWait
from refloat.execution.service import ServiceInDeployment
from refloat.planning.plan import Change, StepName

_SERVES = frozenset({InstanceState.STARTING, InstanceState.RUNNING})
_END_SECONDS = 5.0
"""How long what a failed or canceled deployment started may take to answer, and then to end by itself."""


def endpoints_of(instances: Iterable[Instance]) -> tuple[str, ...]:
    """Where they are reached."""
    return tuple(it.endpoint for it in instances)


class ServiceUndoing(ServiceInDeployment):
    """Returns to what was applied before."""

    async def undo(self) -> None:
        """Return to what was applied before, and end what this deployment started.

        Called only when something was touched or may execute. Its own steps are journalled and survive a
        cancel.
        """
        if not self.touched:
            await self._undo_step(StepName.DISCARD, self._discard)
            return
        if not self.plan.routed and self.plan.change is Change.RECREATE:  # both would use the same data
            await self._undo_step(StepName.DISCARD, self._discard)
        await self._undo_step(StepName.REVERT, self._revert)
        await self._undo_step(StepName.DISCARD, self._discard)

    async def serving_now(self) -> str | None:
        """The key of the revision that serves, as route and cluster tell; "" for none, None when they do
        not tell. What ought to serve may not: a machine that went down took it along."""
        try:
            return await within(self._means.clock, self._seen_serving(), OBSERVE_SECONDS)
        except (Overdue, RefloatError):
            return None

    async def _seen_serving(self) -> str:
        key = self.plan.replaces or ""
        if self.plan.routed:
            route = await self._means.platform.router.serving(self.service_id)
            key = route.revision_key if route else ""
        return key if any(i.state is InstanceState.RUNNING for i in await self._observed(key)) else ""

    async def _undo_step(self, name: StepName, effect: Effect) -> Output:
        return await self._means.journal.step(
            self.service_id, name, effect, self._limits.deadline(name), despite_cancel=True
        )

    async def _revert(self) -> Output:
        router, before = self._means.platform.router, self._before
        if self.plan.routed:
            await reattach(router, self.service_id, before)
        if before is None or not before.should_run:
            if self.plan.routed:
                await self._route_to("", ())
            return {"serving": ""}
        old = self._old
        instances = [i for i in await self._observed(old.key) if i.state in _SERVES]
        if len(instances) < old.instances:
            instances = list(await (await self._held()).engine.prepare(old))
            wait = ReadinessWait(self._means.platform.engine, self._means.clock, old, routed=before.routed)
            await wait.until_ready()
        if before.routed:
            await self._route_to(old.key, endpoints_of(instances))
            if await self._led_astray(old):
                raise StepFailed("the route could not be led back: it still leads elsewhere")
        return {"serving": old.key}

    async def _discard(self) -> Output:
        starts = self.plan.action in (Action.DEPLOY, Action.RESTART) and self.plan.change is not Change.SKIP
        if starts or self.executing:
            if self.plan.routed and self._means.journal.begun(self.service_id, StepName.SWITCH):
                await self._let_finish(await self._observed(self.new_key))
            await (await self._held()).engine.stop(self.new_key, _END_SECONDS)
        return {}

    async def _let_finish(self, instances: Sequence[Instance]) -> None:
        """What was led to for a moment may still be answering; whether it ends does not depend on it."""
        drain = self._means.platform.router.drain(
            endpoints_of(instances), min(_END_SECONDS, self._means.drain_seconds)
        )
        with contextlib.suppress(RefloatError, Overdue):
            await within(self._means.clock, drain, 2 * _END_SECONDS)

    async def _route_to(self, key: str, endpoints: tuple[str, ...]) -> None:
        async with self._means.platform.turn(self.service_id):
            await (await self._held()).router.switch(self.service_id, key, endpoints)

    async def _led_astray(self, revision: Revision) -> bool:
        """Whether the route of what goes on leads elsewhere: a replaced owner may have switched it late."""
        if not self.plan.routed:
            return False
        serving = await self._means.platform.router.serving(self.service_id)
        return serving is None or serving.revision_key != revision.key
