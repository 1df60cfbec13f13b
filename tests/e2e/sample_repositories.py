"""Ten kinds of repositories as people have them: a first version, a second one and one that fails.

The first answers "one", the second "two". What they need is small, so that all of them deploy in the
time of a coffee.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.e2e.installation import APP, Repository

Files = dict[str, str]


def plain(text: str) -> str:
    """A server without dependencies that answers with this text."""
    return APP.replace('"hello"', f'"{text}"')


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One kind. `fails` is the state and what the reason says when `broken` is deployed over `second`."""

    first: Files
    second: Files
    broken: Files
    fails: tuple[str, str]
    root_path: str = "/"
    logged: tuple[str, ...] = ()
    """What the log of the first deployment says."""
    prepare: Callable[[Repository], None] = lambda repository: None
    advance: Callable[[Repository], None] = lambda repository: None
    spoil: Callable[[Repository], None] = lambda repository: None


_FLASK = "from flask import Flask\napp = Flask(__name__)\n\n@app.get('/')\ndef index():\n    return {}\n"
FLASK = Sample(
    first={
        "requirements.txt": "flask==3.1.2\n",
        "app.py": _FLASK.replace("{}", "'one'"),
    },
    second={"app.py": _FLASK.replace("{}", "'two'")},
    broken={"requirements.txt": "flask==0.0.99\n"},
    fails=("BUILD_ERROR", "exit code 1"),
    logged=("dependencies from requirements.txt", "Adding gunicorn", "WSGI: app.py defines `app`"),
)

_FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n\n@app.get('/')\ndef index():\n    return {}\n"
FASTAPI = Sample(
    first={
        "pyproject.toml": "[project]\nname = 'api'\nversion = '1'\ndependencies = ['fastapi', 'uvicorn']\n",
        "main.py": _FASTAPI.replace("{}", "'one'"),
    },
    second={"main.py": _FASTAPI.replace("{}", "'two'")},
    broken={"main.py": "import no_such_module\n" + _FASTAPI},
    fails=("DEPLOYMENT_ERROR", "exit code 1"),
    logged=("dependencies from pyproject.toml", "ASGI: main.py defines `app`"),
)

_MIGRATION = """
from django.db import migrations, models

def fill(apps, schema_editor):
    apps.get_model("notes", "Note").objects.create(text="{text}")

class Migration(migrations.Migration):
    dependencies = [{after}]
    operations = [{create}migrations.RunPython(fill)]
"""
_CREATE = """migrations.CreateModel("Note", [("id", models.AutoField(primary_key=True)),
    ("text", models.TextField())]), """
_AFTER = '("notes", "0001_start")'
_NOTES = """
from django.http import HttpResponse
from django.urls import path
from notes.models import Note

def index(request):
    return HttpResponse(Note.objects.{which}().text)

urlpatterns = [path("", index)]
"""
_SETTINGS = """
import os
SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["notes"]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["HOME"] + "/notes.sqlite3"}
}
"""
_MODELS = """
from django.db import models

class Note(models.Model):
    id = models.AutoField(primary_key=True)
    text = models.TextField()
"""
_USE_SETTINGS = "import os, sys\nos.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'\n"
_MANAGE = (
    "from django.core.management import execute_from_command_line\nexecute_from_command_line(sys.argv)\n"
)
_WSGI = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
DJANGO = Sample(
    first={
        "requirements.txt": "django==5.2.8\ngunicorn==23.0.0\n",
        "Procfile": "web: gunicorn --bind 127.0.0.1:$PORT shop.wsgi\n"
        "release: python manage.py migrate --noinput\n",
        "manage.py": _USE_SETTINGS + _MANAGE,
        "shop/__init__.py": "",
        "shop/settings.py": _SETTINGS,
        "shop/wsgi.py": _USE_SETTINGS + _WSGI,
        "shop/urls.py": _NOTES.format(which="first"),
        "notes/__init__.py": "",
        "notes/models.py": _MODELS,
        "notes/migrations/__init__.py": "",
        "notes/migrations/0001_start.py": _MIGRATION.format(text="one", after="", create=_CREATE),
    },
    second={
        "shop/urls.py": _NOTES.format(which="last"),
        "notes/migrations/0002_more.py": _MIGRATION.format(text="two", after=_AFTER, create=""),
    },
    broken={
        "notes/migrations/0003_broken.py": _MIGRATION.format(
            text="three", after='("notes", "0002_more")', create="migrations.RunSQL('not sql'), "
        )
    },
    fails=("DEPLOYMENT_ERROR", "release"),
    logged=("Applying notes.0001_start... OK",),
)

_EXPRESS = "require('express')().get('/', (q, a) => a.send('{}')).listen(process.env.PORT, '127.0.0.1')\n"
EXPRESS = Sample(
    first={
        "package.json": json.dumps(
            {
                "scripts": {"start": "node app.js"},
                "dependencies": {"express": "4.21.2"},
                "engines": {"node": ">=18"},
            }
        ),
        "app.js": _EXPRESS.replace("{}", "one"),
    },
    second={"app.js": _EXPRESS.replace("{}", "two")},
    broken={"app.js": "require('a-module-that-is-not-there')\n"},
    fails=("DEPLOYMENT_ERROR", "exit code 1"),
    logged=("Node.js: dependencies from package-lock.json", "Will run exec node app.js"),
    prepare=lambda repository: _lock(repository.folder),
)

BUNDLED = Sample(
    first={
        "package.json": json.dumps(
            {
                "scripts": {
                    "build": "esbuild src/page.js --bundle --outfile=dist/page.js && cp index.html dist/"
                },
                "devDependencies": {"esbuild": "0.25.12"},
            }
        ),
        "index.html": "<script src=page.js></script>one",
        "src/page.js": "import { text } from './text.js'\ndocument.title = text\n",
        "src/text.js": "export const text = 'one'\n",
    },
    second={"index.html": "<script src=page.js></script>two"},
    broken={"src/page.js": "import { text } from './missing.js'\n"},
    fails=("BUILD_ERROR", "exit code 1"),
    logged=("There is no package-lock.json", "Node.js: dependencies from package.json"),
)

STATIC = Sample(
    first={"index.html": "one", "css/site.css": ""},
    second={"index.html": "two"},
    broken={},
    fails=("BUILD_ERROR", "'secrets' leads out of the root path"),
    logged=("static files",),
    spoil=lambda repository: (repository.folder / "secrets").symlink_to("/etc/passwd"),
)

WORKER = Sample(
    first={
        "Procfile": "web: python app.py\nworker: python work.py\n",
        "app.py": plain("one"),
        "work.py": "import time\nprint('the worker works', flush=True)\ntime.sleep(9999)\n",
    },
    second={"app.py": plain("two")},
    broken={"Procfile": "web: python app.py --now\nworker\n"},
    fails=("BUILD_ERROR", "line 2 of the Procfile"),
    logged=("`worker` is not run", "entrypoint: python work.py"),
)

MONOREPO = Sample(
    first={"web/index.html": "not this", "services/api/main.py": plain("one"), "package.json": "{broken"},
    second={"services/api/main.py": plain("two")},
    broken={"services/api/main.py": "print('last words')\nraise SystemExit(4)\n"},
    fails=("DEPLOYMENT_ERROR", "exit code 4"),
    root_path="/services/api",
    logged=("running main.py itself",),
)


def _library(repository: Repository) -> Path:
    return repository.folder.with_name("library")


def _with_library(repository: Repository) -> None:
    Repository(_library(repository), {"text.py": "TEXT = 'one'\n"})
    _git(repository.folder, "submodule", "--quiet", "add", "../library", "library")


def _newer_library(repository: Repository) -> None:
    inner = repository.folder / "library"
    (inner / "text.py").write_text("TEXT = 'two'\n")
    _git(inner, "add", "-A")
    _git(inner, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "two")
    _git(inner, "push", "--quiet", "origin", "HEAD:refs/heads/next")


def _unpushed_library(repository: Repository) -> None:
    inner = repository.folder / "library"
    (inner / "text.py").write_text("TEXT = 'three'\n")
    _git(inner, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "three")


SUBMODULE = Sample(
    first={"main.py": "from library.text import TEXT\n" + APP.replace('"hello"', "TEXT")},
    second={},
    broken={},
    fails=("BUILD_ERROR", "the submodule 'library': the commit"),
    logged=("running main.py itself",),
    prepare=_with_library,
    advance=_newer_library,
    spoil=_unpushed_library,
)

COMMITS = 4000


def _history(repository: Repository) -> None:
    """Thousands of commits on the branch, made by a stream."""
    who = "t <t@example.org> 1700000000 +0000"
    parts = ["feature done\n"]
    for number in range(COMMITS):
        source = "from refs/heads/main^0\n" if number == 0 else ""
        text = f"entry {number}\n"
        parts.append(f"commit refs/heads/main\ncommitter {who}\ndata {len(text)}\n{text}{source}")
        parts.append(f"M 100644 inline log/{number % 50}.txt\ndata {len(text)}\n{text}\n")
    stream = "".join(parts) + "done\n"
    _git(repository.folder, "fast-import", "--quiet", "--force", input=stream)
    _git(repository.folder, "reset", "--quiet", "--hard")


HISTORY = Sample(
    first={"main.py": plain("one")},
    second={"main.py": plain("two")},
    broken={"main.py": "raise SystemExit(5)\n"},
    fails=("DEPLOYMENT_ERROR", "exit code 5"),
    advance=_history,
)

SAMPLES = {
    "Flask": FLASK,
    "FastAPI": FASTAPI,
    "Django with a database": DJANGO,
    "Express": EXPRESS,
    "a site that a bundler builds": BUNDLED,
    "static files": STATIC,
    "a Procfile with a worker": WORKER,
    "a folder of a monorepo": MONOREPO,
    "a submodule": SUBMODULE,
    "a long history": HISTORY,
}


def _lock(folder: Path) -> None:
    subprocess.run(
        ("npm", "install", "--package-lock-only", "--no-audit", "--no-fund"),
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


def _git(folder: Path, *words: str, input: str = "") -> None:
    subprocess.run(
        ("git", "-c", "protocol.file.allow=always", *words),
        cwd=folder, check=True, capture_output=True, text=True, input=input, env={**os.environ},
    )  # fmt: skip
