"""A backup that an older schema made is migrated while it is restored, and the installation goes on."""

import asyncio
import hashlib
import json
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import pytest

from refloat.cli.safekeeping import Kept, back_up, restore
from refloat.domain.errors import Invalid
from refloat.settings import Settings
from refloat.store.facts import check_key
from refloat.store.schema import HEAD, SCHEMAS, migrate
from tests.databases import STORES, make_store
from tests.simulation.control_plane import ControlPlane

OLDER = sorted(SCHEMAS - {HEAD})
KEY = b"k" * 32


async def _backed_up(folder: Path) -> tuple[Path, dict[str, Any]]:
    """A backup of an environment that was deployed twice, and what its server said of it."""
    plane = ControlPlane(folder)
    try:
        await plane.start()
        environment = await plane.environment()
        await plane.application(environment, "api")
        await plane.job(environment, "migrate")
        await plane.roll(environment)
        await plane.roll(environment)
        await plane.stop()
        await check_key(plane.database, plane.sealer, "")
        said = await _said(plane, environment)
    finally:
        await plane.close()
    (folder / "secret.key").write_bytes(KEY)
    file = folder / "backup.zip"
    await asyncio.to_thread(back_up, Settings(data_dir=folder, node_dir=folder / "node"), file)
    return file, said


async def _said(plane: ControlPlane, environment: str) -> dict[str, Any]:
    return {
        "id": environment,
        "statuses": await plane.statuses(environment),
        "history": await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2"),
        "variables": await plane.call("GET", f"/variable?parent_id={environment}&scope=ENVIRONMENT"),
        "events": await plane.call("GET", f"/environment/{environment}/logs"),
    }


def _as_made_by(file: Path, schema: str, folder: Path) -> None:
    """The backup as a version with that schema would have written it: its tables and columns only."""
    old = folder / "old.db"
    migrate(old, schema)
    with sqlite3.connect(old) as connection:
        tables = {
            name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
    connection.close()
    members = _members(file)
    manifest = json.loads(members.pop("manifest.json"))
    for table in list(manifest["rows"]):
        path = f"tables/{table}.ndjson"
        if table not in tables:
            del members[path], manifest["members"][path], manifest["rows"][table]
            continue
        rows = [json.loads(line) for line in members[path].splitlines()]
        kept = [{k: v for k, v in row.items() if k in tables[table]} for row in rows]
        members[path] = b"".join(json.dumps(row).encode() + b"\n" for row in kept)
        manifest["members"][path] = hashlib.sha256(members[path]).hexdigest()
    members["manifest.json"] = json.dumps({**manifest, "schema": schema, "version": "0.0.1"}).encode()
    _write(file, members)


def _say(file: Path, **manifest: str) -> None:
    """The same rows under a manifest that says something else."""
    members = _members(file)
    said = {**json.loads(members["manifest.json"]), **manifest}
    _write(file, {**members, "manifest.json": json.dumps(said).encode()})


def _members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write(file: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("schema", OLDER)
async def test_a_backup_of_each_older_schema_comes_back_and_goes_on(
    request: pytest.FixtureRequest, schema: str, store: str, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    file, said = await _backed_up(tmp_path / "source")
    _as_made_by(file, schema, tmp_path)
    kept, plane = await _restored(request, store, file, tmp_path / "target")
    try:
        assert kept.rows["deployment"] == 2
        assert await _said(plane, said["id"]) == said
        await plane.start()
        ended = await plane.roll(said["id"])
        assert ended["environment"]["state"] == "DEPLOYED"
        assert ended["environment"]["last_deployment_id"].endswith("-3")
    finally:
        await plane.close()


async def _restored(
    request: pytest.FixtureRequest, store: str, file: Path, folder: Path
) -> tuple[Kept, ControlPlane]:
    folder.mkdir()
    made = make_store(request, store, folder)
    url = "" if made.is_sqlite else made.url
    settings = Settings(data_dir=folder, node_dir=folder / "node", database_url=url)
    kept = await asyncio.to_thread(restore, settings, file)
    assert not list(folder.glob(".restore-*")), "the rows are left lying about"
    return kept, ControlPlane(folder, store=made)


async def test_rows_that_do_not_fit_the_older_schema_are_refused_before_anything_is_restored(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    file, _ = await _backed_up(tmp_path / "source")
    _as_made_by(file, OLDER[-1], tmp_path)
    _say(file, schema=OLDER[0])
    with pytest.raises(Invalid, match="its list of tables is not that of its schema"):
        await _restored(request, "sqlite", file, tmp_path / "target")
    assert not (tmp_path / "target" / "secret.key").exists()


async def test_a_newer_backup_is_refused_with_the_version_that_reads_it(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    file, _ = await _backed_up(tmp_path / "source")
    _say(file, schema="9999", version="7.2.0")
    with pytest.raises(Invalid, match=r"schema 9999, made by Refloat 7\.2\.0.*restore it by Refloat 7\.2\.0"):
        await _restored(request, "sqlite", file, tmp_path / "target")
