"""From a file to the changes it asks for, and doing them.

Every change knows its words and how to do itself. Ids are looked up when it is done, because earlier
changes make what later ones refer to. Nothing is done before everything was compared.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from refloat.cli.client import Json
from refloat.cli.manifest import compare
from refloat.cli.manifest.model import Manifest, Service
from refloat.cli.manifest.registry import with_registry_ids
from refloat.cli.manifest.there import There
from refloat.cli.manifest.variables import check_references, variable_changes
from refloat.cli.problems import Problem
from refloat.domain.resources import DEFAULT_STAGES


class Change(NamedTuple):
    """`sign` is + for what is made, ~ for what is changed, - for what is removed."""

    sign: str
    words: str
    line: int
    do: Callable[[], None]


def changes(there: There, wanted: Manifest, *, prune: bool) -> list[Change]:
    """What is to be done, in this order, so that the environment is what the file says."""
    comparison = _Comparison(there, wanted, prune)
    return [Change(*it) for it in comparison.all()]


def perform(there: There, wanted: Manifest, todo: list[Change]) -> None:
    """Do them one after the other; a refusal names the line that asked for it, and how far it came."""
    for made, change in enumerate(todo):
        try:
            change.do()
        except Problem as problem:
            problem.message = f"{wanted.reader.name}, line {change.line}: {problem.message}"
            if made:
                again = f"{made} of {len(todo)} changes are made; mend the file and apply it again"
                problem.hint = f"{problem.hint}; {again}" if problem.hint else again
            raise
        there.forget()


_Step = tuple[str, str, int, Callable[[], None]]


_NO_PROBES: Json = {"healthchecks": {}}
"""What the interface requires of most kinds, and a file need not say."""


class _Comparison:
    """One file against one environment."""

    def __init__(self, there: There, wanted: Manifest, prune: bool) -> None:
        self._there = there
        self._wanted = wanted
        self._prune = prune
        self._client = there.client

    def all(self) -> Iterator[_Step]:
        self._check_kinds()
        check_references(self._there, self._wanted)
        yield from self._environment()
        yield from self._stages()
        services = self._wanted.services
        for service in services or ():
            yield from self._service(service)
        yield from self._order()
        yield from variable_changes(self._there, self._wanted, prune=self._prune)
        if self._prune and services is not None:
            yield from self._superfluous_services(services)
        if self._prune and self._wanted.stages is not None:
            yield from self._superfluous_stages()

    # -- the environment

    def _environment(self) -> Iterator[_Step]:
        there, wanted = self._there.environment, self._wanted
        body: Json = {"name": wanted.name, **({"mode": wanted.mode} if wanted.mode else {})}
        if there is None:
            cluster = {"cluster": self._there.cluster(wanted.cluster)} if wanted.cluster else {}
            path = f"/project/{self._there.project['id']}/environment"
            yield "+", f"environment {wanted.name}", 1, lambda: self._post(path, body | cluster)
            return
        if wanted.cluster and self._there.cluster(wanted.cluster) != there["cluster_id"]:
            words = f"{wanted.name} runs on the cluster {there['cluster_name']}, which never changes"
            raise self._wrong(1, words, "clone it: refloat env clone --cluster")
        if wanted.mode and wanted.mode != there["mode"]:
            yield (
                "~",
                f"environment {wanted.name}: mode",
                1,
                lambda: self._put(f"/environment/{there['id']}", body),
            )

    # -- stages

    def _names_of_stages(self) -> list[str]:
        """Those that are there, or that a new environment is made with."""
        if self._there.environment:
            return [stage["name"].lower() for stage in self._there.stages]
        return [name.lower() for name in DEFAULT_STAGES]

    def _stages(self) -> Iterator[_Step]:
        for stage in self._wanted.stages or ():
            known = self._there.stage(stage["name"]) or {}
            if stage["name"].lower() not in self._names_of_stages():
                yield "+", f"stage {stage['name']}", stage.line, self._stage_maker(dict(stage))
            elif differing := compare.differences({**stage, "name": known.get("name", stage["name"])}, known):
                words = f"stage {stage['name']}: {', '.join(it for it in differing if it != 'name')}"
                if known or "description" in differing:
                    yield "~", words, stage.line, self._stage_editor(dict(stage))

    def _stage_maker(self, body: Json) -> Callable[[], None]:
        return lambda: self._post(f"/environment/{self._there.id}/deploymentStage", body)

    def _stage_editor(self, body: Json) -> Callable[[], None]:
        def edit() -> None:
            known = self._there.stage(body["name"])
            assert known is not None
            self._put(f"/deploymentStage/{known['id']}", {**body, "name": known["name"]})

        return edit

    def _order(self) -> Iterator[_Step]:
        wanted = [stage["name"].lower() for stage in self._wanted.stages or ()]
        there = self._names_of_stages()
        kept = [name for name in there if name in wanted]
        new = [name for name in wanted if name not in there]
        if len(wanted) > 1 and [*kept, *new] != wanted:
            line = self._wanted.stages[0].line if self._wanted.stages else 1
            yield "~", "order of the stages", line, lambda: self._reorder(wanted)

    def _reorder(self, wanted: list[str]) -> None:
        for before, name in itertools.pairwise(wanted):
            moved, other = self._there.stage(name), self._there.stage(before)
            if moved and other:
                self._put(f"/deploymentStage/{moved['id']}/moveAfter/{other['id']}", {})

    def _superfluous_stages(self) -> Iterator[_Step]:
        wanted = {stage["name"].lower() for stage in self._wanted.stages or ()}
        used = {s.stage.lower() for s in self._wanted.services or () if s.stage}
        for stage in self._there.stages:
            name = stage["name"].lower()
            if name not in {*wanted, *used, *(default.lower() for default in DEFAULT_STAGES)}:
                yield "-", f"stage {stage['name']}", 1, self._deleter(f"/deploymentStage/{stage['id']}")

    # -- services

    def _check_kinds(self) -> None:
        for wanted in self._wanted.services or ():
            there = self._there.services.get(wanted.name.lower())
            kind = there["service_type"].lower() if there else wanted.kind
            if kind != wanted.kind:
                words = f"{wanted.name} is a {kind} there, not a {wanted.kind}"
                raise self._wrong(wanted.line, words, "choose another name, or delete it first")
            if wanted.stage and not self._has_stage(wanted.stage):
                raise self._wrong(
                    wanted.line, f"there is no stage {wanted.stage!r}", "list it below `stages:`"
                )

    def _has_stage(self, name: str) -> bool:
        listed = {stage["name"].lower() for stage in self._wanted.stages or ()}
        return name.lower() in {*listed, *self._names_of_stages()}

    def _service(self, wanted: Service) -> Iterator[_Step]:
        there = self._there.services.get(wanted.name.lower())
        body = with_registry_ids(self._there, self._wanted.reader, wanted)
        if there is None:
            making = self._service_maker(wanted.kind, self._whole(wanted, body))
            yield "+", f"{wanted.kind} {wanted.name}", wanted.line, making
        elif differing := compare.differences(body, there):
            words, kept = ", ".join(differing), {key: there[key] for key in _NO_PROBES if key in there}
            edit = {**kept, **compare.with_ids(body, there)}
            path = f"/{wanted.kind}/{there['id']}"
            yield "~", f"{wanted.kind} {wanted.name}: {words}", wanted.line, self._putter(path, edit)
        stage, skipped = self._there.place(there) if there else ("", False)
        to_move = wanted.stage is not None and wanted.stage.lower() != stage.lower()
        to_skip = wanted.is_skipped is not None and wanted.is_skipped != skipped
        if to_move or to_skip:
            where = f" in stage {wanted.stage}" if to_move else ""
            how = f" {'skipped' if wanted.is_skipped else 'not skipped'}" if to_skip else ""
            yield "~", f"{wanted.kind} {wanted.name}{where}{how}", wanted.line, lambda: self._place(wanted)

    def _whole(self, wanted: Service, body: Json) -> Json:
        """What makes the service, with the probes that a file may leave out; it lacks nothing else."""
        whole = {**{key: value for key, value in _NO_PROBES.items() if key in wanted.required}, **body}
        for key in wanted.required:
            if key not in whole:
                raise self._wanted.reader.wrong(wanted.line, f"the {wanted.kind} {wanted.name} has no {key}")
        return whole

    def _service_maker(self, kind: str, body: Json) -> Callable[[], None]:
        return lambda: self._post(f"/environment/{self._there.id}/{kind}", body)

    def _place(self, wanted: Service) -> None:
        service = self._there.services[wanted.name.lower()]
        name, skipped = self._there.place(service)
        stage = self._there.stage(wanted.stage or name)
        assert stage is not None
        is_skipped = skipped if wanted.is_skipped is None else wanted.is_skipped
        self._put(f"/deploymentStage/{stage['id']}/service/{service['id']}", {"is_skipped": is_skipped})

    def _superfluous_services(self, wanted: tuple[Service, ...]) -> Iterator[_Step]:
        names = {service.name.lower() for service in wanted}
        for name, service in self._there.services.items():
            if name not in names:
                kind = service["service_type"].lower()
                yield "-", f"{kind} {service['name']}", 1, self._deleter(f"/{kind}/{service['id']}")

    # -- calls

    def _post(self, path: str, body: Json) -> None:
        self._client.post(path, body)

    def _put(self, path: str, body: Json) -> None:
        self._client.put(path, body)

    def _putter(self, path: str, body: Any) -> Callable[[], None]:
        return lambda: self._put(path, dict(body))

    def _deleter(self, path: str) -> Callable[[], None]:
        return lambda: self._client.delete(path)

    def _wrong(self, line: int, words: str, hint: str) -> Problem:
        return self._wanted.reader.wrong(line, words, hint)
