"""Which commit a service is pinned to, and which its branch has."""

import re
import shlex
from typing import Any

import click

from refloat.cli.client import Client, Json
from refloat.cli.problems import Problem

_SHORT = 12
_OF_A_CLONE = re.compile(r"(HEAD|@)$|.*([~^:]|@\{)")
"""What git reads with the help of a clone; the server has only the repository's own names."""


def commits(server: Client, service: Json) -> list[Json]:
    """The last commits of the service's branch, newest first."""
    return list(server.get(f"/{service['service_type'].lower()}/{service['id']}/commit")["results"])


def deploy_body(server: Client, services: list[Json], commit: str | None) -> Json:
    """The body of `service/deploy`: what is built with its commit, the others as they are configured."""
    if commit and len(services) != 1:
        raise click.UsageError("--commit is for one service: name it after the environment")
    if commit and _OF_A_CLONE.match(commit):
        raise click.UsageError(
            f"--commit takes the id of a commit or a tag; in your clone `git rev-parse {shlex.quote(commit)}`"
            " tells the id"
        )
    body: dict[str, list[Any]] = {}
    for service in services:
        kind = service["service_type"].lower()
        body.setdefault(f"{kind}s", []).append(_entry(server, service, kind, commit))
    return body


def _entry(server: Client, service: Json, kind: str, commit: str | None) -> Any:
    built = is_built(service)
    if commit and not built:
        raise Problem(f"{service['name']} is a {kind} without a commit", hint="leave --commit out")
    if kind == "database":
        return service["id"]
    version = {"git_commit_id": _chosen(server, service, commit)} if built else {}
    return {"application_id" if kind == "application" else "id": service["id"], **version}


def is_built(service: Json) -> bool:
    """Whether it is built from git: an application, or a job that has no image."""
    return "git_repository" in service or bool((service.get("source") or {}).get("docker"))


def _chosen(server: Client, service: Json, commit: str | None) -> str:
    """The full id where the last commits tell it; else what was given, for the server to judge."""
    if commit and len(commit) == 40:
        return commit
    known = [str(it["git_commit_id"]) for it in commits(server, service)]
    if not commit:
        return known[0]
    found = [it for it in known if it.startswith(commit.lower())]
    return found[0] if len(found) == 1 else commit


def tell_what_is_ahead(server: Client, environment: Json) -> None:
    """One line for each branch that has other commits than what is deployed; a remote that is not
    reached says nothing, since nobody asked for it."""
    for service in server.get(f"/environment/{environment['id']}/services")["results"]:
        source = _source(service)
        pinned = str(source.get("deployed_commit_id") or "")
        try:
            known = [it["git_commit_id"] for it in commits(server, service)] if pinned else []
        except Problem:
            continue
        if known and known[0] != pinned:
            count = known.index(pinned) if pinned in known else 0
            ahead = (
                f"{count} commit{'s' if count > 1 else ''} ahead of" if count else "at another commit than"
            )
            click.echo(
                f"{service['name']}: {source.get('branch', 'the branch')} is {ahead} what is deployed"
                f" ({pinned[:_SHORT]} -> {known[0][:_SHORT]}); take it: refloat deploy {environment['name']}"
                f" {service['name']}"
            )


def _source(service: Json) -> Json:
    """The git repository of what is built, else nothing."""
    docker: Json = (service.get("source") or {}).get("docker") or {}
    return dict(service.get("git_repository") or docker.get("git_repository") or {})
