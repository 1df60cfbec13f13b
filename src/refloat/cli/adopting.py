"""Adoption from the command line: an installation is opened without a server, and what runs is recorded."""

import asyncio
import os
from typing import Any

import msgspec

from refloat.app import open_database, platforms_of, prepare_data_dir
from refloat.clock import SystemClock
from refloat.control.adoption import Adopted, adopt
from refloat.control.context import Context
from refloat.domain.errors import Unavailable
from refloat.settings import Settings
from refloat.store.backup import refuse_servers
from refloat.store.facts import check_key
from refloat.store.sealing import load_sealer
from refloat.supervisor.occupancy import occupy

_NAME = "adopt"


def adopt_installation(settings: Settings) -> Adopted:
    """Raises Unavailable while a server runs on the data directory, and without its key."""
    if not settings.key_file.exists():
        raise Unavailable(
            f"there is no key file {settings.key_file}, and what is kept of the services is sealed with it",
            hint="put it back, from a backup or from another server of this database",
        )
    settings = prepare_data_dir(settings)
    lock = occupy(settings.data_dir)
    try:
        return asyncio.run(_adopt(settings))
    finally:
        os.close(lock)


async def _adopt(settings: Settings) -> Adopted:
    database, _ = await open_database(settings, _NAME)
    try:
        if settings.shared:
            await refuse_servers(database.read, _NAME)
        sealer = load_sealer(settings.key_file)
        await check_key(database, sealer, str(settings.key_file))
        context = Context(
            settings=settings,
            database=database,
            sealer=sealer,
            clock=SystemClock(),
            entropy=os.urandom,
            platforms=platforms_of(settings, database, sealer),
        )
        return await adopt(context)
    finally:
        await database.close()


def as_json(adopted: Adopted) -> dict[str, Any]:
    """For `--json`."""
    found: dict[str, Any] = msgspec.to_builtins(adopted)
    return found
