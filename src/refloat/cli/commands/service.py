"""`refloat service`: the server under systemd, started at every boot."""

import os
from typing import TYPE_CHECKING

import click

from refloat.cli.options import as_json_option, print_json
from refloat.cli.problems import Exit

if TYPE_CHECKING:
    from refloat.cli.background import Server
    from refloat.cli.systemd import Units

user_option = click.option("--user", is_flag=True, help="A unit of your own; default: of the whole machine.")


@click.group()
def service() -> None:
    """Keep the server running by systemd. From the next boot on too."""


@service.command()
@user_option
@click.option("--print", "only_print", is_flag=True, help="Print the unit and do nothing.")
def install(user: bool, only_print: bool) -> None:
    """Write a unit with the settings of this shell, and start it.

    A server that `up` started is replaced; its applications go on meanwhile.
    """
    from refloat.cli import context, systemd
    from refloat.cli.background import Server, command, settings_variables
    from refloat.cli.ending import end_server, kept_by_systemd
    from refloat.supervisor.occupancy import occupant

    environ = context.with_remembered(os.environ)
    server = Server(environ)
    settings = server.settings
    variables = settings_variables(environ, settings)
    text = systemd.unit(command(), variables, user=user)
    if only_print:
        click.echo(text, nl=False)
        return
    units = _units(user)
    units.check()
    systemd.write_secrets(settings.data_dir, variables)
    pid = occupant(settings.data_dir)
    if pid and not kept_by_systemd(pid):
        end_server(settings)
    units.install(text)
    units.await_server(lambda: _kept_and_answers(server))
    click.echo(
        f"{units.path} is installed and runs; its log: journalctl {'--user ' if user else ''}-u refloat"
    )
    if user:
        click.echo("it ends when you log out, unless: loginctl enable-linger")


@service.command()
@user_option
def uninstall(user: bool) -> None:
    """Stop the server and remove the unit; applications go on, data stays."""
    units = _units(user)
    if units.uninstall():
        click.echo(f"{units.path} is removed; `refloat down` ends the applications too")
    else:
        click.echo(f"there is no {units.path}")


@service.command()
@user_option
@as_json_option
def status(user: bool, as_json: bool) -> int:
    """Show whether the unit is installed and runs; exit code 1 when it does not run."""
    told = _units(user).status()
    if as_json:
        print_json(told)
    else:
        click.echo("\n".join(f"{name:<10} {value}" for name, value in told.items()))
    return Exit.DONE if told["active"] == "active" else Exit.FAILED


@service.command()
def restart() -> None:
    """Restart the server of this machine, as after an upgrade; applications go on.

    Where systemd keeps it by systemd, else in the background. A deployment is continued by the new server.
    """
    from refloat.cli import context
    from refloat.cli.background import Server
    from refloat.cli.ending import end_server, kept_by_systemd
    from refloat.supervisor.occupancy import occupant

    server = Server(context.with_remembered(os.environ))
    pid = occupant(server.settings.data_dir)
    if pid and (scope := kept_by_systemd(pid)):
        units = _units(scope == "user")
        units.restart()
        units.await_server(lambda: _kept_and_answers(server))
    else:
        end_server(server.settings)
        server.ensure()
    click.echo(f"the server of {server.settings.data_dir} runs anew; applications went on")


def _kept_and_answers(server: "Server") -> bool:
    """Whether the server of these settings answers, and is the one of the unit."""
    from refloat.cli.ending import kept_by_systemd
    from refloat.supervisor.occupancy import occupant

    pid = occupant(server.settings.data_dir)
    return bool(pid and kept_by_systemd(pid)) and server.answers()


def _units(user: bool) -> "Units":
    from refloat.cli.systemd import Units

    return Units(os.environ, user=user)


COMMANDS = (service,)
