"""Two servers that share a node and a PostgreSQL."""

import signal
from pathlib import Path

from tests.e2e.installation import Installation, eventually


class Pair:
    """Two servers that share a database, a node and a key; `leader` works, `other` stands by."""

    def __init__(self, folder: Path, url: str, **settings: str) -> None:
        self.url = url
        (folder / "one").mkdir()
        (folder / "two").mkdir()
        one = Installation(folder / "one", REFLOAT_DATABASE_URL=url, **settings)
        shared = {
            **settings,
            "REFLOAT_DATABASE_URL": url,
            "REFLOAT_NODE_DIR": str(one.node),
            "REFLOAT_HTTP_PORT": str(one.http_port),
            "REFLOAT_SECRET_KEY_FILE": str(one.data / "secret.key"),
        }
        two = Installation(folder / "two", **shared)
        two.node, two.http_port = one.node, one.http_port
        self.leader, self.other = one, two

    def start(self, **crash: str) -> None:
        self.leader.start(**crash)
        eventually(lambda: leads(self.leader))
        self.other.start()

    async def remove(self) -> None:
        for installation in (self.other, self.leader):
            if installation.process and installation.process.poll() is None:
                installation.process.send_signal(signal.SIGCONT)
        await self.other.remove()
        await self.leader.remove()


def leads(installation: Installation) -> bool:
    return "this server works on its node" in installation.log.read_text()
