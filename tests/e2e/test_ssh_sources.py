"""Sources over ssh, from a real sshd: deployed with the server's own keys, refused in clear words without."""

import os
import pwd
import shutil
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


class Agent:
    """An ssh-agent without keys."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "agent.sock"
        command = ["ssh-agent", "-D", "-a", str(self.socket)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually(self.socket.exists)

    def add(self, key: Path) -> None:
        environ = {**os.environ, "SSH_AUTH_SOCK": str(self.socket)}
        subprocess.run(["ssh-add", "-q", str(key)], env=environ, check=True, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@pytest.fixture
def agent(folder: Path) -> Iterator[Agent]:
    made = Agent(folder)
    yield made
    made.stop()


async def test_a_repository_over_ssh_is_deployed_and_so_is_its_next_commit(
    ssh: SshServer, agent: Agent, folder: Path
) -> None:
    agent.add(ssh.key)
    installation = Installation(folder, SSH_AUTH_SOCK=str(agent.socket))
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


async def test_a_missing_key_is_an_error_that_says_where_to_put_it_and_then_it_works(
    ssh: SshServer, agent: Agent, folder: Path
) -> None:
    installation = Installation(folder, SSH_AUTH_SOCK=str(agent.socket))
    installation.start()
    try:
        environment = installation.environment()
        application = installation.application(environment, "api", ssh.url(Repository(folder / "git")))
        assert installation.roll(environment)["state"] == "BUILD_ERROR"
        reason = installation.last(environment)["reason"]
        assert "permission denied" in reason and f"127.0.0.1:{ssh.port}" in reason
        assert "~/.ssh" in reason and "ssh-agent" in reason
        agent.add(ssh.key)
        assert installation.roll(environment)["state"] == "DEPLOYED", installation.log_text(environment)
        assert installation.get(application).text == "hello"
    finally:
        await installation.remove()


class Home:
    """A home of the server's user: seen by its server only, because /etc/passwd is another file there."""

    def __init__(self, folder: Path, ssh: SshServer) -> None:
        self.keys = folder / "home" / ".ssh"
        self.keys.mkdir(parents=True, mode=0o700)
        self._passwd = folder / "passwd"
        own = pwd.getpwuid(os.geteuid())
        lines = Path("/etc/passwd").read_text().splitlines()
        moved = ":".join((*map(str, own[:5]), str(self.keys.parent), own[6]))
        kept = [line for line in lines if not line.startswith(f"{own.pw_name}:")]
        self._passwd.write_text("\n".join([*kept, moved]) + "\n")
        shutil.copy(ssh.key, self.keys / "id_ed25519")

    @property
    def wrapping(self) -> tuple[str, ...]:
        """The words before a command that gives it this home."""
        script = 'mount --bind "$0" /etc/passwd && exec "$@"'
        return ("unshare", "--mount", "sh", "-c", script, str(self._passwd))


@pytest.fixture
def home(ssh: SshServer, folder: Path) -> Home:
    made = Home(folder, ssh)
    if os.geteuid() != 0 or subprocess.run([*made.wrapping, "true"], check=False).returncode:
        pytest.skip("only root can give a process another home in /etc/passwd, and not everywhere")
    return made


async def test_keys_and_known_hosts_of_the_users_own_ssh_folder_count(
    ssh: SshServer, home: Home, folder: Path
) -> None:
    installation = Installation(folder, SSH_AUTH_SOCK="")
    installation.command = (*home.wrapping, *Installation.command)
    installation.start()
    try:
        environment = installation.environment()
        application = installation.application(environment, "api", ssh.url(Repository(folder / "git")))
        known = home.keys / "known_hosts"
        known.write_text(f"[127.0.0.1]:{ssh.port} {Path(f'{ssh.key}.pub').read_text()}")  # not the host's
        assert installation.roll(environment)["state"] == "BUILD_ERROR"
        assert "host key" in installation.last(environment)["reason"]
        known.write_text(f"[127.0.0.1]:{ssh.port} {(ssh.folder / 'host.pub').read_text()}")
        assert installation.roll(environment)["state"] == "DEPLOYED", installation.log_text(environment)
        assert installation.get(application).text == "hello"
    finally:
        await installation.remove()
