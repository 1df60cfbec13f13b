"""The `refloat` command. Heavy imports happen inside commands, so that `--help` is quick."""

import sys

import click


@click.group()
@click.version_option(package_name="refloat")
def main() -> None:
    """Self-hosted deployment control plane: whole environments, rolled in order, no request lost."""


@main.command()
def serve() -> None:
    """Run the server in the foreground; settings are REFLOAT_* variables."""
    import asyncio

    from refloat.app import serve as run
    from refloat.domain.errors import RefloatError
    from refloat.settings import SettingError, load

    try:
        asyncio.run(run(load()))
    except (SettingError, RefloatError) as error:
        print(f"refloat: {error}", file=sys.stderr)
        sys.exit(1)
