"""A backup of an older schema, brought to this one before a row of it reaches the target.

Its rows are put into a SQLite file that is made at the schema of the backup and then migrated as every
database is; what comes out is restored, on either store, by the one transaction of every restore.
"""

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from refloat.domain.errors import Invalid
from refloat.store.archive import NOT_KEPT, Archive, RawRow, Rows
from refloat.store.schema import HEAD, migrate

_NOT_KEPT = {*NOT_KEPT, "alembic_version", "sqlite_sequence"}
_TYPES: dict[str, type] = {"TEXT": str, "INTEGER": int, "BIGINT": int}


@contextlib.contextmanager
def at_this_schema(archive: Archive, folder: Path) -> Iterator[Rows]:
    """The rows as this version stores them; `folder` takes a file of them meanwhile, for its owner only.

    Raises Invalid for rows that do not fit the schema which the backup says it has.
    """
    schema = archive.manifest.schema
    if schema == HEAD:
        yield archive
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=".restore-") as name:
        path = Path(name) / "older.db"
        migrate(path, schema)
        with contextlib.closing(sqlite3.connect(path)) as older, older:
            _fill(older, archive)
        migrate(path)
        with contextlib.closing(sqlite3.connect(path)) as newer:
            yield _Migrated(newer)


class _Migrated:
    """The rows of a migrated file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._connection.row_factory = sqlite3.Row

    @property
    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        query = "SELECT count(*) FROM {}"
        return {
            it: self._connection.execute(query.format(it)).fetchone()[0] for it in _tables(self._connection)
        }

    def rows(self, table: str) -> Iterator[RawRow]:
        for row in self._connection.execute(f"SELECT * FROM {table}"):
            yield dict(row)


def _fill(older: sqlite3.Connection, archive: Archive) -> None:
    tables = _tables(older)
    if set(archive.counts) != set(tables):
        raise Invalid("the backup is damaged: its list of tables is not that of its schema")
    for table, columns in tables.items():
        names = ", ".join(columns)
        insert = f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + name for name in columns)})"
        try:
            older.executemany(insert, _fitting(archive.rows(table), table, columns))
        except sqlite3.IntegrityError:
            raise Invalid(f"the backup is damaged: {table} has two rows with one key") from None
        found = older.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        if found != archive.counts[table]:
            raise Invalid(f"the backup is damaged: {table} has {found} rows and not as many as it says")


def _tables(connection: sqlite3.Connection) -> dict[str, dict[str, tuple[type, bool]]]:
    """By table and column: the type of a value, and whether there may be none."""
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {
        name: {
            row[1]: (_TYPES[row[2]], not row[3])
            for row in connection.execute(f"PRAGMA table_info({name})").fetchall()
        }
        for (name,) in names
        if name not in _NOT_KEPT
    }


def _fitting(rows: Iterator[RawRow], table: str, columns: dict[str, tuple[type, bool]]) -> Iterator[RawRow]:
    for row in rows:
        if set(row) != set(columns) or not all(_fits(row[name], *columns[name]) for name in columns):
            raise Invalid(f"the backup is damaged: a row of {table} has other columns than its schema has")
        yield row


def _fits(value: str | int | None, kind: type, absent: bool) -> bool:
    return absent if value is None else type(value) is kind
