"""Backup and restore of an installation: its database, and the files beside it that belong to it.

Both work on the data directory itself, not through the API: a backup while servers go on, a restore
while none does.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from refloat.app import database_path, open_database
from refloat.domain.errors import Conflict, Invalid, Unavailable
from refloat.settings import Settings
from refloat.store.archive import KEY, NODE, TOKEN, Archive, Manifest, Rows, Writer
from refloat.store.backup import load_tables, refuse_servers, write_tables
from refloat.store.database import Database
from refloat.store.facts import expect_key
from refloat.store.older import at_this_schema
from refloat.store.schema import HEAD, revision, revision_postgres
from refloat.store.sealing import Sealer, load_sealer
from refloat.store.sqlite import SqliteDatabase
from refloat.supervisor.directories import write_private
from refloat.supervisor.occupancy import occupy

_PARTIAL = ".partial"
_BACKUP, _RESTORE = "backup of refloat", "restore"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup has, or a restore brought: rows by table, and when the backup was taken."""

    file: str
    at: datetime
    rows: dict[str, int]
    restored: tuple[str, ...] = ()
    """The files that a restore wrote."""
    beside: str = ""
    """The node directory, where services of a former database are."""


def back_up(settings: Settings, file: Path) -> Kept:
    """Write a new file, whole or not at all, readable by its owner only.

    Raises Conflict when the file exists, Unavailable or Invalid when there is nothing to back up.
    """
    if file.exists():
        raise Conflict(f"{file} exists already", hint="choose another name; a backup replaces nothing")
    partial = file.with_name(file.name + _PARTIAL)
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "w+b") as out:
                os.fchmod(descriptor, 0o600)
                with Writer(out) as writer:
                    manifest = asyncio.run(_write(settings, writer))
                out.flush()
                os.fsync(descriptor)
            partial.rename(file)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Unavailable(
            f"{file} cannot be written: {error.strerror}", hint="choose another place"
        ) from None
    return Kept(file=str(file), at=manifest.at, rows=manifest.rows)


async def _write(settings: Settings, out: Writer) -> Manifest:
    await _require_current(settings)
    if not settings.key_file.exists():
        raise Unavailable(
            f"there is no key file {settings.key_file}, and without it no value can be opened again",
            hint="set REFLOAT_DATA_DIR or REFLOAT_SECRET_KEY_FILE as the server has it",
        )
    at = datetime.now(UTC)
    async with _opened(settings, _BACKUP) as database, database.snapshot() as read:
        await expect_key(read, load_sealer(settings.key_file), str(settings.key_file))
        await write_tables(read, out)
    for name, path in _secrets(settings).items():
        if path.exists():
            out.secret(name, path.read_bytes())
    return out.finish(version("refloat"), HEAD, at)


def _secrets(settings: Settings) -> dict[str, Path]:
    """The files that belong to a database, and whose loss would make it useless or another one."""
    token, node = settings.data_dir / "admin.token", settings.node_dir / "id"
    return {KEY: settings.key_file, TOKEN: token, NODE: node}


async def _require_current(settings: Settings) -> None:
    """A backup changes nothing, so a database of another version is not migrated for it."""
    if settings.shared:
        place, found = "the database", await revision_postgres(settings.database_url)
    else:
        path = database_path(settings)
        place, found = f"the database {path}", revision(path)
    if found is None:
        raise Unavailable(
            f"{place} is not there, or no server has ever used it",
            hint="set REFLOAT_DATA_DIR or REFLOAT_DATABASE_URL as the server has it",
        )
    if found != HEAD:
        raise Unavailable(
            f"{place} has schema {found}; this Refloat has {HEAD}",
            hint="take the backup by the version of Refloat that serves it",
        )


@contextlib.asynccontextmanager
async def _opened(settings: Settings, purpose: str) -> AsyncIterator[Database]:
    """The database as it is, under a name that says what for."""
    database: Database
    if settings.shared:
        from refloat.store.postgres import PostgresDatabase

        database = PostgresDatabase(settings.database_url, purpose)
    else:
        database = SqliteDatabase(database_path(settings))
    try:
        yield database
    finally:
        await database.close()


def restore(settings: Settings, file: Path) -> Kept:
    """Everything of the backup, or nothing: the file is read through before anything is touched.

    One of an older schema is migrated on the way. Raises Conflict for a target in use, Invalid for a file
    that is no whole backup, or one of a newer schema.
    """
    archive = Archive(file)
    try:
        archive.check()
        _make(settings)
        lock = occupy(settings.data_dir)
        try:
            with at_this_schema(archive, settings.data_dir) as rows:
                restored, counts = asyncio.run(_restore(settings, archive, rows)), rows.counts
        finally:
            os.close(lock)
    finally:
        archive.close()
    manifest, there = archive.manifest, any((settings.node_dir / "services").glob("*"))
    beside = str(settings.node_dir) if there else ""
    return Kept(file=str(file), at=manifest.at, rows=counts, restored=restored, beside=beside)


def _make(settings: Settings) -> None:
    for folder in (settings.data_dir, settings.node_dir, settings.key_file.parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"{folder} cannot be made: {error.strerror}") from None


async def _restore(settings: Settings, archive: Archive, rows: Rows) -> tuple[str, ...]:
    key = archive.secret(KEY) or b""
    if len(key) != 32:
        raise Invalid("the backup is damaged: its secret.key does not hold 32 bytes")
    database, _ = await open_database(settings, _RESTORE)
    try:
        with _placed(settings, key):
            async with database.transaction() as tx:
                if settings.shared:  # else the lock of the data directory says it
                    await refuse_servers(tx, _RESTORE)
                await load_tables(tx, rows, postgres=settings.shared)
                await expect_key(tx, Sealer(key), "the backup")
        return (str(settings.key_file), *_place_rest(settings, archive))
    finally:
        await database.close()


@contextlib.contextmanager
def _placed(settings: Settings, key: bytes) -> Iterator[None]:
    """The key is there before what was sealed with it; the former one comes back when that fails."""
    former = settings.key_file.read_bytes() if settings.key_file.exists() else None
    if former != key:
        write_private(settings.key_file, key, durable=True)
    try:
        yield
    except BaseException:
        if former is None:
            settings.key_file.unlink(missing_ok=True)
        elif former != key:
            write_private(settings.key_file, former, durable=True)
        raise


def _place_rest(settings: Settings, archive: Archive) -> Iterator[str]:
    """The token as it was; the node's identity only where there is none, because applications may run."""
    for name, path in _secrets(settings).items():
        content = archive.secret(name)
        if name == KEY or content is None or (name == NODE and path.exists()):
            continue
        write_private(path, content, durable=True)
        yield str(path)
