"""`refloat adopt`: records again what runs on this machine, when the database was lost."""

import os

import click

from refloat.cli.options import as_json_option, print_json
from refloat.cli.problems import Problem

_NEVER_KEPT = (
    "not recovered: history, API tokens, container registries, what was never deployed, and what was changed"
    " since the last deployment of its environment"
)


@click.command()
@as_json_option
def adopt(as_json: bool) -> None:
    """Record again what runs here, after the database was lost.

    No server may run on the data directory, and its secret.key must be there. Nothing that runs is touched.
    """
    from refloat.cli import adopting, context
    from refloat.domain.errors import RefloatError

    environ = context.with_remembered(os.environ)
    try:
        adopted = adopting.adopt_installation(context.read_settings(environ))
    except RefloatError as error:
        raise Problem(error.message, hint=error.hint) from None
    if as_json:
        print_json(adopting.as_json(adopted))
        return
    for it in adopted.environments:
        as_ = f"as deployment {it.number}" if it.number else "known already"
        click.echo(f"adopted  {it.project}/{it.name} ({it.id}): {', '.join(it.services)}, {as_}")
    if not adopted.environments:
        click.echo("nothing of this node was ever deployed: there is nothing to adopt")
    for words in adopted.missing:
        click.echo(f"note     {words}")
    click.echo(_NEVER_KEPT)


COMMANDS = (adopt,)
