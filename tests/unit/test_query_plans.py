"""No statement goes through what has piled up: asked of each database's planner, for every statement.

A plan is made without the values, as it is kept for a prepared statement, and PostgreSQL's as if a table
were never worth reading whole: what is left is what no index serves.
"""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import asyncpg
import msgspec
import pytest
from tests.databases import PostgresServer

from refloat.store import configuration, facts, resources, statements
from refloat.store.database import Query
from refloat.store.postgres import _DIALECT as POSTGRES
from refloat.store.schema import migrate
from refloat.store.sqlite import _DIALECT as SQLITE

OPEN = {"deployment_open", "deployment_one_running"}
"""Indexes that hold what has not ended, and nothing else: they may be read whole."""
FOUND = {"chain", "latest", "used"}
"""What a statement itself found so far."""
WHOLE = {
    "ALL_APPLIED": "what is applied everywhere, which is what it is for",
    "ENVIRONMENTS": "every environment that was ever deployed, by adoption alone",
    "_REPLICAS": "the servers there are",
}
QUERIES = {
    name: query
    for module in (statements, configuration, resources, facts)
    for name, query in vars(module).items()
    if isinstance(query, Query) and name not in WHOLE
}


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path: Path = tmp_path_factory.mktemp("plans") / "refloat.db"
    migrate(path)
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


def test_no_statement_of_sqlite_reads_a_table_whole(sqlite: sqlite3.Connection) -> None:
    whole = {}
    for name, query in QUERIES.items():
        compiled = query.compiled(SQLITE)
        values = dict.fromkeys(re.findall(r":(\w+)", compiled.text)) | compiled.constants
        for row in sqlite.execute(f"EXPLAIN QUERY PLAN {compiled.text}", values):
            verb, _, rest = str(row[3]).partition(" ")
            index = rest.partition(" INDEX ")[2].partition(" ")[0]
            if verb == "SCAN" and index not in OPEN and rest.partition(" ")[0] not in FOUND:
                whole[name] = row[3]
    assert whole == {}


async def test_no_statement_of_postgresql_reads_a_table_whole(postgres: PostgresServer) -> None:
    connection: Any = await asyncpg.connect(postgres.database())
    await connection.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
    whole = {}
    for name, query in QUERIES.items():
        compiled = query.compiled(POSTGRES)
        given = f"({', '.join(['NULL'] * len(compiled.names))})" if compiled.names else ""
        await connection.execute(f"PREPARE it AS {compiled.text}")
        found = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE it{given}")
        await connection.execute("DEALLOCATE it")
        if bad := [node for node in _nodes(msgspec.json.decode(found)[0]["Plan"]) if _reads_whole(node)]:
            whole[name] = bad
    await connection.close()
    assert whole == {}


def _reads_whole(node: dict[str, Any]) -> bool:
    if node["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Index Scan"):
        return "Index Cond" not in node and node["Index Name"] not in OPEN
    return bool(node["Node Type"] == "Seq Scan")


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(cast(dict[str, Any], below))


def test_a_deployment_is_found_by_its_number_without_its_history(sqlite: sqlite3.Connection) -> None:
    for query in (statements.BY_NUMBER, statements.NEXT_NUMBER):
        text = query.compiled(SQLITE).text
        plan = sqlite.execute(f"EXPLAIN QUERY PLAN {text}", {"environment_id": "e", "number": 1}).fetchall()
        assert "deployment_number" in plan[0][3], plan
    assert "COVERING" in plan[0][3], plan
