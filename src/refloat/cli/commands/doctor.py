"""`refloat doctor`: whether this machine can run a server, and what it means where it cannot."""

import os

import click

from refloat.cli.options import as_json_option, print_json
from refloat.cli.problems import Exit

_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


@click.command()
@as_json_option
def doctor(as_json: bool) -> int:
    """Check what a server needs on this machine. Exit code 1 when something is a problem."""
    from refloat.cli import checkup, context

    found = checkup.look(context.with_remembered(os.environ))
    problems = [it for it in found if it.verdict is checkup.Verdict.PROBLEM]
    if as_json:
        print_json([it._asdict() for it in found])
    for it in found if not as_json else ():
        verdict = click.style(f"{it.verdict:<8}", fg=_COLOURS[it.verdict])
        click.echo(f"{verdict} {it.name:<11} {it.said}")
        if it.hint:
            click.echo(f"{'':21}hint: {it.hint}")
    if not as_json:
        click.echo(f"{len(problems)} problem{'s' if len(problems) != 1 else ''}")
    return Exit.FAILED if problems else Exit.DONE


COMMANDS = (doctor,)
