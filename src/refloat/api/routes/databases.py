"""What only databases have: credentials, and the versions that a cluster offers."""

from litestar import get

from refloat.api import shapes
from refloat.api.call import Body, Call, Http, Id
from refloat.api.routes.services import endpoint_of
from refloat.control.access import Operation
from refloat.domain.resources import Environment
from refloat.domain.revision import Capabilities
from refloat.domain.services import Database
from refloat.execution.places import platform_of
from refloat.execution.snapshot import server_of
from refloat.routers.base import Address
from refloat.store import resources as store


async def _capabilities(call: Call, environment: Environment) -> Capabilities:
    return (await platform_of(call.read, call.context.platforms, environment)).engine.capabilities()


@get("/database/{database_id:str}/masterCredentials")
async def master_credentials(request: Http, database_id: Id) -> Body:
    """The password in the clear, for who may change the database."""
    call = Call(request)
    database = await call.reach(Database, database_id, Operation.MANAGE)
    address = Address(internal=await endpoint_of(call, database), hosts=(), url="")
    server = server_of(database, address, call.context.sealer)
    return {"host": server.host, "port": server.port, "login": server.login, "password": server.password}


@get("/database/{database_id:str}/version")
async def database_versions(request: Http, database_id: Id) -> Body:
    call = Call(request)
    database = await call.reach(Database, database_id)
    environment = await store.get(call.read, Environment, database.parent)
    known = (await _capabilities(call, environment)).databases.get(database.type, ())
    return shapes.listed([{"name": version} for version in known])


@get("/environment/{environment_id:str}/databaseConfiguration")
async def database_configuration(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    known = (await _capabilities(call, environment)).databases
    return shapes.listed(
        [
            {
                "database_type": kind,
                "version": [{"name": version, "supported_mode": "CONTAINER"} for version in versions],
            }
            for kind, versions in known.items()
        ]
    )


ROUTES = (master_credentials, database_versions, database_configuration)
