"""One server's place among those that share a PostgreSQL database.

Each holds one session, by which it says that it lives and hears that there is something to do. Who works
on a node holds an advisory lock of that session: it falls to another server of the node as soon as the
session ends, whatever ended it. A server that was frozen keeps its session; when it was not heard of for
a lease, the others end its connections. What it does when it wakes is refused: its term is over.
"""

import asyncio
import contextlib
import zlib
from collections.abc import Callable

import structlog

from refloat.domain.errors import RefloatError, StorageLost
from refloat.domain.replicas import LEASE_SECONDS, Term
from refloat.store.connections import Connection, connect, translated
from refloat.store.postgres import CHANNEL

BEAT_SECONDS = 1.0
FORGET_SECONDS = 3600.0
"""How long a server that is gone stays in the list."""
_ANSWER_SECONDS = 3.0
_AGAIN_SECONDS = 0.3
_NODES = 0x5266
"""Class of the advisory locks of nodes."""
_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_BEAT = f"""
INSERT INTO replica (id, node, beat) VALUES ($1, $2, {_NOW})
ON CONFLICT (id) DO UPDATE SET beat = excluded.beat
"""
_FORGET = f"DELETE FROM replica WHERE beat < {_NOW} - $1::bigint"
_LOCK = "SELECT pg_try_advisory_lock($1, $2) AS won"
_LEAD = """
INSERT INTO node (id, leader, term) VALUES ($1, $2, 1)
ON CONFLICT (id) DO UPDATE SET leader = excluded.leader, term = node.term + 1 RETURNING term
"""
_END_SILENT = f"""
SELECT pg_terminate_backend(activity.pid)
FROM node JOIN replica ON replica.id = node.leader
JOIN pg_stat_activity activity ON activity.application_name = 'refloat ' || replica.id
WHERE node.id = $1 AND replica.id <> $2 AND replica.beat < {_NOW} - $3::bigint
"""

log = structlog.get_logger()


def session_name(replica_id: str) -> str:
    """What every connection of a server is called in pg_stat_activity, so that others can end them."""
    return f"refloat {replica_id}"


class ReplicaSession:
    """Keeps the session of this server, opening it again when it breaks."""

    def __init__(self, url: str, replica_id: str, node: str, wake: Callable[[], None]) -> None:
        self._url = url
        self._id = replica_id
        self._node = node
        self._wake = wake
        self._key = zlib.crc32(node.encode()) - 2**31
        self._term: Term | None = None
        self._changed = asyncio.Condition()
        self._settled = asyncio.Event()

    async def elected(self) -> Term:
        """Wait until this server is the one that works on its node."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._term is not None)
            assert self._term is not None
            return self._term

    async def over(self, term: Term) -> None:
        """Wait until that term has ended."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._term != term)

    async def leads_at_first(self) -> bool:
        """Whether this server was elected at its start; waits until that is known."""
        await self._settled.wait()
        return self._term is not None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._hold()
            except RefloatError as error:
                log.error("the session with the database was lost", reason=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _hold(self) -> None:
        """One session, from its opening to its end."""
        session = await connect(self._url, session_name(self._id))
        ended = asyncio.Event()
        try:
            with translated():
                session.add_termination_listener(lambda *_: ended.set())
                await session.add_listener(CHANNEL, lambda *_: self._wake())
                self._wake()
                while not ended.is_set():
                    await self._beat(session)
                    self._settled.set()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(ended.wait(), BEAT_SECONDS)
            raise StorageLost("PostgreSQL ended it", hint="see its log")
        finally:
            await self._set_term(None)
            await self._end(session)

    async def _beat(self, session: Connection) -> None:
        await session.execute(_BEAT, self._id, self._node, timeout=_ANSWER_SECONDS)
        if self._term is not None:
            return
        row = await session.fetchrow(_LOCK, _NODES, self._key, timeout=_ANSWER_SECONDS)
        if row and row["won"]:
            await session.execute(_FORGET, int(FORGET_SECONDS * 1e6), timeout=_ANSWER_SECONDS)
            number = await session.fetchrow(_LEAD, self._node, self._id, timeout=_ANSWER_SECONDS)
            assert number is not None
            await self._set_term(Term(node=self._node, replica=self._id, number=number["term"]))
        else:
            await session.fetchrow(
                _END_SILENT, self._node, self._id, int(LEASE_SECONDS * 1e6), timeout=_ANSWER_SECONDS
            )

    async def _set_term(self, term: Term | None) -> None:
        async with self._changed:
            self._term = term
            self._changed.notify_all()

    async def _end(self, session: Connection) -> None:
        with contextlib.suppress(Exception):
            await session.execute("DELETE FROM replica WHERE id = $1", self._id, timeout=1)
            await session.close(timeout=1)
        session.terminate()
