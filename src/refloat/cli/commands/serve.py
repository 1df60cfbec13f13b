"""`refloat serve`: the server in the foreground."""

import click

from refloat.cli.problems import Problem


@click.command()
def serve() -> None:
    """Run the server in the foreground; settings are REFLOAT_* variables."""
    import asyncio

    from refloat.app import serve as run
    from refloat.domain.errors import Unavailable
    from refloat.settings import SettingError, load

    try:
        asyncio.run(run(load()))
    except (SettingError, Unavailable) as error:
        raise Problem(str(error)) from None


COMMANDS = (serve,)
