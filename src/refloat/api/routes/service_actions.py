"""Actions on some services of an environment, and on one service of each kind."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import delete, get, post
from litestar.params import JSONBody, QueryParameter
from litestar.response import Response

from refloat.api import statuses
from refloat.api.call import Body, Call, Http, Id
from refloat.api.routes.deployments import status_of
from refloat.control import deployments as control
from refloat.control.access import Operation
from refloat.domain.deployment import Verb
from refloat.domain.errors import Invalid
from refloat.domain.resources import Environment
from refloat.domain.services import SERVICE_KINDS, AnyService, Container, Job, JobEvent, Service
from refloat.store import resources


class ApplicationVersion(msgspec.Struct, kw_only=True):
    """`git_commit_id` left out: the version that is deployed now."""

    application_id: str
    git_commit_id: str | None = None


class ContainerVersion(msgspec.Struct, kw_only=True):
    id: str
    image_tag: str | None = None


class JobVersion(msgspec.Struct, kw_only=True):
    """One of the two, by the job's source."""

    id: str
    image_tag: str | None = None
    git_commit_id: str | None = None


class DeployInput(msgspec.Struct, kw_only=True):
    applications: list[ApplicationVersion] = []
    containers: list[ContainerVersion] = []
    databases: list[str] = []
    jobs: list[JobVersion] = []
    helms: list[dict[str, str | None]] = []
    terraforms: list[dict[str, str | None]] = []


class ServicesInput(msgspec.Struct, kw_only=True):
    application_ids: list[str] = []
    container_ids: list[str] = []
    database_ids: list[str] = []
    job_ids: list[str] = []
    helm_ids: list[str] = []
    terraform_ids: list[str] = []

    @property
    def ids(self) -> list[str]:
        """In the order of the kinds."""
        known = [*self.application_ids, *self.container_ids, *self.database_ids, *self.job_ids]
        return [*known, *self.helm_ids, *self.terraform_ids]


class VersionInput(msgspec.Struct, kw_only=True):
    git_commit_id: str | None = None
    image_tag: str | None = None


async def service_status(call: Call, service_id: str) -> Body:
    """`Status` of one service."""
    service = await resources.get_service(call.read, service_id)
    environment = await resources.get(call.read, Environment, service.parent)
    return (await statuses.view(call.context, environment)).service(service)


# -- some services of an environment


async def _named(call: Call, ids: Sequence[str]) -> list[AnyService]:
    """The services of these ids."""
    if not ids:
        raise Invalid("no service is named", hint="list at least one")
    return [await call.reach_service(service_id) for service_id in ids]


@post("/environment/{environment_id:str}/service/deploy", status_code=202)
async def deploy_services(request: Http, environment_id: Id, data: JSONBody[DeployInput]) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id, Operation.DEPLOY)
    if data.helms or data.terraforms:
        raise Invalid("helms and terraforms are not available in this version")
    wanted: list[tuple[str, VersionInput]] = [
        *((a.application_id, VersionInput(git_commit_id=a.git_commit_id)) for a in data.applications),
        *((c.id, VersionInput(image_tag=c.image_tag)) for c in data.containers),
        *((d, VersionInput()) for d in data.databases),
        *((j.id, VersionInput(git_commit_id=j.git_commit_id, image_tag=j.image_tag)) for j in data.jobs),
    ]
    services = {s.id: s for s in await _named(call, [service_id for service_id, _ in wanted])}
    versions: dict[str, str] = {}
    for service_id, given in wanted:
        if version := _version(services[service_id.lower()], given):
            versions[service_id.lower()] = version
        else:
            _require_pinned(services[service_id.lower()])
    await control.request(
        call.context, call.principal, environment, Verb.DEPLOY, services=list(services), versions=versions
    )
    return await status_of(call, environment)


def _version(service: AnyService, given: VersionInput) -> str:
    """The version for this service, "" for none; a commit belongs to what is built, a tag to an image."""
    has_image = isinstance(service, Container | Job) and service.image is not None
    if given.git_commit_id and service.git is None:
        raise Invalid(f"git_commit_id: {service.name} is not built from git")
    if given.image_tag and not has_image:
        raise Invalid(f"image_tag: {service.name} does not run an image")
    return (given.image_tag if has_image else given.git_commit_id) or ""


def _require_pinned(service: AnyService) -> None:
    if service.git and service.commit is None:
        raise Invalid(f"{service.name} was never deployed: a version is needed", hint="give git_commit_id")


async def _act_on_services(request: Http, environment_id: str, verb: Verb) -> tuple[Call, list[AnyService]]:
    call = Call(request)
    environment = await call.reach(Environment, environment_id, Operation.DEPLOY)
    services = await _named(call, (await call.optional_body(ServicesInput)).ids)
    await control.request(call.context, call.principal, environment, verb, services=[s.id for s in services])
    return call, services


@post("/environment/{environment_id:str}/service/restart-service", status_code=202)
async def restart_services(request: Http, environment_id: Id) -> Body:
    call, services = await _act_on_services(request, environment_id, Verb.RESTART)
    return await service_status(call, services[0].id)


async def _silently(request: Http, environment_id: str, verb: Verb) -> Response[bytes]:
    """Published as 200 without a body."""
    await _act_on_services(request, environment_id, verb)
    return Response(b"")


@post("/environment/{environment_id:str}/service/stop", status_code=200)
async def stop_services(request: Http, environment_id: Id) -> Response[bytes]:
    return await _silently(request, environment_id, Verb.STOP)


@post("/environment/{environment_id:str}/service/delete", status_code=200)
async def delete_services(request: Http, environment_id: Id) -> Response[bytes]:
    return await _silently(request, environment_id, Verb.DELETE)


@post("/environment/{environment_id:str}/service/uninstall", status_code=200)
async def uninstall_services(request: Http, environment_id: Id) -> Response[bytes]:
    return await _silently(request, environment_id, Verb.UNINSTALL)


# -- one service


async def _act(
    request: Http, kind: type[Service], service_id: str, verb: Verb, event: JobEvent | None = None
) -> Body:
    call = Call(request)
    service: Any = await call.reach(kind, service_id, Operation.DEPLOY)
    environment = await resources.get(call.read, Environment, service.parent)
    versions: dict[str, str] = {}
    if verb is Verb.DEPLOY:
        version = _version(service, await call.optional_body(VersionInput))
        versions = {service.id: version} if version else {}
    else:
        await call.no_body()
    await control.request(
        call.context, call.principal, environment, verb, services=[service.id], versions=versions, event=event
    )
    return await service_status(call, service.id)


ForceEvent = Annotated[JobEvent | None, QueryParameter(name="forceEvent")]

_ACTIONS = {
    "deploy": Verb.DEPLOY,
    "redeploy": Verb.REDEPLOY,
    "stop": Verb.STOP,
    "restart-service": Verb.RESTART,
    "uninstall": Verb.UNINSTALL,
}


def _action(kind: type[Service], word: str, verb: Verb) -> Any:
    path, name = f"/{kind.kind}/{{service_id:str}}/{word}", f"{word}_{kind.kind}"

    @post(path, status_code=202, name=name, operation_id=name)
    async def act(request: Http, service_id: Id) -> Body:
        return await _act(request, kind, service_id, verb)

    return act


def _deploying_job(word: str) -> Any:
    """With `?forceEvent=CRON` (START, STOP, DELETE) the job runs what it has for that, once and at once."""
    path, name = f"/job/{{service_id:str}}/{word}", f"{word}_job"

    @post(path, status_code=202, name=name, operation_id=name)
    async def act(request: Http, service_id: Id, event: ForceEvent = None) -> Body:
        return await _act(request, Job, service_id, _ACTIONS[word], event)

    return act


def _acting(kind: type[Service], word: str) -> Any:
    runs = kind is Job and word in ("deploy", "redeploy")
    return _deploying_job(word) if runs else _action(kind, word, _ACTIONS[word])


def _family(kind: type[Service]) -> tuple[Any, ...]:
    """The endpoints of one kind."""
    noun = kind.kind

    def named(verb: str) -> dict[str, Any]:
        return {"name": f"{verb}_{noun}", "operation_id": f"{verb}_{noun}"}

    @delete(f"/{noun}/{{service_id:str}}", **named("delete"))
    async def remove(request: Http, service_id: Id) -> None:
        call = Call(request)
        service = await call.reach(kind, service_id, Operation.MANAGE)
        environment = await resources.get(call.read, Environment, service.parent)
        await control.request(call.context, call.principal, environment, Verb.DELETE, services=[service.id])

    @get(f"/{noun}/{{service_id:str}}/status", **named("status"))
    async def status(request: Http, service_id: Id) -> Body:
        call = Call(request)
        return await service_status(call, (await call.reach(kind, service_id)).id)

    @get(f"/environment/{{environment_id:str}}/{noun}/status", **named("statuses"))
    async def status_list(request: Http, environment_id: Id) -> Body:
        call = Call(request)
        environment = await call.reach(Environment, environment_id)
        return {"results": (await statuses.view(call.context, environment)).flat()[f"{noun}s"]}

    words = [word for word in _ACTIONS if word != "restart-service" or kind is not Job]
    return remove, status, status_list, *(_acting(kind, word) for word in words)


ROUTES = (
    deploy_services,
    restart_services,
    stop_services,
    delete_services,
    uninstall_services,
    *(handler for kind in SERVICE_KINDS for handler in _family(kind)),
)
