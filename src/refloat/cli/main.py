"""The `refloat` command. Commands are loaded when they are named, heavy imports inside them when they run."""

import contextlib
import errno
import importlib
import io
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from refloat.cli.problems import Exit, Problem

_WHERE = {
    "up": "up",
    "down": "down",
    "doctor": "doctor",
    "serve": "serve",
    "emulator": "serve",
    "service": "service",
    "status": "show",
    "plan": "show",
    "history": "show",
    "logs": "logs",
    "explain": "explain",
    "deploy": "act",
    "redeploy": "act",
    "stop": "act",
    "restart": "act",
    "cancel": "act",
    "rollback": "rollback",
    "job": "jobs",
    "env": "env",
    "var": "variables",
    "secret": "variables",
    "token": "tokens",
    "backup": "backup",
    "restore": "backup",
    "adopt": "adopt",
    "clean": "clean",
}
"""Which module of `refloat.cli.commands` has a command, in the order the help lists them."""


class Commands(click.Group):
    """Ends every command with one of our exit codes; click's own 2 for wrong usage means canceled here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_WHERE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _WHERE:
            return None
        module = importlib.import_module(f"refloat.cli.commands.{_WHERE[cmd_name]}")
        commands: tuple[click.Command, ...] = module.COMMANDS
        return next(c for c in commands if c.name == cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """An unknown command is told with the one that was probably meant."""
        if args[0] not in _WHERE and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], _WHERE, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click itself would end with 1, as if the deployment had failed
            raise _Unread from None

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        inherited: Any = super().main
        run = partial(inherited, *args, standalone_mode=False, **extra)
        if not standalone_mode:
            return run()
        if sys.stdout is None:  # closed by who started us; what it would say is for nobody
            sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
        sys.exit(_exit_code(run))


class _Unread(Exception):
    """`refloat logs | head`: the reader has seen enough."""


def _exit_code(run: Callable[[], Any]) -> int:
    try:
        code = run()
    except click.UsageError as error:
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        error.show()
        return Exit.FAILED
    except Problem as problem:
        click.echo(problem.words(), err=True)
        return problem.code
    except _Unread:
        _read_no_more()
        return Exit.UNREAD
    except OSError as error:
        if not error.filename and error.errno != errno.ENOSPC:
            raise
        if not error.filename:
            _read_no_more()
        click.echo(_refused(error).words(), err=True)
        return Exit.FAILED
    except click.Abort:
        click.echo("refloat: interrupted", err=True)
        return Exit.INTERRUPTED
    return code if isinstance(code, int) else Exit.DONE


def _read_no_more() -> None:
    """What is still to be written goes nowhere; the interpreter would complain of it at its end."""
    with contextlib.suppress(io.UnsupportedOperation):  # nothing that could complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refused(error: OSError) -> Problem:
    """What the machine refused, to which file; that is for who types to mend."""
    hint = ""
    if isinstance(error, PermissionError):
        hint = f"look at its owner and mode: ls -ld {error.filename}"
    elif error.errno == errno.ENOSPC:
        hint = "`refloat doctor` shows how much is free, and `refloat clean` frees what builds keep"
    where = f"{error.filename}: " if error.filename else ""
    return Problem(f"{where}{error.strerror}", hint=hint)


@click.group(
    cls=Commands,
    name="refloat",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="refloat")
@click.pass_context
def main(context: click.Context) -> None:
    """Self-hosted deployment control plane: whole environments, rolled in order, no request lost.

    Begin with `refloat up` in the folder of an application.

    ENVIRONMENT is an id or a name. The server is REFLOAT_URL with REFLOAT_TOKEN, else the one of this
    machine that `refloat up` started last.

    Exit codes: 0 done, 1 failed, 2 canceled, 3 timeout, 4 server unreachable, 64 wrong usage.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
