"""A node, a repository and a builder, as tests of builders need them."""

import subprocess
from pathlib import Path

from refloat.builders.base import BuildRequest
from refloat.builders.local import LocalBuilder
from refloat.domain.revision import Artifact, Level
from refloat.domain.services import GitSource
from refloat.supervisor.accounts import Accounts
from refloat.supervisor.processes import LocalSupervisor

SERVICE = "0190f5fb-4b28-7000-8000-00000000000a"


class World:
    """A node directory that every user can enter, a repository and a builder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = folder / "node"
        self.repository = folder / "repository"
        self.repository.mkdir()
        self.shared = folder / "shared"
        self.shared.mkdir()
        self.shared.chmod(0o777)
        self.git("init", "--quiet", "--initial-branch", "main")
        self.lines: list[str] = []
        self.builder = self.new_builder()

    def new_builder(self) -> LocalBuilder:
        return LocalBuilder(self.node, LocalSupervisor(self.node), Accounts(self.node), local_sources=True)

    def git(self, *args: str) -> str:
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
        argv = ("git", *who, *args)
        done = subprocess.run(argv, cwd=self.repository, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, files: dict[str, str]) -> str:
        for name, text in files.items():
            place = self.repository / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "change")
        return self.git("rev-parse", "HEAD")

    def source(self, root_path: str = "/") -> GitSource:
        return GitSource(url=str(self.repository), root_path=root_path)

    def request(self, commit: str, **more: object) -> BuildRequest:
        facts = {
            "service_id": SERVICE, "environment_id": "e", "deployment_id": "d", "name": "web",
            "source": self.source(), "commit_id": commit,
        }  # fmt: skip
        return BuildRequest(**{**facts, **more})  # type: ignore[arg-type]

    def log(self, level: Level, line: str) -> None:
        self.lines.append(line)

    async def build(self, commit: str, **more: object) -> Artifact:
        self.lines.clear()
        return await self.builder.build(self.request(commit, **more), self.log)

    def run(self, artifact: Artifact, argv: tuple[str, ...] = ()) -> str:
        """What the artifact's process writes, started as the engine would: as the service's user."""
        uid = Accounts(self.node).uid(SERVICE)
        done = subprocess.run(
            argv or artifact.web, env=artifact.environment, cwd=artifact.location, user=uid, group=uid,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def said(self, words: str) -> bool:
        return any(words in line for line in self.lines)
