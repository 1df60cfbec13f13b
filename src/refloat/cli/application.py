"""The one application that `refloat up` keeps: found by its name or made, and deployed at a commit."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from refloat.cli.client import Client, Json
from refloat.cli.problems import Problem
from refloat.cli.scope import Scope
from refloat.cli.working_tree import folder_of

PROJECT = "local"
_PORT = 8000
"""What the declared port is called; the process is told its real one as $PORT."""
_SCP = re.compile(r"[\w.-]+@[\w.-]+:.+|[\w-]+(\.[\w-]+)+:[^/\\].*")


def is_git_url(source: str) -> bool:
    """Whether this is the address of a repository and not a folder of this machine."""
    return "://" in source or (bool(_SCP.fullmatch(source)) and not Path(source).exists())


def name_of(source: str) -> str:
    """What an application from this address is called."""
    path = urlsplit(source).path if "://" in source else source.rpartition(":")[2]
    return path.rstrip("/").removesuffix(".git").rpartition("/")[2] or "application"


class Source(NamedTuple):
    """Where an application comes from. None: what it is already, or the default of a new one."""

    url: str
    branch: str | None = None
    root_path: str | None = None


class Application:
    """An application of an environment of the project `local`."""

    def __init__(self, client: Client, environment: Json, body: Json, *, made: bool, alone: bool) -> None:
        self._client = client
        self.environment = environment
        self.body = body
        self._made = made
        self._alone = alone
        self._former: Json | None = None

    @classmethod
    def find_or_make(cls, client: Client, environment: str, name: str, source: Source) -> "Application":
        """Refuses an application of this name that comes from elsewhere: it is not replaced by accident."""
        project = _project(client)
        there, new = _environment(client, project, environment)
        for known in client.get(f"/environment/{there['id']}/services")["results"]:
            if known["name"].lower() == name.lower():
                _check_origin(known, source.url, there)
                return cls(client, there, known, made=False, alone=False).at(source)
        body = client.post(f"/environment/{there['id']}/application", _request(name, source))
        return cls(client, there, body, made=True, alone=new)

    def at(self, source: Source) -> "Application":
        """Itself, changed to another branch or folder of its repository if one is asked for."""
        now = self.body["git_repository"]
        if any(asked not in (None, now.get(key)) for key, asked in source._asdict().items() if key != "url"):
            self._former = now
            self._take({**now, **_given(source)})
        return self

    def _take(self, source: Json) -> None:
        repository = {key: source.get(key) for key in Source._fields}
        body = {"healthchecks": self.body["healthchecks"], "git_repository": repository}
        self.body = dict(self._client.put(f"/application/{self.body['id']}", body))

    def withdraw(self) -> None:
        """Undo what was made or changed for a source that turned out not to be there."""
        if self._former:
            self._take(self._former)
        if self._made:
            self._client.delete(f"/application/{self.body['id']}")
        if self._alone:
            self._client.delete(f"/environment/{self.environment['id']}")

    def head(self) -> str:
        """The newest commit of the branch."""
        commits = self._client.get(f"/application/{self.body['id']}/commit")["results"]
        return str(commits[0]["git_commit_id"])

    def set_variables(self, values: Mapping[str, str]) -> None:
        scope = Scope(self._client, self.body, "APPLICATION")
        for key, value in values.items():
            scope.set(key, value)

    def is_current(self, commit: str) -> bool:
        """Whether this commit runs with the configuration there is, and nothing else is under way."""
        if self.body["git_repository"].get("deployed_commit_id") != commit:
            return False
        status = self._client.get(f"/application/{self.body['id']}/status")
        deployed = status["state"] in ("DEPLOYED", "RESTARTED")
        return deployed and status["service_deployment_status"] == "UP_TO_DATE"

    def deploy(self, commit: str) -> Json:
        """Ask for this commit; the environment's status with the deployment's id."""
        body = {"applications": [{"application_id": self.body["id"], "git_commit_id": commit}]}
        return dict(self._client.post(f"/environment/{self.environment['id']}/service/deploy", body))

    def addresses(self) -> tuple[str, str]:
        """The public URL and the one of this machine alone; "" for each that there is not."""
        for link in self._client.get(f"/application/{self.body['id']}/link")["results"]:
            internal = link.get("refloat_internal")
            return str(link["url"]), f"http://{internal}" if internal else ""
        return "", ""


def _given(source: Source) -> Json:
    return {key: value for key, value in source._asdict().items() if value is not None}


def _request(name: str, source: Source) -> Json:
    port = {"internal_port": _PORT, "publicly_accessible": True, "protocol": "HTTP", "is_default": True}
    return {"name": name, "git_repository": _given(source), "ports": [port], "healthchecks": {}}


def _project(client: Client) -> Json:
    organizations = client.get("/organization")["results"]
    if not organizations:
        raise Problem("this token reaches no organization", hint="use a token of the server's administrator")
    return _find_or_make(client, f"/organization/{organizations[0]['id']}/project", PROJECT)[0]


def _environment(client: Client, project: Json, name: str) -> tuple[Json, bool]:
    return _find_or_make(client, f"/project/{project['id']}/environment", name)


def _find_or_make(client: Client, path: str, name: str) -> tuple[Json, bool]:
    """What has this name, and whether it was made here; another `up` may make it at the same moment."""
    if found := _named(client, path, name):
        return found, False
    try:
        return client.post(path, {"name": name}), True
    except Problem:
        if found := _named(client, path, name):
            return found, False
        raise


def _named(client: Client, path: str, name: str) -> Json | None:
    return next((it for it in client.get(path)["results"] if it["name"].lower() == name.lower()), None)


def _check_origin(known: Json, url: str, environment: Json) -> None:
    its = str((known.get("git_repository") or {}).get("url") or "")
    if its == url:
        return
    folder = folder_of(its)
    hint = "choose another name by --name or --environment"
    if folder and not folder.exists():
        hint += (
            f"; if that folder was moved here, delete what it left: refloat env delete {environment['id']}"
        )
    raise Problem(
        f"the environment {environment['name']} has a service {known['name']!r} already,"
        f" from {folder or its or 'another kind of source'}",
        hint=hint,
    )
