"""What a job leaves for later stages: named values, kept as sealed built-in variables of the environment."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from refloat.domain.errors import Invalid, StepFailed
from refloat.domain.ids import built_in_id, short
from refloat.domain.resources import Variable, VariableScope, VariableType
from refloat.domain.variables import KEY, OUTPUT_PREFIX, check_value
from refloat.store import resources
from refloat.store.database import Reader, Transaction
from refloat.store.sealing import Sealer


class JobOutput(msgspec.Struct, frozen=True):
    """One named value; who does not say that it may be seen keeps it secret."""

    value: str | int | float | bool
    sensitive: bool = True
    description: str = ""


def parse_outputs(text: str, job_id: str) -> dict[str, JobOutput]:
    """The outputs by variable name; raises StepFailed saying what is wrong with the file."""
    if not text.strip():
        return {}
    try:
        found = msgspec.json.decode(text, type=dict[str, JobOutput])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StepFailed(
            f"the job's output file cannot be read: {error}",
            hint='it is one JSON object of the form {"NAME": {"value": "…", "sensitive": false}}',
        ) from None
    for name, output in found.items():
        _check(name, _text(output.value))
    prefix = f"{OUTPUT_PREFIX}Z{short(job_id).upper()}_"
    return {prefix + name.upper(): output for name, output in found.items()}


def _check(name: str, value: str) -> None:
    """Here, and not where it is used: no service of a later stage could be started with it."""
    if not KEY.fullmatch(name):
        raise StepFailed(f"the job's output {name!r} is not a variable name")
    try:
        check_value(name, value, is_file=False)
    except Invalid as error:
        raise StepFailed(f"the job's output cannot be kept: {error.message}") from None


async def store_outputs(
    tx: Transaction, sealer: Sealer, environment_id: str, outputs: Mapping[str, JobOutput], now: datetime
) -> None:
    """Replace the values of these names; others of the same job stay as they are."""
    known = {v.name for v in await resources.children(tx, Variable, environment_id)}
    for name, output in outputs.items():
        variable = Variable(
            id=built_in_id(environment_id, name),
            parent=environment_id,
            name=name,
            scope=VariableScope.BUILT_IN,
            variable_type=VariableType.BUILT_IN,
            sealed=sealer.seal(_text(output.value)),
            is_secret=output.sensitive,
            description=output.description or None,
            created_at=now,
            updated_at=now,
        )
        put = resources.replace_resource if name in known else resources.insert_resource
        await put(tx, variable)


def _text(value: str | int | float | bool) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


async def stored_outputs(read: Reader, sealer: Sealer, environment_id: str) -> dict[str, str]:
    """The values of all jobs of an environment, by variable name."""
    found = await resources.children(read, Variable, environment_id)
    return {v.name: sealer.open(v.sealed) for v in found if v.scope is VariableScope.BUILT_IN}
