"""A machine that systemd runs, for a test: booted, typed on, restarted, and thrown away."""

import os
import shutil
import signal
import site
import subprocess
import sys
from pathlib import Path

import refloat
from tests.e2e.installation import eventually, free_port

BOOT = Path(__file__).with_name("systemd_boot.sh")
NEEDED = ("lib/systemd/systemd", "usr/bin/dbus-daemon", "usr/lib/*/security/pam_systemd.so")
"""Of systemd, dbus and libpam-systemd."""
NEWCOMER = "newcomer"
_PREFIX = "opt/refloat"
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class SystemdMachine:
    """Refloat is installed in a venv in /opt/refloat; `root` are the machine's files, seen from here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port, self.http_port = free_port(), free_port()
        self.settings = {"REFLOAT_PORT": str(self.port), "REFLOAT_HTTP_PORT": str(self.http_port)}
        self._install(folder / "machine")
        self._log = (folder / "boot.log").open("ab")
        unshared = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private")
        readable = {str(Path(word).resolve()) for word in (sys.base_prefix, sys.prefix)}
        self._boot = subprocess.Popen((*unshared, str(BOOT), str(folder), *readable), stderr=self._log)
        self.pid = 0
        self.booted()

    def _install(self, root: Path) -> None:
        prefix = root / _PREFIX
        python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
        subprocess.run([python, "-m", "venv", "--without-pip", prefix], check=True)
        places = prefix / f"lib/python3.{sys.version_info.minor}/site-packages"
        (places / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
        (prefix / "bin/caddy").symlink_to(Path(sys.prefix).resolve() / "bin/caddy")
        source = Path(refloat.__file__).parent
        shutil.copytree(source, places / "refloat", ignore=shutil.ignore_patterns("__pycache__"))
        (prefix / "pyvenv.cfg").write_text(
            (prefix / "pyvenv.cfg").read_text().replace(str(prefix), f"/{_PREFIX}")
        )

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self.pid}/root")

    @property
    def package(self) -> Path:
        """The installed release."""
        return self.root / _PREFIX / f"lib/python3.{sys.version_info.minor}/site-packages/refloat"

    def booted(self) -> None:
        """Wait until the machine is up, for the first time or after a reboot."""
        last, file = self.pid, self._folder / "pid1"

        def up() -> int:
            assert self._boot.poll() is None, (self._folder / "boot.log").read_text()
            text = file.read_text().strip() if file.exists() else ""
            return int(text) if text.isdigit() and int(text) != last else 0

        self.pid = eventually(up)
        eventually((self.root / "run/systemd/private").exists)
        state = self.run("systemctl", "is-system-running", "--wait", check=False)
        assert state.strip() == "running", state + self.run("systemctl", "list-units", "--state=failed")

    def reboot(self) -> None:
        self.run("systemctl", "reboot", check=False)
        self.booted()

    def off(self) -> None:
        """Cut its power."""
        if self._boot.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self._boot.wait()
        self._log.close()

    def run(self, *words: str, user: str = "root", check: bool = True, **environ: str) -> str:
        """What a command prints that somebody runs who has signed in."""
        number = self.number(user)
        who = {"HOME": "/root" if user == "root" else f"/home/{user}", "USER": user, "PATH": _PATH}
        who |= {"XDG_RUNTIME_DIR": f"/run/user/{number}", "LANG": "C.UTF-8"}
        inside = ("nsenter", "--target", str(self.pid), "--all", "--root", "--wd")
        account = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups")
        variables = [f"{name}={value}" for name, value in (who | environ).items()]
        done = subprocess.run(
            (*inside, *account, "env", "-i", "--chdir", who["HOME"], *variables, *words),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def refloat(self, *words: str, user: str, check: bool = True) -> str:
        command = (f"/{_PREFIX}/bin/python", "-P", "-m", "refloat", *words)
        return self.run(*command, user=user, check=check, **self.settings)

    def number(self, user: str) -> str:
        """The user's id."""
        lines = (self.root / "etc/passwd").read_text().splitlines()
        return next(line.split(":")[2] for line in lines if line.startswith(f"{user}:"))
