"""`refloat backup` and `refloat restore`: the whole installation in one file, and back."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refloat.cli.options import as_json_option, print_json
from refloat.cli.problems import Problem

if TYPE_CHECKING:
    from refloat.cli.safekeeping import Kept
    from refloat.settings import Settings

_COUNTED = (("resource", "things that are configured"), ("deployment", "deployments"), ("event", "events"))


def _done(work: "Callable[[Settings, Path], Kept]", file: Path) -> "Kept":
    """On the installation whose data directory this shell's settings mean."""
    from refloat.cli import context
    from refloat.domain.errors import RefloatError

    environ = context.with_remembered(os.environ)
    try:
        return work(context.read_settings(environ), file.absolute())
    except RefloatError as error:
        raise Problem(error.message, hint=error.hint) from None


def _counts(kept: "Kept") -> str:
    return ", ".join(f"{kept.rows[table]} {words}" for table, words in _COUNTED)


_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command()
@_file
@as_json_option
def backup(file: Path, as_json: bool) -> None:
    """Write all the server knows into a new FILE.

    The server may run meanwhile. The file opens every secret: it holds the sealing key and the admin token.
    """
    from refloat.cli.safekeeping import back_up

    kept = _done(back_up, file)
    if as_json:
        print_json({"file": kept.file, "at": kept.at.isoformat(), "rows": kept.rows})
    else:
        click.echo(f"{kept.file}: {_counts(kept)}, as of {kept.at:%Y-%m-%d %H:%M:%S} UTC")
        click.echo("It holds the sealing key and the admin token: keep it where only you can read it.")


@click.command()
@_file
@as_json_option
def restore(file: Path, as_json: bool) -> None:
    """Put a backup into an unused installation.

    No server may run there. All of it is restored, or nothing.
    """
    from refloat.cli.safekeeping import restore as put_back

    kept = _done(put_back, file)
    if as_json:
        print_json(
            {"file": kept.file, "at": kept.at.isoformat(), "rows": kept.rows, "written": kept.restored}
        )
        return
    click.echo(f"restored {_counts(kept)}, as of {kept.at:%Y-%m-%d %H:%M:%S} UTC")
    click.echo("\n".join(f"wrote    {path}" for path in kept.restored))
    if kept.beside:
        click.echo(
            f"Services were deployed below {kept.beside}: if any was after this backup, run refloat adopt."
        )
    click.echo("Start the server: refloat up, or refloat serve.")


COMMANDS = (backup, restore)
