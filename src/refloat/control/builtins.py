"""Built-in variables as documents: nobody writes them, everybody may read and refer to them."""

from refloat.control.context import Context
from refloat.domain import variables as domain
from refloat.domain.ids import built_in_id
from refloat.domain.resources import Environment, Resource, Variable, VariableScope, VariableType
from refloat.execution.places import addresses_of
from refloat.execution.snapshot import place_of
from refloat.store import resources as store


async def built_ins(context: Context, owner: Resource) -> tuple[Variable, ...]:
    """As seen from an environment or a service; a project has none."""
    read = context.database.read
    environment_id = owner.id if isinstance(owner, Environment) else owner.parent
    environment = await store.find(read, Environment, environment_id)
    if environment is None:
        return ()
    addresses = await addresses_of(read, context.platforms, environment, context.settings.domain)
    services = await store.services(read, environment.id)
    values = domain.builtins(environment, [place_of(s, addresses, context.sealer) for s in services])
    return tuple(_document(context, environment, key, value) for key, value in values.items())


def _document(context: Context, environment: Environment, key: str, value: domain.Effective) -> Variable:
    return Variable(
        id=built_in_id(environment.id, key),
        parent=environment.id,
        name=key,
        scope=VariableScope.BUILT_IN,
        variable_type=VariableType.BUILT_IN,
        sealed=context.sealer.seal(value.value),
        is_secret=value.is_secret,
        created_at=environment.created_at,
        updated_at=environment.updated_at,
    )
