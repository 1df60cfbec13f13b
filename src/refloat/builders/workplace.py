"""Where one build happens: its folder, the service's user, the environment, and how commands are run."""

from pathlib import Path

from refloat.builders.commands import run_build_command
from refloat.builders.environment import build_environment, script, share_npm_config, share_uv_config
from refloat.builders.releases import Releases
from refloat.domain.revision import LogSink
from refloat.supervisor.base import Supervisor


class Workplace:
    """The release `key` being built. `app` holds its files, `folder` what belongs to it alone."""

    def __init__(self, releases: Releases, key: str, supervisor: Supervisor, id: str, log: LogSink) -> None:
        self.releases = releases
        self.uid = releases.uid
        self.folder = releases.release(key)
        self.app = self.folder / "app"
        self.log = log
        self._supervisor = supervisor
        self._id = id
        place = releases.workplace()
        share_uv_config(place)
        share_npm_config(place)
        self.environment = build_environment(place)

    async def run(self, *commands: tuple[str, ...], cwd: Path | None = None, path: str = "") -> None:
        """Run the commands in turn as the service's user; raises BuildFailed at the first that fails."""
        await run_build_command(
            self._supervisor,
            self._id,
            script(*commands),
            cwd=cwd or self.app,
            environment=self.environment | ({"PATH": path} if path else {}),
            uid=self.uid,
            log=self.log,
        )
