"""An environment as a file: applied, applied again, changed, pruned, exported, and read back."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.installation import Installation, Repository
from tests.e2e.test_cli import Shell

ROOT = Path(__file__).parents[2]
FILE = """\
name: shop
stages: [{name: first}, {name: second}]
variables:
  - {key: SHARED, value: 1}
  - {key: PEER, value: "at {{services.api.URL_INTERNAL}}", description: where}
services:
  - kind: application
    stage: first
    name: api
    git_repository: {url: "https://example.org/a.git"}
    ports: [{internal_port: 8000, publicly_accessible: true}, {internal_port: 9000}]
    storage: [{size: 1, mount_point: /data}]
    healthchecks: {}
    variables:
      - {key: TOKEN, is_secret: true}
      - {key: SHARED, override: true, value: two}
      - {key: OTHER, alias_of: SHARED}
  - kind: application
    stage: second
    is_skipped: true
    name: web
    git_repository: {url: "https://example.org/b.git", branch: next}
    healthchecks: {}
    variables:
      - {key: API, alias_of: services.api.URL_INTERNAL}
  - {kind: database, name: db, type: POSTGRESQL, version: "15", mode: CONTAINER}
  - kind: container
    name: cache
    registry_id: hub
    image_name: nginx
    tag: "1"
    memory: 256
  - kind: job
    name: migrate
    healthchecks: {}
    source: {image: {registry_id: hub, image_name: nginx, tag: "1"}}
    schedule: {on_start: {arguments: [up]}}
"""


@pytest.fixture
def installation(cleared: Installation) -> Installation:
    """With a registry `hub` and a simulated cluster `sim`."""
    organization = cleared.call("GET", "/organization")["results"][0]["id"]
    hub = {"name": "hub", "kind": "DOCKER_HUB", "url": "https://docker.io", "config": {}}
    for noun, body in (("containerRegistry", hub), ("cluster", {"name": "sim", "refloat_kind": "simulated"})):
        path = f"/organization/{organization}/{noun}"
        if body["name"] not in [it["name"] for it in cleared.call("GET", path)["results"]]:
            cleared.call("POST", path, body)
    return cleared


@pytest.fixture
def shell(installation: Installation) -> Iterator[Shell]:
    made = Shell(installation)
    yield made
    made.end()


def apply(shell: Shell, text: str, *words: str, expect: int = 0) -> str:
    return shell("env", "apply", "-", *words, stdin=text, expect=expect)


def changes(shell: Shell, text: str, *words: str) -> list[str]:
    told = json.loads(apply(shell, text, "--json", *words))
    return [f"{it['sign']} {it['what']}" for it in told["changes"]]


def services(installation: Installation, shell: Shell, name: str = "shop") -> dict[str, Any]:
    environments = json.loads(shell("env", "list", "--json"))
    environment = next(it["id"] for it in environments if it["name"] == name)
    return {s["name"]: s for s in installation.call("GET", f"/environment/{environment}/services")["results"]}


def test_a_file_makes_an_environment_and_the_second_time_changes_nothing(
    installation: Installation, shell: Shell
) -> None:
    planned = changes(shell, FILE, "--dry-run")
    assert "no environment 'shop'" in shell("status", "shop", expect=1)
    assert changes(shell, FILE) == planned and "+ environment shop" in planned
    assert changes(shell, FILE) == []
    made = services(installation, shell)
    assert set(made) == {"api", "web", "db", "cache", "migrate"}
    listed = {it["key"]: it for it in json.loads(shell("var", "list", "shop", "--service", "api", "--json"))}
    mark = made["api"]["id"][-8:].upper()
    assert listed["PEER"]["value"] == f"at {{{{QOVERY_APPLICATION_Z{mark}_URL_INTERNAL}}}}"
    assert (listed["SHARED"]["value"], listed["SHARED"]["variable_type"]) == ("two", "OVERRIDE")
    assert listed["OTHER"]["aliased_variable"]["value"] == "1"
    stages = shell("status", "shop").splitlines()[2:]
    assert [line.split()[0] for line in stages if " api " in line or " web " in line] == ["first", "second"]


def test_only_what_the_file_says_otherwise_is_changed_and_parts_keep_their_ids(
    installation: Installation, shell: Shell
) -> None:
    apply(shell, FILE)
    before = services(installation, shell)["api"]
    changed = FILE.replace("internal_port: 9000", "internal_port: 9001").replace("size: 1", "size: 2")
    changed = changed.replace("value: 1}", "value: 8}").replace("stage: first", "stage: second")
    assert set(changes(shell, changed)) == {
        "~ application api: ports, storage",
        "~ application api in stage second",
        "~ variable SHARED: value",
    }
    after = services(installation, shell)["api"]
    assert after["ports"][0]["id"] == before["ports"][0]["id"]
    assert after["ports"][1]["id"] != before["ports"][1]["id"]
    assert after["storage"][0]["id"] == before["storage"][0]["id"] and after["storage"][0]["size"] == 2
    assert changes(shell, changed) == []


def test_a_variable_that_becomes_a_secret_takes_its_aliases_along(shell: Shell) -> None:
    apply(shell, FILE)
    secret = FILE.replace("{key: SHARED, value: 1}", "{key: SHARED, value: x, is_secret: true}")
    told = changes(shell, secret)
    assert "~ secret SHARED, made anew" in told and "~ variable OTHER of api -> SHARED, made anew" in told
    listed = {it["key"]: it for it in json.loads(shell("var", "list", "shop", "--service", "api", "--json"))}
    assert listed["OTHER"]["variable_type"] == "ALIAS" and listed["OTHER"]["is_secret"]
    written = "written again, since a secret cannot be compared"
    assert changes(shell, secret) == [f"~ secret SHARED: {written}", f"~ variable SHARED of api: {written}"]


def test_the_order_of_stages_is_the_files(installation: Installation, shell: Shell) -> None:
    apply(shell, FILE)
    turned = FILE.replace(
        "[{name: first}, {name: second}]", "[{name: second}, {name: DEFAULT JOB}, {name: first}]"
    )
    assert changes(shell, turned) == ["~ order of the stages"]
    assert changes(shell, turned) == []


def test_only_prune_removes_and_only_what_the_file_lists(installation: Installation, shell: Shell) -> None:
    apply(shell, FILE)
    smaller = FILE[: FILE.index("  - {kind: database")]
    smaller = smaller.replace("      - {key: SHARED, override: true, value: two}\n", "")
    smaller = smaller.replace("      - {key: OTHER, alias_of: SHARED}\n", "")
    assert changes(shell, smaller) == []
    removed = changes(shell, smaller, "--prune")
    assert {"- database db", "- container cache", "- job migrate", "- variable OTHER of api"} <= set(removed)
    assert set(services(installation, shell)) == {"api", "web"}
    assert changes(shell, smaller, "--prune") == []
    assert changes(shell, "name: shop\n", "--prune") == []


def test_an_export_reads_back_as_what_it_was_and_holds_no_secret(shell: Shell, folder: Path) -> None:
    apply(shell, FILE)
    shell("secret", "set", "shop", "TOKEN", "--service", "api", stdin="topsecret")
    file = folder / "shop.yaml"
    shell("env", "export", "shop", "--output", str(file))
    text = file.read_text()
    assert "topsecret" not in text and "# Secrets are never exported" in text
    assert "services.api.URL_INTERNAL" in text and "registry_id: hub" in text
    assert json.loads(shell("env", "apply", str(file), "--json", "--prune"))["changes"] == []
    renamed = text.replace("name: shop", "name: other", 1).replace("cluster: local", "cluster: sim")
    missing = shell.start("env", "apply", "-", "--prune")
    out, err = missing.communicate(renamed, timeout=60)
    assert missing.returncode == 0, out + err
    assert "refloat secret set other TOKEN --service api" in err
    shell("secret", "set", "other", "TOKEN", "--service", "api", stdin="topsecret")
    again = yaml.safe_load(shell("env", "export", "other"))
    assert again == {**yaml.safe_load(text), "name": "other", "cluster": "sim"}


def test_a_watch_deploys_what_was_applied_after_showing_the_plan(shell: Shell) -> None:
    text = FILE[: FILE.index("  - {kind: database")].replace("name: shop", "name: shop\ncluster: sim", 1)
    told = apply(shell, text, "--watch")
    assert told.index("+ environment shop") < told.index("STAGE") < told.index("→ api  DEPLOYED")
    assert "done: " in told
    assert "nothing to configure" in apply(shell, text)
    assert "sim, which never changes" in apply(
        shell, text.replace("cluster: sim", "cluster: local"), expect=1
    )


WRONG = [
    ("git_repository: {url: ", "git_repositori: {url: ", "the key 'git_repositori' is unknown"),
    ("internal_port: 9000", "internal_prt: 9000", "the key 'internal_prt' is unknown"),
    ("kind: job", "kind: helm", "kind: one of application, container, database, job is expected"),
    ("stage: second", "stage: third", "there is no stage 'third'"),
    ("name: web", "name: api", "the service 'api' is given twice, first in line 7"),
    ("value: two", "valeu: two", "the key 'valeu' is unknown"),
    ("alias_of: services.api.", "alias_of: services.nope.", "API: there is no service 'nope'"),
    ("{{services.api.", "{{services.nope.", "PEER: there is no service 'nope'"),
    ("registry_id: hub\n", "registry_id: nope\n", "cache: no container registry 'nope'"),
    ("size: 1", "size: one", "storage.size: a whole number is expected, not 'one'"),
    ("healthchecks: {}", "healthchecks: []", "healthchecks: a mapping is expected"),
    ('    tag: "1"\n    memory', "    memory", "the container cache has no tag"),
    ("name: shop", "nam: shop", "the key 'nam' is unknown"),
    ("name: shop", "mode: HUGE\nname: shop", "mode: one of DEVELOPMENT"),
    ("key: OTHER", "key: TOKEN", "the variable 'TOKEN' is given twice"),
    ("is_skipped: true", "is_skipped: yes", "is_skipped: true or false is expected"),
    ('version: "15"', "version: 15", "version: a text is expected, not 15"),
    ("{key: TOKEN, is_secret: true}", "{key: TOKEN}", "TOKEN has no value"),
    ("{key: OTHER, alias_of", "{key: OTHER, value: x, alias_of", "an alias has no value of its own"),
    ("stages: [{name: first}", "stages: [{name: first, name: x}", "'name' is given twice"),
    ("stages: [{name: first}, {name: second}]", "stages: x", "stages: a list is expected"),
    ("- {key: SHARED, value: 1}", "- SHARED", "every item is a mapping"),
]


def test_what_is_wrong_in_a_file_is_told_with_its_line_before_anything_is_made(shell: Shell) -> None:
    for old, new, words in WRONG:
        text = FILE.replace(old, new, 1)
        said = apply(shell, text, expect=1)
        assert "refloat: standard input, line " in said and words in said, (new, said)
        line = int(said.split("line ")[1].split(":")[0])
        told = text.splitlines()[line - 1 : line + 6]
        assert any(part in row for row in told for part in new.splitlines()), (line, new, said)
    assert "no environment 'shop'" in shell("status", "shop", expect=1)
    for text, words in (
        ("[", "line 1"),
        ("- a", "line 1: a mapping"),
        ("a: &a [*a]", "line 1"),
        ("", "line 1"),
    ):
        assert words in apply(shell, text, expect=1)
    assert "cannot be read" in shell("env", "apply", "/nowhere.yaml", expect=1)


def test_what_the_server_refuses_is_told_with_its_line(shell: Shell) -> None:
    process = shell.start("env", "apply", "-")
    _, err = process.communicate(FILE.replace("size: 1", "size: 0"), timeout=60)
    assert process.returncode == 1 and "standard input, line 7: storage: size" in err
    assert "3 of 15 changes are made; mend the file and apply it again" in err


def test_the_example_is_applied_and_answers(installation: Installation, shell: Shell, folder: Path) -> None:
    repository = Repository(folder / "clone", {"README": "x"})
    shutil.copytree(ROOT / "examples/apps", folder / "clone/examples/apps")
    repository.commit({"README": "y"})
    words = ("env", "apply", str(ROOT / "examples/environment.yaml"), "--set", f"SOURCE={repository.url}")
    told = shell(*words, "--watch")
    assert "done: " in told
    web = services(installation, shell)["web"]["id"]
    assert "Good morning" in installation.get(web).text
    assert json.loads(shell(*words, "--json"))["changes"] == []
    assert "has no ${NOPE}" in shell(*words, "--set", "NOPE=1", expect=1)
