"""Brings a database to the current schema before anything else touches it.

Alembic is imported only when there is something to do: it costs a tenth of the start-up.
"""

import sqlite3
from pathlib import Path

from refloat.domain.errors import Unavailable

HEAD = "0001"
"""The newest revision in `migrations/versions`; a test compares it."""


def migrate(path: Path) -> None:
    """Create or upgrade the database file; raises Unavailable when a newer Refloat wrote it."""
    if _revision(path) == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["path"] = path
    try:
        command.upgrade(config, "head")
    except CommandError:
        raise Unavailable(
            f"the database {path} was written by a newer Refloat", hint="upgrade Refloat and start it again"
        ) from None


def _revision(path: Path) -> str | None:
    if not path.exists():
        return None
    with sqlite3.connect(path) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            row = None
    connection.close()
    return row[0] if row else None
