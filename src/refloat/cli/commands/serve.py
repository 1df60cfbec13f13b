"""`refloat serve` and `refloat emulator`: the server in the foreground."""

import os
from typing import TYPE_CHECKING

import click

from refloat.cli.problems import Problem

if TYPE_CHECKING:
    from refloat.settings import Settings

EMULATOR_TOKEN = "rf_emulator"
_MEMORY = "/dev/shm"


def _run(settings: "Settings") -> None:
    import asyncio

    from refloat.app import event_loop
    from refloat.app import serve as run
    from refloat.domain.errors import Unavailable
    from refloat.settings import SettingError

    try:
        with asyncio.Runner(loop_factory=lambda: event_loop(shared=settings.shared)) as runner:
            runner.run(run(settings))
    except (SettingError, Unavailable) as error:
        raise Problem(str(error)) from None


def _settings(**changes: str) -> "Settings":
    from refloat.settings import SettingError, load

    try:
        return load({**os.environ, **changes})
    except SettingError as error:
        raise Problem(str(error)) from None


@click.command()
def serve() -> None:
    """Run the server in the foreground. Settings are REFLOAT_* variables."""
    _run(_settings())


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Where the API listens. Default: REFLOAT_PORT.")
@click.option("--token", default=EMULATOR_TOKEN, show_default=True, help="The admin token.")
def emulator(port: int | None, token: str) -> None:
    """Run a stand-in for tests, on a simulated cluster.

    The whole API; kept in memory, gone at its end.
    """
    import tempfile

    import msgspec

    memory = _MEMORY if os.path.isdir(_MEMORY) else None  # noqa: PTH112 - pathlib is not needed for one look
    with tempfile.TemporaryDirectory(prefix="refloat-emulator-", dir=memory) as folder:
        chosen = {"REFLOAT_PORT": str(port)} if port else {}
        settings = _settings(
            REFLOAT_DATA_DIR=folder,
            REFLOAT_NODE_DIR="",
            REFLOAT_DATABASE_URL="",
            REFLOAT_ADMIN_TOKEN=token,
            **chosen,
        )
        click.echo(f"refloat emulator: http://{settings.host}:{settings.port} with the token {token}")
        _run(msgspec.structs.replace(settings, emulate=True))


COMMANDS = (serve, emulator)
