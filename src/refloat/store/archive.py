"""The file of a backup: a zip with one NDJSON file per table, the secrets, and a manifest.

    manifest.json         format, product version, schema, time, rows of each table, digest of each member
    tables/<table>.ndjson one row per line, an object by column name, in the order of the primary key
    secret.key            what values are sealed with
    admin.token           the administrator's token, where it is kept in a file
    node.id               the identity of the node directory, where it has one

The list of contents is at the end of a zip, so a file that was cut off is noticed before anything is read.
"""

import contextlib
import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Protocol

import msgspec

from refloat.domain.errors import Invalid, Unavailable
from refloat.store.schema import HEAD, SCHEMAS
from refloat.store.tables import metadata

FORMAT = 1
KIND = "refloat backup"
MANIFEST = "manifest.json"
KEY, TOKEN, NODE = "secret.key", "admin.token", "node.id"
NOT_KEPT = ("replica", "node")
"""Which servers live and lead: that is over when a backup is restored."""
TABLES = tuple(t for t in metadata.sorted_tables if t.name not in NOT_KEPT)
"""What a backup of this schema holds."""
_LARGEST_SECRET = 4096
_PART = 1024 * 1024

RawRow = dict[str, str | int | None]


class Rows(Protocol):
    """The rows of a backup, as this schema has them."""

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each table."""
        ...

    def rows(self, table: str) -> Iterator[RawRow]: ...


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says of itself. `members` maps each other member to its SHA-256, `rows` each table."""

    kind: str
    format: int
    version: str
    schema: str
    at: datetime
    rows: dict[str, int]
    members: dict[str, str]


class Writer:
    """A backup that is being written, in a `with`; only `finish` makes it one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6)
        self._members: dict[str, str] = {}
        self._rows: dict[str, int] = {}

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def secret(self, name: str, content: bytes) -> None:
        """A small file as it is."""
        self._zip.writestr(_member(name), content)
        self._members[name] = hashlib.sha256(content).hexdigest()

    @contextlib.contextmanager
    def table(self, name: str) -> Iterator[Callable[[Iterable[RawRow]], None]]:
        """Takes the rows of a table, some at a time."""
        path, digest, count = f"tables/{name}.ndjson", hashlib.sha256(), 0
        with self._zip.open(_member(path), "w", force_zip64=True) as out:

            def add(rows: Iterable[RawRow]) -> None:
                nonlocal count
                lines = [msgspec.json.encode(row) + b"\n" for row in rows]
                text = b"".join(lines)
                out.write(text)
                digest.update(text)
                count += len(lines)

            yield add
        self._members[path] = digest.hexdigest()
        self._rows[name] = count

    def finish(self, version: str, schema: str, at: datetime) -> Manifest:
        """Write the manifest, which is the last member."""
        manifest = Manifest(
            kind=KIND,
            format=FORMAT,
            version=version,
            schema=schema,
            at=at,
            rows=self._rows,
            members=self._members,
        )
        self._zip.writestr(_member(MANIFEST), msgspec.json.format(msgspec.json.encode(manifest)))
        return manifest


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o600 << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


class Archive:
    """A backup that was looked through: every member is there and as it was written.

    Raises Invalid, saying which file and what is wrong with it, for anything else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile:
            raise Invalid(
                f"{path} is not a backup of Refloat, or its end is missing", hint="use another copy of it"
            ) from None
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}") from None
        self.manifest = self._manifest()

    @property
    def counts(self) -> dict[str, int]:
        return self.manifest.rows

    def check(self) -> None:
        """Read all of it once; afterwards nothing can be wrong with it but its rows.

        Raises Invalid also for one of a newer schema; an older one can be migrated.
        """
        theirs = self.manifest
        if theirs.schema not in SCHEMAS:
            raise Invalid(
                f"{self._path} has the tables of schema {theirs.schema}, made by Refloat {theirs.version};"
                f" this one knows them up to {HEAD}",
                hint=f"restore it by Refloat {theirs.version}, which made it, or a newer one",
            )
        members = {KEY, *(f"tables/{name}.ndjson" for name in theirs.rows)}
        complete = theirs.schema != HEAD or set(theirs.rows) == {t.name for t in TABLES}
        if not complete or not members <= set(theirs.members):
            raise self._damaged("its list of tables is not that of its schema")
        for name, digest in theirs.members.items():
            if self._digest(name) != digest:
                raise self._damaged(f"{name} is not what was written")

    def secret(self, name: str) -> bytes | None:
        """The content of a small file; None when the backup has none of this name."""
        if name not in self.manifest.members:
            return None
        with self._reading(name), self._zip.open(name) as member:
            return member.read(_LARGEST_SECRET)

    def rows(self, table: str) -> Iterator[RawRow]:
        """The rows of a table, one at a time, as its own schema has them."""
        decoder = msgspec.json.Decoder(RawRow)
        with self._reading(table), self._zip.open(f"tables/{table}.ndjson") as lines:
            for line in lines:
                yield decoder.decode(line)

    def close(self) -> None:
        self._zip.close()

    def _manifest(self) -> Manifest:
        try:
            with self._reading(MANIFEST):
                found = msgspec.json.decode(self._zip.read(MANIFEST), type=Manifest)
        except KeyError:
            raise Invalid(f"{self._path} is a zip file, but not a backup of Refloat") from None
        if found.kind != KIND:
            raise Invalid(f"{self._path} is not a backup of Refloat, but: {found.kind}")
        if found.format != FORMAT:
            raise Invalid(
                f"{self._path} has format {found.format}; this Refloat reads {FORMAT}",
                hint=f"restore it by Refloat {found.version}, which made it",
            )
        return found

    def _digest(self, name: str) -> str:
        with self._reading(name):
            try:
                with self._zip.open(name) as member:
                    digest = hashlib.sha256()
                    while part := member.read(_PART):
                        digest.update(part)
                    return digest.hexdigest()
            except KeyError:
                raise self._damaged(f"{name} is missing") from None

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except (zipfile.BadZipFile, zlib.error, msgspec.DecodeError, EOFError, NotImplementedError) as error:
            raise self._damaged(f"{name} cannot be read: {error}") from None
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be read: {os.strerror(error.errno or 0)}") from None

    def _damaged(self, why: str) -> Invalid:
        return Invalid(f"the backup {self._path} is damaged: {why}", hint="use another copy of it")
