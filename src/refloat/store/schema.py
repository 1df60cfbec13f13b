"""Brings a database to the current schema before anything else touches it.

Alembic is imported only when there is something to do: it costs a tenth of the start-up.
"""

import io
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from refloat.domain.errors import Unavailable

if TYPE_CHECKING:
    from refloat.store.connections import Connection

HEAD = "0004"
"""The newest revision in `migrations/versions`; a test compares it."""
_MIGRATIONS = Path(__file__).parent / "migrations"
SCHEMAS = frozenset(it.name.partition("_")[0] for it in (_MIGRATIONS / "versions").glob("[0-9]*_*.py"))
"""Every revision from which there is a way to the newest."""
_MIGRATORS = (0x5265, 2)
"""The advisory lock of whoever migrates: replicas that start together do it one after the other."""


def migrate(path: Path, schema: str = HEAD) -> None:
    """Create or upgrade the database file; raises Unavailable when a newer Refloat wrote it."""
    if revision(path) == schema:
        return
    _upgrade(f"the database {path}", schema, path=path)


async def migrate_postgres(url: str) -> None:
    """As `migrate`, for a PostgreSQL database; all or nothing.

    Raises Unavailable also when it cannot be reached or used, see `connections.connect`.
    """
    from refloat.store.connections import connect, shown, translated

    connection = await connect(url, "refloat migration")
    try:
        with translated():
            await connection.execute(f"BEGIN; SELECT pg_advisory_xact_lock{_MIGRATORS}")
            known = await _revision_there(connection)
            if known != HEAD:
                script = io.StringIO()
                revisions = f"{known or 'base'}:head"
                _upgrade(f"the database {shown(url)}", revisions, offline=True, script=script)
                await connection.execute(script.getvalue())
            await connection.execute("COMMIT")
    finally:
        await connection.close()


async def revision_postgres(url: str) -> str | None:
    """As `revision`, for a PostgreSQL database; raises Unavailable when it cannot be reached."""
    from refloat.store.connections import connect, translated

    connection = await connect(url, "refloat revision")
    try:
        with translated():
            return await _revision_there(connection)
    finally:
        await connection.close()


async def _revision_there(connection: "Connection") -> str | None:
    known = await connection.fetchrow("SELECT to_regclass('alembic_version') IS NOT NULL AS known")
    if not known or not known["known"]:
        return None
    row = await connection.fetchrow("SELECT version_num FROM alembic_version")
    return str(row["version_num"]) if row else None


def _upgrade(place: str, revisions: str, *, offline: bool = False, **given: object) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes.update(given)
    try:
        command.upgrade(config, revisions, sql=offline)
    except CommandError:
        raise Unavailable(
            f"{place} was written by a newer Refloat", hint="upgrade Refloat and start it again"
        ) from None


def revision(path: Path) -> str | None:
    """The schema of a database file as it is; None when there is none."""
    if not path.exists():
        return None
    with sqlite3.connect(path) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            row = None
    connection.close()
    return row[0] if row else None
