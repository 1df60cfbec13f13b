"""What the repositories need of a database; `sqlite` and `postgres` are the two that give it.

Both promise the same: units of work follow one another, whoever runs them, so a rule that reads and
then writes holds without locks of its own, and the sequence of events is the order of their commits.
"""

import contextlib
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import BindParameter, ClauseElement, literal_column
from sqlalchemy.sql.visitors import replacement_traverse


class Row(Protocol):
    """One result, its columns by name."""

    def __getitem__(self, column: str, /) -> Any: ...


class NameTaken(Exception):
    """A unique index was violated: another row has these values."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement in one dialect. `names` are its parameters in order, `constants` those it brings itself."""

    text: str
    names: tuple[str, ...]
    constants: dict[str, object]

    def named(self, values: dict[str, object]) -> dict[str, object]:
        """All its parameters by name."""
        return {**self.constants, **values} if self.constants else values

    def ordered(self, values: dict[str, object]) -> list[object]:
        """All its parameters by position."""
        known = self.named(values)
        return [known[name] for name in self.names]


class Query:
    """A statement, compiled once for each dialect at its first use; its named parameters are given at
    each use."""

    __slots__ = ("_compiled", "_statement")

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._compiled: dict[str, Compiled] = {}

    def compiled(self, dialect: Dialect) -> Compiled:
        """The text in this dialect, with what belongs to it."""
        if (known := self._compiled.get(dialect.name)) is None:
            known = self._compiled[dialect.name] = _compile(self._statement, dialect)
        return known


def _compile(statement: ClauseElement, dialect: Dialect) -> Compiled:
    """Constants become part of the text: only so does a database see that a partial index fits. As
    parameters they cost SQLite a new preparation at every use, and PostgreSQL the index."""

    def written_out(element: Any, **_: object) -> ClauseElement | None:
        if not isinstance(element, BindParameter) or element.required or element.value is None:
            return None
        text = element.type.dialect_impl(dialect).literal_processor(dialect)
        return literal_column(text(element.value), element.type) if text else None

    written: Any = replacement_traverse(statement, {}, written_out)
    compiled = written.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    constants = {name: bind.value for bind, name in compiled.bind_names.items() if not bind.required}
    return Compiled(str(compiled), tuple(compiled.positiontup or ()), constants)


class Reader(Protocol):
    """Reads what is committed (outside a transaction) or what the transaction sees (inside)."""

    async def all(self, query: Query, **values: object) -> list[Row]: ...

    async def one(self, query: Query, **values: object) -> Row | None: ...


class Transaction(Reader, Protocol):
    """One unit of work. Does no I/O of other kinds: everybody else waits for its end."""

    async def run(self, query: Query, **values: object) -> int:
        """Execute; the number of rows it touched. Raises NameTaken, after which the unit is lost."""
        ...

    async def put(self, query: Query, **values: object) -> None:
        """Write what nobody waits for the answer of. Every later statement of the unit sees it; what goes
        wrong with it is raised here, by one of these, or where the unit ends."""
        ...


class Database(Protocol):
    """What the repositories need of a database."""

    read: Reader

    def transaction(self) -> contextlib.AbstractAsyncContextManager[Transaction]:
        """Commits when left, durable when the `async with` returns; rolls back on any exception.

        A unit sees what those before it wrote, stored or not yet. An exception that it raises is passed on
        when that is stored, and is replaced by the one below when that cannot be.

        Raises StorageFull when nothing can be written, StorageLost when the connection broke: then it is
        not known whether the unit is stored.
        """
        ...

    def snapshot(self) -> contextlib.AbstractAsyncContextManager[Reader]:
        """Several reads that see the same instant."""
        ...

    async def close(self) -> None: ...
