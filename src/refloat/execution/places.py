"""Which node a cluster belongs to, and what can be said of one that belongs to another."""

from collections.abc import Iterable, Mapping

import msgspec

from refloat.domain.errors import Unavailable
from refloat.domain.hosts import host_names
from refloat.domain.resources import Cluster, ClusterKind, Environment
from refloat.domain.services import Database, Service, Workload
from refloat.execution.platform import Platform
from refloat.execution.room import refused_when_full
from refloat.routers.base import Address
from refloat.store import facts, resources
from refloat.store.database import Reader, Transaction

Platforms = Mapping[ClusterKind, Platform]
"""What each kind of cluster stands for on this node."""


class NodePlatforms(dict[ClusterKind, Platform]):
    """Platforms of a node that is one of several."""

    def __init__(self, platforms: Platforms, node: str) -> None:
        super().__init__(platforms)
        self.node = node


def node_of(platforms: Platforms) -> str:
    """The node whose platforms these are; "" where there is only one."""
    return platforms.node if isinstance(platforms, NodePlatforms) else ""


class Elsewhere(Unavailable):
    """It belongs to a cluster of another node; only a server there can do it."""


def is_here(platforms: Platforms, cluster: Cluster) -> bool:
    """Whether this node reaches the cluster. One that belongs to no node yet is everybody's."""
    return not isinstance(platforms, NodePlatforms) or cluster.node in ("", platforms.node)


async def platform_of(read: Reader, platforms: Platforms, environment: Environment) -> Platform:
    """The engine, router and builder that an environment's cluster stands for. Raises Elsewhere."""
    return platform_for(platforms, await resources.get(read, Cluster, environment.cluster_id))


def platform_for(platforms: Platforms, cluster: Cluster) -> Platform:
    """The same of a cluster that was read already."""
    if not is_here(platforms, cluster):
        raise Elsewhere(
            f"the cluster {cluster.name} belongs to node {cluster.node}", hint="ask a server of that node"
        )
    return platforms[cluster.runs_on]


async def addresses_of(
    read: Reader, platforms: Platforms, environment: Environment, domain: str
) -> dict[str, Address]:
    """The stable address of every service of the environment; outside of any transaction.

    Of a cluster of another node, what was stored when the services were deployed.
    """
    try:
        platform = await platform_of(read, platforms, environment)
    except Elsewhere:
        return {
            service_id: msgspec.json.decode(document, type=Address)
            for service_id, document in (await facts.addresses(read, environment.id)).items()
        }
    return await addresses_on(
        platform, environment.id, await resources.services(read, environment.id), domain
    )


async def addresses_on(
    platform: Platform, environment_id: str, services: Iterable[Service], domain: str
) -> dict[str, Address]:
    """The addresses that a platform gives to the services of an environment, the same at every call.

    Raises StorageFull when one has to be written down, and there is no room.
    """
    with refused_when_full():
        return await _reserved(platform, environment_id, services, domain)


async def _reserved(
    platform: Platform, environment_id: str, services: Iterable[Service], domain: str
) -> dict[str, Address]:
    services = tuple(services)
    workloads = [s for s in services if isinstance(s, Workload)]
    hosts = host_names(environment_id, {s.id: s.name for s in workloads}, domain)
    found = {s.id: await platform.router.reserve(s.id, (hosts[s.id],)) for s in workloads}
    for database in (s for s in services if isinstance(s, Database)):
        endpoint = await platform.engine.reserve(database.id)
        found[database.id] = Address(internal=endpoint, hosts=(), url="")
    return found


def addressed(services: Iterable[Service]) -> set[str]:
    """The ids of those that have an address: jobs have none."""
    return {service.id for service in services if isinstance(service, Workload | Database)}


async def remember(
    tx: Transaction, node: str, environment: Environment, addresses: Mapping[str, Address]
) -> None:
    """Write down what only this node knows: that the cluster is its own, and the addresses it gave out."""
    cluster = await resources.get(tx, Cluster, environment.cluster_id)
    if not cluster.node:
        await resources.replace_resource(tx, msgspec.structs.replace(cluster, node=node))
    for service_id, address in addresses.items():
        await facts.put_address(tx, environment.id, service_id, msgspec.json.encode(address).decode())


async def waits_for(read: Reader, environment: Environment) -> str:
    """Why nothing happens to what is open in an environment; "" when a server of its node lives."""
    cluster = await resources.get(read, Cluster, environment.cluster_id)
    if not cluster.node or any(r.node == cluster.node and r.alive for r in await facts.replicas(read)):
        return ""
    return (
        f"it waits for a server on node {cluster.node}, which the cluster {cluster.name} belongs to; "
        "none runs there"
    )
