"""Services as native processes of this machine, each instance under its own shim.

    <node>/run/app.<revision key>.<index>/    an instance, its spec, state and log (see supervisor.shim)
    <node>/run/run.<key>/                     a command that runs to its end, and its result
    <node>/services/<service id>/             releases, home, tmp and fences (see homes)
    <node>/accounts.json                      the user of each service (see supervisor.accounts)

What exists is read from these directories and nowhere else: labels in the specs say to which service,
environment and deployment a process belongs and which port it was given.
"""

import asyncio
import contextlib
import heapq
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from refloat.domain.errors import CommandStopped, StepFailed
from refloat.domain.revision import (
    Capabilities,
    Executing,
    Instance,
    InstanceState,
    Level,
    LogLine,
    LogSink,
    Ran,
    Remembered,
    Revision,
)
from refloat.domain.services import Probe
from refloat.engines.local.checks import ask, asks_the_instance
from refloat.engines.local.databases import Databases, ping
from refloat.engines.local.homes import Homes, read_output
from refloat.engines.local.listening import is_anothers, leads_to, listened
from refloat.engines.local.ports import Ports
from refloat.supervisor.accounts import Accounts
from refloat.supervisor.base import LIVE, Restart, Spec, State, Status, Supervisor
from refloat.supervisor.logs import Follower
from refloat.supervisor.ports import hold

HOST = "127.0.0.1"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUTPUT_FILE = "REFLOAT_OUTPUT_FILE"
"""Tells a command where it may leave values for later stages."""
PIDS = 4096
"""Processes and threads of one instance together."""
SETTLED_SECONDS = 10.0
"""How long an instance may take to end because another process listens on its port. What answers beside one
that has not is there on its behalf, like the forwarder of a container."""
KEPT_REVISIONS = 5
"""How many revisions of a service keep their logs."""
_FOLLOW_EVERY = 0.05

_STATES = {
    Status.STARTING: InstanceState.STARTING,
    Status.RUNNING: InstanceState.RUNNING,
    Status.BACKOFF: InstanceState.BACKOFF,
    Status.STOPPING: InstanceState.STOPPING,
    Status.EXITED: InstanceState.EXITED,
    Status.LOST: InstanceState.EXITED,
}
"""Stopped ones are absent: they exist no more, only their logs do."""


class LocalEngine:
    """Implements Engine for one node. `limiting` says whether the supervisor enforces limits."""

    def __init__(
        self,
        node_dir: Path,
        supervisor: Supervisor,
        accounts: Accounts,
        *,
        limiting: bool = False,
        ports: Ports | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._accounts = accounts
        self._homes = Homes(node_dir, accounts)
        self._limiting = limiting
        self._ports = ports or Ports()
        self._choosing = asyncio.Lock()
        self._databases = Databases(node_dir, supervisor, accounts, self._homes, self._ports)

    def capabilities(self) -> Capabilities:
        notes = ["gRPC probes ask only whether the port accepts connections", "files lie below $HOME"]
        if not self._accounts.isolating:
            notes.append("applications run as the same user as Refloat")
        return Capabilities(
            kind="local",
            service_kinds=("application", "database", "job"),
            isolation=self._accounts.isolating,
            limits=self._limiting,
            databases=self._databases.servers.versions(),
            notes=tuple(notes),
        )

    async def prepare(self, revision: Revision) -> tuple[Instance, ...]:
        self._homes.guard(revision)
        if revision.database:
            furnished = await self._databases.furnished(self._at_home(revision), revision.database)
            self._homes.guard(revision)  # making its data takes long enough to be replaced meanwhile
            revision = furnished
        if not revision.command:
            raise StepFailed(f"{revision.name} has no command to run", hint="add a Procfile or an entrypoint")
        self._homes.furnish(revision)
        await asyncio.gather(*(self._start(revision, index) for index in range(revision.instances)))
        return tuple(i for i in await self.observe() if i.revision_key == revision.key)

    def _at_home(self, revision: Revision) -> Revision:
        """With its directories made, so that data can be put there."""
        self._homes.furnish(msgspec.structs.replace(revision, files={}))
        return revision

    async def reserve(self, service_id: str) -> str:
        return f"{HOST}:{self._databases.reserve(service_id)}"

    async def observe(self, environment_id: str | None = None) -> tuple[Instance, ...]:
        states = await self._supervisor.states("app.")
        wanted = (s for s in states if environment_id in (None, s.labels.get("environment")))
        return tuple(_instance(state) for state in wanted if state.status in _STATES)

    async def run(self, revision: Revision, argv: tuple[str, ...], key: str, log: LogSink) -> Ran:
        """A repeat tells the log from its beginning, of a run that goes on and of one that has ended.

        A run that was stopped, or lost with the machine, is no result: it is run again.
        """
        self._homes.guard(revision)
        id = f"run.{key}"
        output = self._homes.temporary(revision.service_id) / f"output.{key}.json"
        state = await self._supervisor.state(id)
        if state and state.status is Status.EXITED and state.exit_code is not None:
            return Ran(exit_code=await self._follow(id, log), output=read_output(output))
        if state and state.status not in LIVE:
            await self._supervisor.forget(id)
        self._homes.furnish(revision)
        told = {**revision.environment, OUTPUT_FILE: str(output)}
        revision = msgspec.structs.replace(revision, environment=told)
        if state is None or state.status not in LIVE:  # one that runs may end now: it is only joined
            await self._supervisor.start(self._spec(revision, id, argv, Restart.NEVER))
        return Ran(exit_code=await self._follow(id, log), output=read_output(output))

    async def executing(self, environment_id: str | None = None) -> tuple[Executing, ...]:
        states = await self._supervisor.states("run.")
        wanted = (s for s in states if environment_id in (None, s.labels.get("environment")))
        return tuple(_executing(state) for state in wanted if state.status in LIVE)

    async def forget_run(self, key: str) -> None:
        id = f"run.{key}"
        if spec := self._supervisor.spec(id):
            output = self._homes.temporary(spec.labels["service"]) / f"output.{key}.json"
            await asyncio.to_thread(output.unlink, missing_ok=True)
            await self._supervisor.forget(id)

    async def check(self, instance: Instance, probe: Probe, timeout: float) -> str:
        id = _id(instance.revision_key, instance.index)
        state, spec = await self._supervisor.state(id), self._supervisor.spec(id)
        if state is None or spec is None or state.status is not Status.RUNNING:
            return "it is not running"
        endpoint = _endpoint(state)
        if kind := spec.labels.get("database"):
            answer = await ping(kind, endpoint, timeout)
        else:
            answer = await ask(endpoint, spec, probe, timeout)
        if answer or not asks_the_instance(probe) or not await self._is_anothers(state):
            return answer
        return f"another process answers on {endpoint}"

    async def elsewhere(self, instance: Instance) -> tuple[str, ...]:
        members = await self._supervisor.members(_id(instance.revision_key, instance.index))
        found = await asyncio.to_thread(listened, members)
        return () if any(leads_to(address, instance.endpoint) for address in found) else found

    async def logs(self, revision_key: str, tail: int) -> tuple[LogLine, ...]:
        ids = [s.id for s in await self._of(revision=revision_key) if s.id.startswith("app.")]
        merged = heapq.merge(*(self._supervisor.log(id, tail) for id in ids), key=lambda line: line.at)
        return tuple(merged)[-tail:] if tail > 0 else ()

    async def stop(self, revision_key: str, grace_seconds: float) -> None:
        states = await self._of(revision=revision_key)
        wanted = (s for s in states if s.id.startswith("app.") or s.status is not Status.EXITED)
        await asyncio.gather(*(self._supervisor.stop(state.id, grace_seconds) for state in wanted))
        for service_id in {state.labels["service"] for state in states}:
            await self._prune(service_id)

    async def remember(self, service_id: str, document: str) -> None:
        await asyncio.to_thread(self._homes.remember, service_id, document)

    async def remembered(self) -> tuple[Remembered, ...]:
        documents = await asyncio.to_thread(self._homes.remembered)
        last: dict[str, int] = {}
        for state in (*await self._supervisor.states("app."), *await self._supervisor.states("run.")):
            service_id, number = state.labels.get("service", ""), _age(state.labels.get("revision", ""))[0]
            last[service_id] = max(last.get(service_id, 0), number)
        return tuple(
            Remembered(service_id=service_id, document=document, last_number=last.get(service_id, 0))
            for service_id, document in documents.items()
        )

    async def destroy(self, service_id: str) -> None:
        states = await self._of(service=service_id)
        await asyncio.gather(*(self._supervisor.forget(state.id) for state in states))
        await asyncio.to_thread(self._homes.remove, service_id)
        self._accounts.free(service_id)
        self._databases.forget(service_id)

    # -- starting

    async def _start(self, revision: Revision, index: int) -> None:
        """Keeps the port of an earlier attempt if it is free. One that was told to end does so first."""
        id = _id(revision.key, index)
        state = await self._supervisor.state(id)
        if state and state.status is Status.STOPPING:
            await self._supervisor.stop(id)
            self._homes.guard(revision)  # it took long enough to be replaced meanwhile
        async with self._choosing:
            states = {state.id: state for state in await self._supervisor.states("app.")}
            known = states.get(id)
            if known and known.status in LIVE:
                return
            taken = {port for s in states.values() if s.status in LIVE and (port := _port(s))}
            if revision.database:
                port = revision.database.port
                given = hold(port)  # by nobody else, unless it is being started already
            else:
                taken |= set(self._databases.reserved().values())
                given = self._ports.take(taken, _port(known) if known else None)
                port = given.number
        with given or contextlib.nullcontext():
            spec = self._spec(revision, id, revision.command, Restart.ALWAYS, index=index, port=port)
            await self._supervisor.start(spec, (given.fileno(),) if given else ())

    def _spec(
        self,
        revision: Revision,
        id: str,
        argv: tuple[str, ...],
        restart: Restart,
        *,
        index: int = 0,
        port: int | None = None,
    ) -> Spec:
        uid = self._accounts.uid(revision.service_id)
        home = self._homes.home(revision.service_id)
        return Spec(
            id=id,
            argv=argv,
            cwd=revision.artifact.location or str(home),
            environment=self._environment(revision, port),
            restart=restart,
            uid=uid,
            gid=uid,
            cpu_milli=revision.cpu,
            memory_bytes=revision.memory * 1024**2,
            pids=PIDS,
            grace_seconds=revision.grace_seconds,
            labels={
                "service": revision.service_id,
                "environment": revision.environment_id,
                "deployment": revision.deployment_id,
                "revision": revision.key,
                "index": str(index),
                "port": str(port or ""),
                **({"database": revision.database.type} if revision.database else {}),
            },
        )

    def _environment(self, revision: Revision, port: int | None) -> dict[str, str]:
        """The user's variables win over the build's and ours, except for the port, which is not theirs."""
        ours = {
            "PATH": PATH,
            "HOME": str(self._homes.home(revision.service_id)),
            "TMPDIR": str(self._homes.temporary(revision.service_id)),
            "LANG": "C.UTF-8",
        }
        address = {"HOST": HOST} if port else {}
        final = {"PORT": str(port)} if port else {}
        return ours | address | revision.artifact.environment | revision.environment | final

    async def _follow(self, id: str, log: LogSink) -> int:
        follower = Follower(self._supervisor.log_path(id).parent)
        waiting = asyncio.ensure_future(self._supervisor.wait(id))
        try:
            while not waiting.done():
                _pass_on(follower, log)
                await asyncio.wait({waiting}, timeout=_FOLLOW_EVERY)
            while _pass_on(follower, log):
                pass
        finally:
            waiting.cancel()
            follower.close()
        state = waiting.result()
        if state.status is not Status.EXITED or state.exit_code is None:
            raise CommandStopped("the command was stopped before it ended", hint="deploy again")
        return state.exit_code

    # -- looking

    async def _is_anothers(self, state: State) -> bool:
        """Whether not this instance answered at its endpoint, which is not asked of one that runs on: had it
        not been able to listen there, it would have ended."""
        endpoint = _endpoint(state)
        if state.started_at is None or _since(state.started_at) >= SETTLED_SECONDS:
            return False
        if not await asyncio.to_thread(is_anothers, endpoint, [state.pid]):
            return False  # most listen themselves, and their tree costs more to find
        members = await self._supervisor.members(state.id)
        return await asyncio.to_thread(is_anothers, endpoint, members)

    async def _of(self, **labels: str) -> list[State]:
        states = (*await self._supervisor.states("app."), *await self._supervisor.states("run."))
        return [state for state in states if labels.items() <= state.labels.items()]

    async def _prune(self, service_id: str) -> None:
        """Delete the logs of all but the newest revisions, never of one that lives."""
        states = await self._of(service=service_id)
        keys = sorted({state.labels["revision"] for state in states}, key=_age)
        old = set(keys[:-KEPT_REVISIONS])
        for state in states:
            if state.labels["revision"] in old and state.status not in LIVE:
                await self._supervisor.forget(state.id)


def _id(revision_key: str, index: int) -> str:
    return f"app.{revision_key}.{index}"


def _port(state: State) -> int | None:
    return int(state.labels.get("port") or 0) or None


def _since(moment: datetime) -> float:
    return (datetime.now(UTC) - moment).total_seconds()


def _endpoint(state: State) -> str:
    return f"{HOST}:{_port(state)}"


def _age(revision_key: str) -> tuple[int, str]:
    """Revisions are numbered in the order of their deployments."""
    number = revision_key.rpartition(".")[2]
    return (int(number) if number.isdecimal() else 0, revision_key)


def _instance(state: State) -> Instance:
    return Instance(
        revision_key=state.labels["revision"],
        service_id=state.labels["service"],
        environment_id=state.labels["environment"],
        deployment_id=state.labels["deployment"],
        index=int(state.labels["index"]),
        state=_STATES[state.status],
        endpoint=_endpoint(state),
        restarts=state.restarts,
        exit_code=None if state.status is Status.LOST else state.exit_code,
    )


def _executing(state: State) -> Executing:
    return Executing(
        key=state.id.removeprefix("run."),
        revision_key=state.labels["revision"],
        service_id=state.labels["service"],
        environment_id=state.labels["environment"],
    )


def _pass_on(follower: Follower, log: LogSink) -> int:
    lines = follower.new()
    for line in lines:
        log(Level.INFO, line.text)
    return len(lines)
