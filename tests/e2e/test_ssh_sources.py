"""Sources over ssh, from a real sshd: deployed with the server's own keys, refused in clear words without."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, Repository, eventually, free_port

MUST_RUN = os.environ.get("REFLOAT_TESTS_MUST_NOT_SKIP") == "1"
SSHD = "/usr/sbin/sshd"


class SshServer:
    """An sshd of this test's own user, with one key that may sign in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.port = free_port()
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.key = self._key("client")
        shutil.copyfile(f"{self.key}.pub", folder / "authorized")
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it

    def _key(self, name: str) -> Path:
        path = self.folder / name
        path.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True, input=b"y\n", stdout=subprocess.DEVNULL)
        return path

    def start(self, host_key: str) -> None:
        """With this host key, made at its first use."""
        key = self.folder / host_key
        options = {
            "HostKey": key if key.exists() else self._key(host_key),
            "ListenAddress": f"127.0.0.1:{self.port}",
            "AuthorizedKeysFile": self.folder / "authorized",
            "PidFile": "none",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", "/dev/null", *words], stderr=log)
        eventually(lambda: b"Server listening" in (self.folder / "sshd.log").read_bytes())

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
        (self.folder / "sshd.log").write_bytes(b"")

    def url(self, repository: Repository) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}{repository.folder}"


@pytest.fixture
def ssh(folder: Path) -> Iterator[SshServer]:
    if not Path(SSHD).exists():
        assert not MUST_RUN, "openssh-server is not installed"
        pytest.skip("openssh-server is not installed")
    server = SshServer(folder / "ssh")
    server.start("host")
    yield server
    server.stop()


@pytest.fixture
def agent(folder: Path, ssh: SshServer) -> Iterator[str]:
    """The socket of an agent that holds the client's key."""
    socket = folder / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    eventually(socket.exists)
    environ = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
    subprocess.run(["ssh-add", "-q", str(ssh.key)], env=environ, check=True, stderr=subprocess.DEVNULL)
    yield str(socket)
    process.send_signal(signal.SIGTERM)
    process.wait()


async def test_a_repository_over_ssh_is_deployed_and_so_is_its_next_commit(
    ssh: SshServer, agent: str, folder: Path
) -> None:
    installation = Installation(folder, SSH_AUTH_SOCK=agent)
    installation.start()
    try:
        repository = Repository(folder / "git")
        environment = installation.environment()
        application = installation.application(environment, "api", ssh.url(repository))
        assert installation.roll(environment)["state"] == "DEPLOYED", installation.log_text(environment)
        text = (repository.folder / "app.py").read_text().replace('"hello"', '"second"')
        commit = repository.commit({"app.py": text})
        body = {"applications": [{"application_id": application, "git_commit_id": commit}]}
        installation.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
        assert installation.ended(environment)["state"] == "DEPLOYED"
        assert installation.get(application).text == "second"

        ssh.stop()
        ssh.start("another-host")
        commit = repository.commit({"app.py": text + "\n"})
        body = {"applications": [{"application_id": application, "git_commit_id": commit}]}
        installation.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
        assert installation.ended(environment)["state"] == "BUILD_ERROR"
        assert "host key" in installation.last(environment)["reason"].lower()
        assert installation.get(application).text == "second"
    finally:
        await installation.remove()


async def test_a_repository_whose_key_is_missing_is_an_error_that_says_so(
    ssh: SshServer, folder: Path
) -> None:
    installation = Installation(folder, SSH_AUTH_SOCK="/nonexistent")
    installation.start()
    try:
        environment = installation.environment()
        url = ssh.url(Repository(folder / "git")).replace(f"{ssh.user}@", f"no-{ssh.user}@")
        installation.application(environment, "api", url)
        assert installation.roll(environment)["state"] == "BUILD_ERROR"
        reason = installation.last(environment)["reason"]
        assert "permission denied" in reason.lower() and "127.0.0.1" in reason
    finally:
        await installation.remove()
