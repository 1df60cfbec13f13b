"""A backup: what it holds comes back on either store, and what is not one is refused whole."""

import asyncio
import json
import os
import stat
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, insert, select
from tests.databases import STORES, make_store

from refloat.cli.main import main
from refloat.cli.safekeeping import back_up, restore
from refloat.domain.errors import Conflict, Invalid, Unavailable
from refloat.settings import Settings
from refloat.store.archive import TABLES, RawRow
from refloat.store.database import Database, Query
from refloat.store.deployments import storable
from refloat.store.facts import check_key
from refloat.store.sealing import load_sealer
from refloat.supervisor.occupancy import occupy

ACROSS = [(a, b) for a in STORES for b in STORES]


class Place:
    """A data directory with a store of one kind."""

    def __init__(self, request: pytest.FixtureRequest, kind: str, folder: Path) -> None:
        folder.mkdir()
        self.store = make_store(request, kind, folder)
        self.settings = Settings(
            data_dir=folder,
            node_dir=folder / "node",
            database_url="" if self.store.is_sqlite else self.store.url,
        )

    def first_start(self) -> None:
        """What a server leaves that was started once: the key, its digest, a token, a node."""
        self.settings.node_dir.mkdir()
        (self.settings.node_dir / "id").write_text("f" * 32)
        (self.settings.data_dir / "admin.token").write_text("rf_admin_first\n")
        self.run(self._remember_key)

    async def _remember_key(self, database: Database) -> None:
        await check_key(database, load_sealer(self.settings.key_file), "")

    def run(self, work):
        async def during() -> object:
            database = self.store.open()
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(during())

    def fill(self, rows: dict[str, list[RawRow]]) -> None:
        async def put(database: Database) -> None:
            async with database.transaction() as tx:
                for table in TABLES:
                    for row in rows.get(table.name, ()):
                        await tx.run(Query(insert(table).values(row)))

        self.run(put)

    def rows(self) -> dict[str, list[RawRow]]:
        async def read(database: Database) -> dict[str, list[RawRow]]:
            return {
                t.name: [
                    {c.name: row[c.name] for c in t.c}
                    for row in await database.read.all(Query(select(t).order_by(*t.primary_key)))
                ]
                for t in TABLES
            }

        found: dict[str, list[RawRow]] = self.run(read)
        return found


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
INTEGER = st.integers(-(2**31), 2**63 - 1)


def rows_of(table: Table) -> st.SearchStrategy[list[RawRow]]:
    values = {}
    for column in table.c:
        own: st.SearchStrategy[str | int | None] = TEXT if column.type.python_type is str else INTEGER
        values[column.name] = st.none() | own if column.nullable else own
    if table.name == "deployment":  # at most one runs in an environment, and the ids are the order
        values["ended"] = st.just(1)
    if table.name == "resource":  # names are unique among siblings
        values["name_key"] = st.none()
    if table.name == "event":
        values["sequence"] = st.integers(1, 2**40)
    keys = [c.name for c in table.primary_key]
    unique = lambda row: tuple(storable(str(row[k])) for k in keys)  # noqa: E731
    return st.lists(st.fixed_dictionaries(values), max_size=4, unique_by=unique)


INSTALLATIONS = st.fixed_dictionaries({t.name: rows_of(t) for t in TABLES if t.name != "fact"})


def without_nul(rows: dict[str, list[RawRow]]) -> dict[str, list[RawRow]]:
    clean = {
        name: [{k: storable(v) if isinstance(v, str) else v for k, v in row.items()} for row in found]
        for name, found in rows.items()
    }
    return {
        t.name: sorted(clean.get(t.name, ()), key=lambda r, t=t: _key(t, r))
        for t in TABLES
        if t.name != "fact"
    }


def _key(table: Table, row: RawRow) -> list[object]:
    """Both databases sort text by its bytes."""
    return [v.encode() if isinstance(v, str) else v for v in (row[c.name] for c in table.primary_key)]


@pytest.mark.property
@pytest.mark.parametrize(("from_", "to"), ACROSS)
def test_every_row_comes_back_on_either_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, from_: str, to: str
) -> None:
    @settings(max_examples=4, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(INSTALLATIONS)
    def round_trip(rows: dict[str, list[RawRow]]) -> None:
        folder = tmp_path_factory.mktemp("trip")
        source, target = (Place(request, k, folder / n) for k, n in ((from_, "a"), (to, "b")))
        source.first_start()
        source.fill(without_nul(rows) if from_ == "postgresql" else rows)
        kept = back_up(source.settings, folder / "backup.zip")
        restore(target.settings, folder / "backup.zip")
        there = target.rows()
        assert {name: found for name, found in there.items() if name != "fact"} == without_nul(rows)
        assert there["fact"] == source.rows()["fact"]
        assert kept.rows == {name: len(found) for name, found in there.items()}
        assert target.settings.key_file.read_bytes() == source.settings.key_file.read_bytes()

    round_trip()


on_both = pytest.mark.parametrize("source", STORES, indirect=True)


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    made = Place(request, str(getattr(request, "param", "sqlite")), tmp_path / "source")
    made.first_start()
    made.fill({"event": [event(n) for n in range(1, 503)]})
    return made


def event(number: int) -> RawRow:
    row: RawRow = {"sequence": number, "at": number, "action": None, "phase": None}
    named = ("deployment_id", "environment_id", "service_id", "level", "step", "message")
    return {**row, **dict.fromkeys(named, f"event {number}")}


@pytest.fixture
def target(request: pytest.FixtureRequest, source: Place, tmp_path: Path) -> Place:
    return Place(request, "sqlite" if source.store.is_sqlite else "postgresql", tmp_path / "target")


@on_both
def test_a_backup_is_one_instant_while_others_write(source: Place, tmp_path: Path) -> None:
    """Rows that arrive between two pages of a table are not in it, nor in the tables read later."""
    from refloat.store import backup as module

    pages, written = module._pages, []

    async def interrupted(read, table):
        async for page in pages(read, table):
            if table.name == "event" and not written:
                written.append(await _write_more(source))
            yield page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_pages", interrupted)
        kept = back_up(source.settings, tmp_path / "backup.zip")
    assert written == [2] and kept.rows["event"] == 502 and kept.rows["fact"] == 1


async def _write_more(place: Place) -> int:
    other = place.store.open()
    tables = {t.name: t for t in TABLES}
    async with other.transaction() as tx:
        await tx.run(Query(insert(tables["event"]).values(event(5000))))
        await tx.run(Query(insert(tables["fact"]).values(name="later", value="1")))
    await other.close()
    return 2


@on_both
def test_the_sequence_of_events_goes_on_after_a_restore(source: Place, target: Place, tmp_path: Path) -> None:
    back_up(source.settings, tmp_path / "backup.zip")
    restore(target.settings, tmp_path / "backup.zip")
    fresh = {k: v for k, v in event(0).items() if k != "sequence"}
    target.fill({"event": [fresh]})
    assert target.rows()["event"][-1]["sequence"] == 503


def test_only_its_owner_can_read_a_backup_and_it_replaces_no_file(source: Place, tmp_path: Path) -> None:
    file, old = tmp_path / "backup.zip", os.umask(0)
    try:
        back_up(source.settings, file)
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(Conflict, match="exists already"):
        back_up(source.settings, file)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup.zip", "source"]


def test_a_backup_that_cannot_be_finished_leaves_no_file(source: Place, tmp_path: Path) -> None:
    source.settings.key_file.write_bytes(b"x" * 32)
    with pytest.raises(Unavailable, match="not the one"):
        back_up(source.settings, tmp_path / "backup.zip")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_token_and_node_come_back_and_a_node_in_use_stays_itself(
    source: Place, target: Place, tmp_path: Path
) -> None:
    back_up(source.settings, tmp_path / "backup.zip")
    target.settings.node_dir.mkdir()
    (target.settings.node_dir / "id").write_text("a" * 32)
    kept = restore(target.settings, tmp_path / "backup.zip")
    assert (target.settings.data_dir / "admin.token").read_text() == "rf_admin_first\n"
    assert (target.settings.node_dir / "id").read_text() == "a" * 32
    names = ("secret.key", "admin.token")
    assert kept.restored == tuple(str(target.settings.data_dir / name) for name in names)


@on_both
def test_a_database_in_use_is_not_restored_into(source: Place, target: Place, tmp_path: Path) -> None:
    back_up(source.settings, tmp_path / "backup.zip")
    target.first_start()
    key = target.settings.key_file.read_bytes()
    target.fill({"event": [event(7)]})
    before = target.rows()
    with pytest.raises(Conflict, match="its table event is not empty"):
        restore(target.settings, tmp_path / "backup.zip")
    assert target.rows() == before and target.settings.key_file.read_bytes() == key


def test_what_a_first_start_made_gives_way(source: Place, target: Place, tmp_path: Path) -> None:
    back_up(source.settings, tmp_path / "backup.zip")
    target.first_start()
    made = {"name_key": None, "version": 1, "document": "{}", "parent": ""}
    target.fill({"resource": [{"id": "o", "kind": "organization", **made}]})
    restore(target.settings, tmp_path / "backup.zip")
    assert target.rows() == source.rows()
    other = Place.__new__(Place)
    other.store, other.settings = target.store, target.settings
    with pytest.raises(Conflict):
        restore(other.settings, tmp_path / "backup.zip")


def test_a_running_server_is_not_restored_under(source: Place, target: Place, tmp_path: Path) -> None:
    back_up(source.settings, tmp_path / "backup.zip")
    lock = occupy(target.settings.data_dir)
    try:
        with pytest.raises(Unavailable, match="another server runs"):
            restore(target.settings, tmp_path / "backup.zip")
    finally:
        os.close(lock)


def test_a_server_on_another_machine_is_seen_by_its_connection(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from refloat.store.connections import connect
    from refloat.store.replicas import session_name

    source, target = (Place(request, "postgresql", tmp_path / n) for n in ("a", "b"))
    source.first_start()
    back_up(source.settings, tmp_path / "backup.zip")

    async def meanwhile() -> None:
        session = await connect(target.store.url, session_name("0123456789abcdef"))
        try:
            with pytest.raises(Conflict, match="1 connection of a running server"):
                await asyncio.to_thread(restore, target.settings, tmp_path / "backup.zip")
        finally:
            await session.close()

    asyncio.run(meanwhile())
    assert not any(target.rows().values()) and not target.settings.key_file.exists()


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _flip(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        offset = archive.getinfo("tables/event.ndjson").header_offset + 200
    content = bytearray(file.read_bytes())
    content[offset] ^= 0xFF
    file.write_bytes(content)


def _rewrite(file: Path, change: "dict[str, bytes | None]", **manifest: object) -> None:
    """The same zip with other members, as somebody else might make it."""
    with zipfile.ZipFile(file) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    members["manifest.json"] = json.dumps({**json.loads(members["manifest.json"]), **manifest}).encode()
    members |= {n: c for n, c in change.items() if c is not None}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            if change.get(name, b"") is not None:
                archive.writestr(name, content)


WRONG = {
    "cut off": (_cut, "its end is missing"),
    "a flipped byte": (_flip, "tables/event.ndjson"),
    "no backup": (lambda f: f.write_text("hello"), "not a backup"),
    "another zip": (lambda f: _rewrite(f, {"manifest.json": None}), "not a backup"),
    "a newer schema": (lambda f: _rewrite(f, {}, schema="9999"), "has the tables of schema 9999"),
    "a newer format": (lambda f: _rewrite(f, {}, format=2), "has format 2"),
    "a changed table": (lambda f: _rewrite(f, {"tables/event.ndjson": b""}), "not what was written"),
    "a missing table": (lambda f: _rewrite(f, {"tables/step.ndjson": None}), "step.ndjson is missing"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_whole_backup_is_refused_before_anything_is_touched(
    request: pytest.FixtureRequest, wrong: str, tmp_path: Path
) -> None:
    source = Place(request, "sqlite", tmp_path / "source")
    source.first_start()
    source.fill({"event": [event(n) for n in range(1, 50)]})
    file = tmp_path / "backup.zip"
    back_up(source.settings, file)
    change, words = WRONG[wrong]
    change(file)
    target = Settings(data_dir=tmp_path / "new", node_dir=tmp_path / "new" / "node")
    with pytest.raises(Invalid, match=words):
        restore(target, file)
    assert not target.data_dir.exists()


@on_both
def test_rows_that_do_not_fit_leave_database_and_key_as_they_were(source: Place, target: Place) -> None:
    """The digests are right here: whoever made the file meant it."""
    import hashlib

    file = target.settings.data_dir / "backup.zip"
    back_up(source.settings, file)
    with zipfile.ZipFile(file) as archive:
        manifest, text = json.loads(archive.read("manifest.json")), archive.read("tables/event.ndjson")
    text = text.replace(b'"event 502"', b"7")
    members = {**manifest["members"], "tables/event.ndjson": hashlib.sha256(text).hexdigest()}
    _rewrite(file, {"tables/event.ndjson": text}, members=members)
    target.first_start()
    key, before = target.settings.key_file.read_bytes(), target.rows()
    with pytest.raises(Invalid, match="a row of event"):
        restore(target.settings, file)
    assert (target.settings.key_file.read_bytes(), target.rows()) == (key, before)


def test_a_database_of_another_version_is_not_migrated_for_a_backup(tmp_path: Path) -> None:
    import sqlite3

    settings_ = Settings(data_dir=tmp_path, node_dir=tmp_path / "node")
    with pytest.raises(Unavailable, match="is not there"):
        back_up(settings_, tmp_path / "backup.zip")
    with sqlite3.connect(tmp_path / "refloat.db") as old:
        old.execute("CREATE TABLE alembic_version (version_num TEXT)")
        old.execute("INSERT INTO alembic_version VALUES ('0001')")
    old.close()
    before = (tmp_path / "refloat.db").read_bytes()
    with pytest.raises(Unavailable, match="has schema 0001"):
        back_up(settings_, tmp_path / "backup.zip")
    assert (tmp_path / "refloat.db").read_bytes() == before


def test_nothing_is_adopted_without_the_key_or_under_a_server(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "REFLOAT_DATA_DIR": str(tmp_path / "data")}
    refused = CliRunner().invoke(main, ["adopt"], env=environ)
    assert refused.exit_code == 1 and "there is no key file" in refused.stderr
    assert not (tmp_path / "data").exists()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret.key").write_bytes(b"k" * 32)
    lock = occupy(tmp_path / "data")
    try:
        running = CliRunner().invoke(main, ["adopt"], env=environ)
    finally:
        os.close(lock)
    assert running.exit_code == 1 and "another server runs" in running.stderr
    nothing = CliRunner().invoke(main, ["adopt"], env=environ)
    assert nothing.exit_code == 0 and "nothing to adopt" in nothing.stdout


@on_both
def test_adopt_opens_either_store_as_the_server_does(source: Place) -> None:
    environ = {
        "HOME": str(source.settings.data_dir),
        "REFLOAT_DATA_DIR": str(source.settings.data_dir),
        "REFLOAT_DATABASE_URL": source.settings.database_url,
    }
    done = CliRunner().invoke(main, ["adopt", "--json"], env=environ)
    assert done.exit_code == 0 and json.loads(done.stdout) == {"environments": [], "missing": []}


def test_the_commands_tell_what_they_did_and_what_is_wrong(source: Place, tmp_path: Path) -> None:
    environ = {
        "HOME": str(tmp_path),
        "REFLOAT_DATA_DIR": str(source.settings.data_dir),
        "REFLOAT_DATABASE_URL": source.settings.database_url,
    }
    file = str(tmp_path / "backup.zip")
    done = CliRunner().invoke(main, ["backup", file], env=environ)
    assert done.exit_code == 0 and "502 events" in done.stdout and "sealing key" in done.stdout
    refused = CliRunner().invoke(main, ["restore", file], env=environ)
    assert refused.exit_code == 1 and "is not empty" in refused.stderr and "hint" in refused.stderr
    new = {**environ, "REFLOAT_DATA_DIR": str(tmp_path / "new"), "REFLOAT_DATABASE_URL": ""}
    put_back = CliRunner().invoke(main, ["restore", file, "--json"], env=new)
    assert put_back.exit_code == 0 and json.loads(put_back.stdout)["rows"]["event"] == 502
