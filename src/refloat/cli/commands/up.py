"""`refloat up`: from a folder or a git address to something that answers, in one command."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from refloat.cli.options import as_json_option, timeout_option
from refloat.cli.problems import Exit, Problem

if TYPE_CHECKING:
    from refloat.cli.application import Application, Source
    from refloat.cli.client import Client


class Wish(NamedTuple):
    """What was typed."""

    name: str | None
    environment: str | None
    variables: dict[str, str]
    follows: bool
    timeout: float | None
    as_json: bool


@click.command()
@click.argument("source", default=".", metavar="[PATH|GIT_URL]")
@click.option("--name", help="Of the application; default: the folder's or the repository's.")
@click.option("--environment", help="Of the project 'local'; default: as the application.")
@click.option(
    "--env", "variables", multiple=True, metavar="KEY=VALUE", help="Set a variable of the application."
)
@click.option("--branch", metavar="NAME", help="Of a GIT_URL; default: the remote's own default.")
@click.option("--root-path", metavar="FOLDER", help="Of a GIT_URL: the application's folder in it.")
@click.option("--watch/--detach", "follows", default=True, help="Follow the deployment, or return at once.")
@timeout_option
@as_json_option
def up(
    source: str,
    name: str | None,
    environment: str | None,
    variables: tuple[str, ...],
    branch: str | None,
    root_path: str | None,
    follows: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Deploy a folder as it is now, or a git repository.

    A server is started in the background if none runs on this machine.

    A folder is deployed with its uncommitted changes, without what git ignores; the folder and its
    repository are not written to. Running it again deploys what changed.
    """
    from refloat.cli.application import Source, is_git_url
    from refloat.cli.scope import pair

    if timeout and not follows:
        raise click.UsageError("--timeout does not go with --detach")
    wish = Wish(name, environment, dict(pair(it) for it in variables), follows, timeout, as_json)
    if is_git_url(source):
        return _from_url(Source(source, branch, _rooted(root_path)), wish)
    if branch:
        raise click.UsageError("--branch is for a GIT_URL: a folder is deployed as it is")
    if root_path is not None:
        raise click.UsageError("--root-path is for a GIT_URL: name the folder itself, refloat up FOLDER")
    return _from_folder(source, wish)


def _rooted(folder: str | None) -> str | None:
    """As the API tells it, so that the two can be compared."""
    return None if folder is None else "/" + folder.strip("/")


def _from_url(source: "Source", wish: Wish) -> int:
    from refloat.cli.application import Application, name_of

    name = _name(wish, (source.root_path or "").rpartition("/")[2] or name_of(source.url))
    server = _server(wish)
    application = Application.find_or_make(server, wish.environment or name, name, source)
    try:
        commit = application.head()
    except Problem:
        application.withdraw()
        raise
    return _deploy(server, application, commit, wish)


def _from_folder(source: str, wish: Wish) -> int:
    from refloat.cli import context
    from refloat.cli.application import Application, Source
    from refloat.cli.runnable import check_that_it_runs
    from refloat.cli.working_tree import BRANCH, WorkingTree

    environ = context.with_remembered(os.environ)
    if environ.get("REFLOAT_URL") and not context.is_loopback(context.server_url(environ)):
        url = environ["REFLOAT_URL"]
        raise Problem(
            f"a folder can only be deployed by a server of this machine; REFLOAT_URL is {url}",
            hint="push it and deploy it from there: refloat up GIT_URL; or unset REFLOAT_URL",
        )
    folder = _folder(source)
    tree = WorkingTree(folder, context.read_settings(environ).data_dir)
    check_that_it_runs(tree)
    name = _name(wish, tree.folder.name)
    server = _server(wish)
    snapshot = tree.snapshot()
    here = Source(snapshot.url, BRANCH)
    application = Application.find_or_make(server, wish.environment or name, name, here)
    return _deploy(server, application, snapshot.commit, wish)


def _name(wish: Wish, of_source: str) -> str:
    """The application's; refused here when the API would, because a folder's name may be longer."""
    from refloat.domain.resources import LONGEST_NAME

    name = wish.name or of_source
    for meant in (name, wish.environment or name):
        if len(meant) > LONGEST_NAME:
            raise Problem(
                f"the name {meant[:20]}… has {len(meant)} characters; {LONGEST_NAME} are allowed",
                hint="choose a shorter one: refloat up --name NAME --environment NAME",
            )
    return name


def _folder(source: str) -> Path:
    folder = Path(source).expanduser()
    if folder.is_file():
        raise Problem(f"{source} is a file", hint="give the folder of the application")
    if not folder.is_dir():
        raise Problem(
            f"there is no folder {source}",
            hint="give a folder, or a git address such as https://host/team/app.git",
        )
    if folder.resolve() in (Path("/"), Path.home().resolve()):
        raise Problem(
            f"{folder.resolve()} is not the folder of one application", hint="change to it, or give its path"
        )
    return folder


def _server(wish: Wish) -> "Client":
    """The server that is meant, started if it is one of this machine and does not run."""
    from refloat.cli import context
    from refloat.cli.background import Server, settings_variables
    from refloat.cli.client import Client

    environ = context.with_remembered(os.environ)
    if not environ.get("REFLOAT_URL"):
        server = Server(environ)
        started = server.ensure()
        _remember(environ, settings_variables(environ, server.settings))
        if started and not wish.as_json:
            click.echo(f"started a server on {server.settings.data_dir}; its log is {server.log}")
    return Client(context.server_url(environ), context.token(environ))


def _remember(environ: dict[str, str], settings: dict[str, str]) -> None:
    """A home that cannot be written is no reason not to deploy; later shells have to be told, then."""
    from refloat.cli import context

    try:
        context.remember(environ, settings)
    except OSError as error:
        file = context.path(environ)
        told = " ".join(f"{name}={settings[name]}" for name in sorted(settings) if name in context.NAMING)
        why = f"{file} cannot be written ({error.strerror})"
        click.echo(f"refloat: {why}; other shells find this server with {told}", err=True)


def _deploy(server: "Client", application: "Application", commit: str, wish: Wish) -> int:
    application.set_variables(wish.variables)
    changed = not application.is_current(commit)
    code = int(Exit.DONE)
    if changed:
        code = _follow(server, application, application.deploy(commit), wish)
    _tell(server, application, commit, wish, changed, code)
    return code


def _follow(server: "Client", application: "Application", status: dict[str, Any], wish: Wish) -> int:
    from refloat.cli.advice import LISTEN, explain
    from refloat.cli.watch import Watch

    request, environment = status["deployment_request_id"], application.environment
    watching = Watch(server, environment, request, logs=False, as_json=wish.as_json, advice=LISTEN)
    if not wish.follows:
        if not wish.as_json:
            click.echo(
                f"{application.body['name']} is being deployed; follow it: {watching.resume_command()}"
            )
        return Exit.DONE
    code = watching.run(wish.timeout)
    if code == Exit.FAILED and not wish.as_json:
        explain(server, application.environment, request)
    return code


def _tell(
    server: "Client", application: "Application", commit: str, wish: Wish, changed: bool, code: int
) -> None:
    """The last words: where it answers, where the API is, where the token is."""
    from refloat.cli import render

    public, internal = application.addresses()
    name = application.body["name"]
    if wish.as_json:
        told = {
            "event": "up",
            "application": name,
            "application_id": application.body["id"],
            "environment_id": application.environment["id"],
            "commit": commit,
            "changed": changed,
            "exit_code": code,
            "url": public,
            "internal_url": internal,
            "api": server.url,
            "token": _token_place(),
        }
        click.echo(json.dumps(told))
        return
    if not changed:
        click.echo(f"nothing changed: {name} runs this commit ({commit[:12]}) already")
    if code == Exit.DONE:
        rows = [[name, public], ["API", server.url], ["token", _token_place()]]
        if internal:
            rows.insert(1, ["", f"{internal} for programs that do not resolve *.localhost"])
        click.echo(render.table(rows))


def _token_place() -> str:
    from refloat.cli import context

    environ = context.with_remembered(os.environ)
    if environ.get("REFLOAT_TOKEN"):
        return "REFLOAT_TOKEN"
    settings = context.read_settings(environ)
    return "REFLOAT_ADMIN_TOKEN" if settings.admin_token else str(settings.data_dir / "admin.token")


COMMANDS = (up,)
