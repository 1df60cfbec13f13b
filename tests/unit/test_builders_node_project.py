"""Guarantees about Node.js projects: what is installed, built and run, and refusals that say what to do."""

import json
from pathlib import Path
from typing import Any

import pytest

from refloat.builders.detect import Recipe, detect
from refloat.builders.environment import build_environment, share_npm_config
from refloat.builders.native import commands
from refloat.builders.node_project import direct
from refloat.builders.node_tools import Node, check_engine, find_node
from refloat.builders.node_versions import satisfies
from refloat.domain.errors import BuildFailed
from refloat.domain.revision import Level

DEPENDS = {"dependencies": {"ms": "2.1.3"}}
FLASK = {"app.py": "from flask import Flask\napp = Flask('x')", "requirements.txt": "flask\ngunicorn"}


def seen(package: dict[str, Any], serves: bool = True, **files: str) -> Recipe:
    texts = {"package.json": json.dumps(package)}
    texts |= {name.replace("__", "/").replace("_", "."): text for name, text in files.items()}
    return recipe_of(texts, serves)


def recipe_of(texts: dict[str, str], serves: bool = True) -> Recipe:
    return detect(texts, lambda name: texts.get(name, ""), serves=serves)


def web(recipe: Recipe) -> str:
    return commands(recipe, {"gunicorn"})[0][-1]


@pytest.mark.parametrize(
    ("package", "files", "command"),
    [
        (
            {"scripts": {"start": "node a.js"}},
            {"Procfile": "web: node p.js", "server_js": ""},
            "exec node p.js",
        ),
        ({"scripts": {"start": "node a.js"}, "main": "m.js"}, {"server_js": ""}, "exec node a.js"),
        ({"main": "m.js"}, {"server_js": "", "m_js": ""}, "exec node server.js"),
        ({"main": "./lib/m.js"}, {"lib__m_js": ""}, "exec node lib/m.js"),
        ({"main": "m"}, {"m_js": ""}, "exec node m.js"),
        (DEPENDS, {"index_js": ""}, "exec node index.js"),
        ({"main": "dist/m.js", "scripts": {"build": "tsc"}}, {}, "exec node dist/m.js"),
        ({"scripts": {"start": "node a.js"}}, {"old_py": "print(1)", "app_py": ""}, "exec node a.js"),
    ],
)
def test_the_start_command_is_the_most_deliberate_one(
    package: dict[str, Any], files: dict[str, str], command: str
) -> None:
    assert web(seen(package, **files)) == command


@pytest.mark.parametrize(
    ("command", "scripts", "expected"),
    [
        ("npm start", {"start": "node a.js"}, "node a.js"),
        ("npm run serve", {"serve": "npm run it", "it": "node a.js"}, "node a.js"),
        ("npm run -s serve", {"serve": "node a.js"}, "node a.js"),
        ("npm start", {"start": "node a.js", "prestart": "make"}, "(\nmake\n) || exit\nexec node a.js"),
        ("npm start", {"start": "node a.js", "poststart": "clean"}, "npm start"),
        ("npm start -- --port 1", {"start": "node a.js"}, "npm start -- --port 1"),
        ("npm run missing", {}, "npm run missing"),
        ("npm run a", {"a": "npm run a"}, "npm run a"),
    ],
)
def test_a_script_is_run_itself_so_that_signals_reach_it(
    command: str, scripts: dict[str, str], expected: str
) -> None:
    assert direct(command, scripts) == expected


def test_a_build_without_a_server_leaves_a_site() -> None:
    recipe = seen({"scripts": {"build": "vite build"}, "devDependencies": {"vite": "7"}}, index_html="")
    assert recipe.site
    assert recipe.node is not None and recipe.node.installs


def test_a_page_with_a_package_json_that_does_nothing_stays_static_files() -> None:
    recipe = seen(
        {"name": "page", "main": "index.js", "devDependencies": {"x": "1"}}, index_html="", index_js=""
    )
    assert recipe.static
    assert recipe.node is None


def test_python_keeps_its_command_and_node_installs_and_builds_for_it() -> None:
    package = {"scripts": {"start": "vite", "build": "vite build"}, "devDependencies": {"vite": "7"}}
    recipe = recipe_of(FLASK | {"package.json": json.dumps(package)})
    assert web(recipe) == "exec gunicorn --bind 127.0.0.1:$PORT app:app"
    assert recipe.node is not None and recipe.node.steps == ("build",)
    assert recipe_of(FLASK | {"package.json": '{"scripts": {"start": "vite"}}'}).node is None


def test_an_entrypoint_needs_no_start_script() -> None:
    recipe = seen(DEPENDS, serves=False)
    assert recipe.node is not None and recipe.node.installs
    assert not recipe.candidates


@pytest.mark.parametrize("lock", ["yarn.lock", "pnpm-lock.yaml", "bun.lockb"])
def test_a_lock_of_another_package_manager_is_refused_with_what_would_work(lock: str) -> None:
    files = {"package.json": json.dumps(DEPENDS), "server.js": "", lock: ""}
    with pytest.raises(BuildFailed, match=rf"{lock}.*npm install --package-lock-only"):
        recipe_of(files)
    assert recipe_of({**files, "package-lock.json": "{}"}).node is not None


def test_without_a_lock_the_log_warns_that_versions_are_open() -> None:
    assert "no package-lock.json" in seen(DEPENDS, server_js="").warnings[0]
    assert not recipe_of(
        {"package.json": json.dumps(DEPENDS), "server.js": "", "package-lock.json": "{}"}
    ).warnings


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "[" * 100_000])
def test_a_package_json_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(BuildFailed, match=r"package\.json cannot be read"):
        recipe_of({"package.json": text})


@pytest.mark.parametrize("main", ["-e", "a;b.js", "$(id).js"])
def test_a_main_module_is_never_a_shell_line(main: str) -> None:
    with pytest.raises(BuildFailed, match="cannot be run"):
        recipe_of({"package.json": json.dumps({"main": main}), main: ""})


def manifest(package: dict[str, Any]) -> str:
    node = seen({**DEPENDS, **package}, server_js="").node
    assert node is not None
    return node.manifest


def test_only_what_decides_what_is_installed_counts_as_dependencies() -> None:
    assert manifest({"version": "1", "scripts": {"start": "a"}}) == manifest({"version": "2"})
    for changed in (
        {"overrides": {"a": "1"}},
        {"devDependencies": {"b": "1"}},
        {"allowScripts": {"ms": True}},
    ):
        assert manifest(changed) != manifest({})


@pytest.mark.parametrize(
    ("package", "lock"),
    [
        ({"dependencies": {"a": "file:lib"}}, "{}"),
        ({"dependencies": {"a": "../lib"}}, "{}"),
        ({"workspaces": ["packages/*"], **DEPENDS}, "{}"),
        (DEPENDS, '{"packages": {"node_modules/a": {"resolved": "lib", "link": true}}}'),
    ],
)
def test_dependencies_in_the_repository_are_installed_in_place(package: dict[str, Any], lock: str) -> None:
    files = {"package.json": json.dumps(package), "server.js": "", "package-lock.json": lock}
    node = recipe_of(files).node
    assert node is not None and node.local
    assert not (
        recipe_of({**files, "package.json": json.dumps(DEPENDS), "package-lock.json": "{}"}).node or node
    ).local


@pytest.mark.parametrize(
    ("wanted", "fits", "not_"),
    [
        ("20", "20.1.2", "21.0.0"),
        ("20.x", "20.19.0", "22.0.0"),
        (">=18", "20.0.0", "17.9.9"),
        (">= 18.2 < 21", "20.0.0", "21.0.0"),
        ("^18 || ^20.3", "20.3.1", "20.2.9"),
        ("~20.2.1", "20.2.9", "20.3.0"),
        ("^0.2.3", "0.2.9", "0.3.0"),
        ("18 - 20", "20.99.0", "21.0.0"),
        ("<=20.1", "20.1.9", "20.2.0"),
        (">20", "21.0.0", "20.9.0"),
        ("=v20.1.0", "20.1.0", "20.1.1"),
    ],
)
def test_version_ranges_mean_what_npm_means(wanted: str, fits: str, not_: str) -> None:
    assert satisfies(fits, wanted)
    assert not satisfies(not_, wanted)


def test_any_version_fits_an_open_range() -> None:
    assert satisfies("20.0.0", "*") and satisfies("20.0.0", "x")


def test_an_engine_that_this_machine_does_not_have_is_refused_and_nonsense_is_ignored_aloud() -> None:
    told: list[str] = []
    node = Node("/usr/bin/node", "20.2.0", "/usr/bin/npm")

    def log(level: Level, line: str) -> None:
        told.append(f"{level}: {line}")

    with pytest.raises(BuildFailed, match=r"Node\.js '>=22', and this machine has 20\.2\.0"):
        check_engine(node, ">=22", log)
    check_engine(node, "lts/*", log)
    assert told == ["warning: engines.node in package.json cannot be read and is ignored: 'lts/*'"]


async def test_a_machine_without_node_is_told_which_package_brings_it(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="apt-get install nodejs npm"):
        await find_node(None, str(tmp_path))
    (tmp_path / "node").write_text("#!/bin/sh\necho v20.1.0\n")
    (tmp_path / "node").chmod(0o755)
    node = await find_node(None, str(tmp_path))
    assert node.version == "20.1.0"
    with pytest.raises(BuildFailed, match="apt-get install npm"):
        node.require_npm()


def test_builds_get_the_operators_registry_and_none_of_the_tokens(tmp_path: Path) -> None:
    home, place = tmp_path / "home", tmp_path / "place"
    home.mkdir()
    place.mkdir()
    (home / ".npmrc").write_text(
        "registry=https://r.example/\n@own:registry = https://o.example/\n//r.example/:_authToken=s3cret\n"
        "_auth=s3cret\nproxy=http://${SECRET}@p\ncafile=/ca.pem\n"
    )
    share_npm_config(place, {"HOME": str(home)})
    environment = build_environment(place, {"HOME": str(home), "NPM_TOKEN": "s3cret"}, ())
    told = Path(environment["NPM_CONFIG_USERCONFIG"]).read_text()
    assert told.split("\n") == [
        "registry=https://r.example/", "@own:registry = https://o.example/", "cafile=/ca.pem", "",
    ]  # fmt: skip
    assert "s3cret" not in str(environment)
