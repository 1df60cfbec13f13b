"""Custom domains of services: names of somebody else's that lead here from the next deployment on."""

import asyncio
from enum import StrEnum
from typing import Any

import msgspec

from refloat.control.context import Context
from refloat.domain.errors import Invalid, NotFound, Unavailable
from refloat.domain.hosts import OWN_ZONE, domain_name, host_names, is_below
from refloat.domain.resources import CustomDomain
from refloat.domain.services import Workload
from refloat.execution.applied import everywhere
from refloat.planning.wanted import domains_in
from refloat.store import resources as store
from refloat.store.database import Reader, Transaction

Unset = msgspec.UnsetType


class DomainInput(msgspec.Struct, kw_only=True):
    """Body of a create and an edit; an edit keeps what is left out."""

    domain: str
    generate_certificate: bool | Unset | None = msgspec.UNSET
    use_cdn: bool | Unset | None = msgspec.UNSET


class Standing(StrEnum):
    """Where a domain leads, as published. The first two are what is wanted, by `use_cdn`."""

    RESOLVES_TO_IP = "RESOLVES_TO_IP"
    MATCHES_LOAD_BALANCER_HOST = "MATCHES_LOAD_BALANCER_HOST"
    DOMAIN_NOT_CONFIGURED = "DOMAIN_NOT_CONFIGURED"
    DOMAIN_LINKED_TO_WRONG_HOST = "DOMAIN_LINKED_TO_WRONG_HOST"
    GENERIC_FAILURE = "GENERIC_FAILURE"


async def create(context: Context, service: Workload, body: DomainInput) -> CustomDomain:
    """A new domain of the service."""
    now = context.clock.now()
    async with context.database.transaction() as tx:
        await store.get(tx, type(service), service.id)
        made = CustomDomain(
            id=context.new_id(), parent=service.id, created_at=now, updated_at=now, **_fields(body)
        )
        await _require_free(context, tx, made)
        await store.insert_resource(tx, made)
    return made


async def edit(context: Context, domain: CustomDomain, body: DomainInput) -> CustomDomain:
    """Another name, or another answer to who has the certificate."""
    async with context.database.transaction() as tx:
        current = await store.get(tx, CustomDomain, domain.id)
        edited = msgspec.structs.replace(current, **_fields(body), updated_at=context.clock.now())
        await _require_free(context, tx, edited)
        await store.replace_resource(tx, edited)
    return edited


async def delete(context: Context, domain: CustomDomain) -> None:
    """It goes on leading to the service until that is deployed the next time."""
    async with context.database.transaction() as tx:
        await store.delete_resource(tx, domain.id)


async def find(read: Reader, service: Workload, domain_id: str) -> CustomDomain:
    """The domain if it is this service's."""
    found = await store.find(read, CustomDomain, domain_id.lower())
    if found is None or found.parent != service.id:
        raise NotFound(f"no custom domain {domain_id} of {service.name}")
    return found


async def target_of(context: Context, service: Workload) -> str:
    """The service's own name: what the domain's CNAME record has to lead to."""
    services = await store.services(context.database.read, service.parent)
    names = {s.id: s.name for s in services if isinstance(s, Workload)} | {service.id: service.name}
    return host_names(service.parent, names, context.settings.domain)[service.id]


async def check(context: Context, service: Workload) -> list[tuple[CustomDomain, Standing, str]]:
    """Where each domain of the service leads now, and in words what is wrong; "" when nothing is."""
    domains = await store.children(context.database.read, CustomDomain, service.id)
    target = await target_of(context, service)
    found = await asyncio.gather(*(_standing(context, domain, target) for domain in domains))
    return [(domain, *standing) for domain, standing in zip(domains, found, strict=True)]


async def _standing(context: Context, domain: CustomDomain, target: str) -> tuple[Standing, str]:
    try:
        found = await context.resolve(domain.name)
        if not found:
            wanted = "an address" if domain.use_cdn else f"a CNAME record that leads to {target}"
            return Standing.DOMAIN_NOT_CONFIGURED, f"{domain.name} has no address; give it {wanted}"
        if domain.use_cdn:
            return Standing.RESOLVES_TO_IP, ""
        ours = await context.resolve(target)
    except Unavailable as error:
        return Standing.GENERIC_FAILURE, str(error)
    if not ours:
        zone = context.settings.domain
        return Standing.GENERIC_FAILURE, f"{target} has no address; make a DNS record for *.{zone} first"
    if found & ours:
        return Standing.MATCHES_LOAD_BALANCER_HOST, ""
    leads = f"{domain.name} leads to {_listed(found)}, {target} to {_listed(ours)}"
    return Standing.DOMAIN_LINKED_TO_WRONG_HOST, leads


def _listed(addresses: frozenset[str]) -> str:
    return ", ".join(sorted(addresses))


def _fields(body: DomainInput) -> dict[str, Any]:
    name = domain_name(body.domain)
    if not name:
        raise Invalid(
            f"domain: {body.domain!r} is not a domain name",
            hint="write it like shop.example.org; one with other letters in its xn-- form",
        )
    given = {"generate_certificate": body.generate_certificate, "use_cdn": body.use_cdn}
    defaults = {"generate_certificate": True, "use_cdn": False}
    kept = {
        field: defaults[field] if value is None else value
        for field, value in given.items()
        if value is not msgspec.UNSET
    }
    return {"name": name, **kept}


async def _require_free(context: Context, tx: Transaction, domain: CustomDomain) -> None:
    """No name of the installation's own, and none that is, or still leads to, another service's."""
    zone = context.settings.domain
    if is_below(domain.name, zone) or is_below(domain.name, OWN_ZONE):
        raise Invalid(
            f"domain: {domain.name} is a name of this installation's own",
            hint=f"every service has one below {zone} already; add a name of another domain",
        )
    for other in await store.everything(tx, CustomDomain):
        if other.name == domain.name and other.id != domain.id:
            raise Invalid(
                f"domain: {domain.name} is already a custom domain in this installation",
                hint="remove it where it is, and deploy that service",
            )
    for members in (await everywhere(tx)).values():
        for applied in members:
            if applied.service_id != domain.parent and domain.name in dict(domains_in(applied.fields)):
                raise Invalid(
                    f"domain: {domain.name} still leads to the service that had it",
                    hint="deploy that service first",
                )
