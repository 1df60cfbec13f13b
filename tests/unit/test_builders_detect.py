"""Guarantees about detection: what is run and why, and refusals that say what to add."""

from pathlib import Path

import pytest

from refloat.builders.detect import Install, Recipe, choose, detect, missing_server
from refloat.builders.native import commands, declared, install_commands
from refloat.builders.poetry import pinned
from refloat.builders.procfile import parse_procfile, shell
from refloat.builders.releases import content_key
from refloat.builders.tools import Interpreter
from refloat.domain.errors import BuildFailed

PROJECT = "[project]\nname = 'x'\nversion = '1'\n"
DJANGO = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings.production')"


def seen(files: dict[str, str]) -> Recipe:
    return detect(files, lambda name: files.get(name, ""))


def test_a_procfile_decides_before_anything_else() -> None:
    recipe = seen({"Procfile": "web: serve\nrelease: migrate", "main.py": "", "index.html": ""})
    assert recipe.procfile is not None
    assert (recipe.procfile.web, recipe.procfile.release) == ("serve", "migrate")
    assert recipe.python


def test_a_procfile_alone_needs_no_interpreter() -> None:
    assert not seen({"Procfile": "web: ./server"}).python


SCRIPTS = '{"name": "x", "scripts": {"serve": "node x.mjs"}}'


def test_a_procfile_beside_nothing_but_scripts_of_package_json_runs_with_node() -> None:
    recipe = seen({"Procfile": "web: npm run serve", "package.json": SCRIPTS, "x.mjs": ""})
    assert recipe.node is not None and recipe.node.scripts == {"serve": "node x.mjs"}
    assert not recipe.node.installs


def test_an_entrypoint_beside_nothing_but_scripts_of_package_json_runs_with_node() -> None:
    files = {"package.json": SCRIPTS, "x.mjs": ""}
    assert detect(files, lambda name: files.get(name, ""), serves=False).node is not None


def test_scripts_of_package_json_ask_for_no_node_where_python_runs() -> None:
    files = {"Procfile": "web: gunicorn app:app", "requirements.txt": "gunicorn", "package.json": SCRIPTS}
    assert seen(files).node is None


@pytest.mark.parametrize(
    ("text", "web"),
    [
        ("web: a b", "a b"),
        ("# note\n\nworker: w\r\n", "w"),
        ("worker: w\nweb:   a", "a"),
        ("web: FOO=1 a: b", "FOO=1 a: b"),
    ],
)
def test_the_web_process_or_the_only_one_serves(text: str, web: str) -> None:
    assert parse_procfile(text).web == web


def test_a_process_that_is_not_run_is_named_with_what_would_run_it() -> None:
    recipe = seen({"Procfile": "web: serve\nworker: python work.py\nclock: tick\nrelease: migrate"})
    assert [warning.split("`")[1] for warning in recipe.warnings] == ["worker", "clock"]
    assert "second application" in recipe.warnings[0]
    assert recipe.warnings[0].endswith("entrypoint: python work.py")


@pytest.mark.parametrize("text", ["", "release: x", "worker: a\nclock: b", "web a", "web:"])
def test_a_procfile_without_a_process_to_serve_is_refused(text: str) -> None:
    with pytest.raises(BuildFailed, match="Procfile"):
        parse_procfile(text)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("gunicorn app:app --bind :$PORT", "exec gunicorn app:app --bind :$PORT"),
        ("FOO='a b' serve", "exec env FOO='a b' serve"),
        ("serve > out.log 2>&1", "exec serve > out.log 2>&1"),
        ("serve --title 'a && b | c'", "exec serve --title 'a && b | c'"),
        ("serve #1", "exec serve #1"),
        ("cd x && serve", "cd x && serve"),
        ("serve | tee log", "serve | tee log"),
        ("serve &", "serve &"),
        ("exec serve", "exec serve"),
        ("cd x", "cd x"),
        ("if true; then serve; fi", "if true; then serve; fi"),
    ],
)
def test_signals_reach_a_simple_command_and_compound_ones_keep_their_shell(
    command: str, expected: str
) -> None:
    assert shell(command) == ("/bin/sh", "-c", expected)


def test_a_command_with_an_open_quote_is_refused() -> None:
    with pytest.raises(BuildFailed, match="cannot be read"):
        shell("serve 'x")


@pytest.mark.parametrize(
    ("files", "install"),
    [
        ({"pyproject.toml": PROJECT, "uv.lock": "", "requirements.txt": ""}, Install.UV_LOCK),
        ({"pyproject.toml": PROJECT, "poetry.lock": "", "requirements.txt": ""}, Install.REQUIREMENTS),
        ({"pyproject.toml": "[tool.poetry]\nname='x'", "poetry.lock": ""}, Install.POETRY_LOCK),
        ({"pyproject.toml": PROJECT}, Install.PYPROJECT),
        ({"pyproject.toml": "[tool.ruff]\n", "requirements.txt": ""}, Install.REQUIREMENTS),
        ({"pyproject.toml": "[tool.ruff]\n"}, Install.NOTHING),
    ],
)
def test_the_most_exact_declaration_of_dependencies_is_used(files: dict[str, str], install: Install) -> None:
    assert seen({**files, "main.py": ""}).install is install


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({".python-version": "3.12\n"}, "3.12"),
        ({"pyproject.toml": PROJECT + "requires-python = '>=3.11,<3.14'"}, ">=3.11,<3.14"),
        (
            {".python-version": "# pinned\n3.11.7", "pyproject.toml": PROJECT + "requires-python = '>=3'"},
            "3.11.7",
        ),
        ({}, ""),
    ],
)
def test_the_interpreter_is_the_one_the_repository_asks_for(files: dict[str, str], wanted: str) -> None:
    assert seen({**files, "main.py": ""}).interpreter == wanted


@pytest.mark.parametrize("text", ["--managed-python", "/tmp/evil", "$(id)"])
def test_an_interpreter_request_is_only_ever_a_version(text: str) -> None:
    with pytest.raises(BuildFailed, match="Python version"):
        seen({".python-version": text, "main.py": ""})


@pytest.mark.parametrize(
    ("files", "installed", "command"),
    [
        (
            {"manage.py": DJANGO, "shop/wsgi.py": ""},
            {"gunicorn"},
            "gunicorn --bind 127.0.0.1:$PORT shop.wsgi",
        ),
        (
            {"manage.py": "", "shop/asgi.py": "", "shop/wsgi.py": ""},
            {"uvicorn"},
            "uvicorn --host 127.0.0.1 --port $PORT shop.asgi:application",
        ),
        ({"app.py": "app = Flask(__name__)"}, {"gunicorn"}, "gunicorn --bind 127.0.0.1:$PORT app:app"),
        (
            {"main.py": "from fastapi import FastAPI\napp: FastAPI = FastAPI()"},
            {"uvicorn", "gunicorn"},
            "uvicorn --host 127.0.0.1 --port $PORT main:app",
        ),
        ({"app.py": "app = Flask(__name__)"}, set(), "python app.py"),
        ({"main.py": "print(1)", "app.py": ""}, {"gunicorn"}, "python main.py"),
    ],
)
def test_the_web_command_fits_the_framework_and_what_is_installed(
    files: dict[str, str], installed: set[str], command: str
) -> None:
    assert choose(seen({**files, "requirements.txt": ""}), installed).command == command


def test_a_gunicorn_that_would_open_a_control_socket_is_told_not_to() -> None:
    """Its path below our home of a service is too long for a socket, which gunicorn logs as an error."""
    recipe = seen({"app.py": "app = Flask(__name__)", "requirements.txt": ""})
    served = commands(recipe, {"gunicorn", "gunicornc"})[0][-1]
    assert served == "exec gunicorn --no-control-socket --bind 127.0.0.1:$PORT app:app"
    assert "control" not in commands(recipe, {"gunicorn"})[0][-1]


BARE_FLASK = "from flask import Flask\napp = Flask(__name__)\n"
BARE_FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"


@pytest.mark.parametrize(
    ("files", "installed", "server"),
    [
        ({"app.py": BARE_FLASK}, {"flask"}, "gunicorn"),
        ({"main.py": BARE_FASTAPI}, {"fastapi"}, "uvicorn"),
        ({"manage.py": DJANGO, "shop/wsgi.py": ""}, {"django-admin"}, "gunicorn"),
        ({"app.py": BARE_FLASK}, {"flask", "gunicorn"}, ""),
        ({"manage.py": DJANGO, "shop/wsgi.py": "", "shop/asgi.py": ""}, {"uvicorn"}, ""),
        ({"app.py": BARE_FLASK + "if __name__ == '__main__':\n    app.run()\n"}, {"flask"}, ""),
        ({"app.py": BARE_FLASK + "waitress.serve(app)\n"}, {"flask"}, ""),
        ({"app.py": "app = Robot()\napp.move()\n"}, set(), ""),
        ({"app.py": BARE_FLASK, "Procfile": "web: flask run"}, {"flask"}, ""),
    ],
)
def test_a_server_is_added_only_for_an_application_that_nothing_would_serve(
    files: dict[str, str], installed: set[str], server: str
) -> None:
    assert missing_server(seen({**files, "requirements.txt": ""}), installed) == server
    assert not missing_server(seen(files), installed)


def test_django_without_a_server_is_refused_not_run_with_runserver() -> None:
    recipe = seen({"manage.py": DJANGO, "shop/wsgi.py": "", "requirements.txt": "django"})
    with pytest.raises(BuildFailed, match=r"gunicorn is not among the dependencies.*Procfile"):
        choose(recipe, {"django-admin"})


def test_static_files_are_served_when_there_is_nothing_to_run() -> None:
    assert seen({"index.html": "", "css/a.css": ""}).static
    assert seen({"index.html": "", "requirements.txt": "mkdocs"}).static


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"README.md": ""}, "nothing to run: none of Procfile, manage.py"),
        ({"requirements.txt": ""}, "nothing to run: Python dependencies were found"),
        ({"Dockerfile": ""}, "without Docker.*dockerfile_path to null"),
        ({"main.py": "", "pyproject.toml": "nonsense"}, "pyproject.toml cannot be read"),
    ],
)
def test_refusals_name_what_was_looked_for_and_what_to_add(files: dict[str, str], words: str) -> None:
    with pytest.raises(BuildFailed, match=words):
        seen(files)


def key_of(files: dict[str, str], commit: str) -> str:
    facts = declared(seen(files), files, lambda name: files.get(name, ""))
    return content_key(sorted(facts.texts.items()), commit if facts.local else "")


def test_dependencies_are_the_same_until_what_declares_them_changes() -> None:
    files = {"main.py": "1", "requirements.txt": "six\n-r more/base.txt", "more/base.txt": "-c ../pins.txt"}
    files["pins.txt"] = "six==1.17.0"
    before = key_of(files, "a")
    assert key_of({**files, "main.py": "2"}, "b") == before
    for name in ("requirements.txt", "more/base.txt", "pins.txt"):
        assert key_of({**files, name: files[name] + "\nmore"}, "a") != before


@pytest.mark.parametrize("line", ["-e .", ".", "./lib", "lib @ file:lib", "--editable ./lib", "../lib"])
def test_dependencies_on_the_repository_itself_are_not_shared_between_commits(line: str) -> None:
    files = {"main.py": "", "requirements.txt": f"six\n{line}\n"}
    assert key_of(files, "a") != key_of(files, "b")


def test_a_lock_of_uv_shares_unless_it_names_other_folders() -> None:
    lock = '[[package]]\nname = "x"\nsource = { virtual = "." }\n'
    files = {"pyproject.toml": PROJECT, "uv.lock": lock, "main.py": ""}
    assert key_of(files, "a") == key_of(files, "b")
    files["uv.lock"] += '[[package]]\nname = "y"\nsource = { editable = "lib" }\n'
    assert key_of(files, "a") != key_of(files, "b")


def test_the_repository_is_installed_itself_when_it_is_a_distribution() -> None:
    built = PROJECT + "[build-system]\nrequires = []\n"
    assert seen({"pyproject.toml": built, "main.py": ""}).package
    assert not seen({"pyproject.toml": PROJECT, "main.py": ""}).package
    assert not seen({"pyproject.toml": built + "[tool.uv]\npackage = false", "main.py": ""}).package


def test_no_install_command_lets_a_file_of_the_repository_become_an_option() -> None:
    python = Interpreter("/usr/bin/python3", "3.11.2")
    recipe = seen({"main.py": "", "requirements.txt": "--index-url https://evil.example"})
    commands = install_commands(recipe, "/uv", python, Path("/venv"))
    assert commands[-1][-2:] == ("-r", "requirements.txt")


LOCK = """
[[package]]
name = "six"
version = "1.17.0"
optional = false
groups = ["main", "dev"]
markers = {main = "python_version < '4'", dev = "extra"}

[[package]]
name = "pytest"
version = "8.0"
groups = ["dev"]

[[package]]
name = "fork"
version = "1"
[package.source]
type = "git"
url = "https://host/fork.git"
resolved_reference = "abc"
"""


def test_a_lock_of_poetry_gives_exactly_its_main_group() -> None:
    assert pinned(LOCK) == "six==1.17.0 ; python_version < '4'\nfork @ git+https://host/fork.git@abc\n"


def test_a_lock_of_poetry_that_leaves_versions_open_is_refused() -> None:
    entry = '[[package]]\nname = "a"\nversion = "{}"\n'
    with pytest.raises(BuildFailed, match="several versions"):
        pinned(entry.format(1) + entry.format(2))
