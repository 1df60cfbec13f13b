"""The server as a systemd unit: its text, and putting it in place.

`KillMode=process` because applications and the edge are to outlive the server; `Delegate=yes` because
they are started below the unit's control group and must be left alone there.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from refloat.cli.problems import Problem
from refloat.supervisor.directories import write_private

NAME = "refloat.service"
SECRETS = "service.env"
"""In the data directory, 0600: the settings that nobody else may read; everybody may read units."""
_READY_SECONDS = 60.0
_LOOK_SECONDS = 0.1
_SHOWN = 8
_TEXT = """\
[Unit]
Description=Refloat, a self-hosted deployment control plane
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={command}
{environment}
KillMode=process
Delegate=yes
Restart=always
RestartSec=1

[Install]
WantedBy={target}
"""


def unit(command: Sequence[str], settings: Mapping[str, str], *, user: bool) -> str:
    """The unit's text. Secrets are only named by their file."""
    hidden = secrets(settings)
    lines = [f"Environment={_quoted(f'{k}={v}')}" for k, v in settings.items() if k not in hidden]
    if hidden:
        lines.append(f"EnvironmentFile={settings['REFLOAT_DATA_DIR'].replace('%', '%%')}/{SECRETS}")
    return _TEXT.format(
        command=" ".join(_quoted(word, dollars=True) for word in command),
        environment="\n".join(lines),
        target="default.target" if user else "multi-user.target",
    )


def secrets(settings: Mapping[str, str]) -> dict[str, str]:
    """The admin token, and the address of a database with its password."""
    token, database = "REFLOAT_ADMIN_TOKEN", "REFLOAT_DATABASE_URL"
    return {k: v for k, v in settings.items() if k == token or (k == database and "@" in v)}


def write_secrets(folder: Path, settings: Mapping[str, str]) -> None:
    """The file that the unit names, as systemd reads it; none when there is no secret."""
    file, hidden = folder / SECRETS, secrets(settings)
    if not hidden:
        file.unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    escaped = {k: v.replace("\\", "\\\\").replace('"', '\\"') for k, v in hidden.items()}
    write_private(file, "".join(f'{k}="{v}"\n' for k, v in escaped.items()).encode())


def _quoted(text: str, *, dollars: bool = False) -> str:
    """A word as systemd reads it back: `%` and, in commands, `$` stand for something else alone."""
    if "\n" in text:
        raise Problem(f"{text!r} has a line break, which a unit cannot hold", hint="change the setting")
    text = text.replace("%", "%%")
    text = text.replace("$", "$$") if dollars else text
    if re.fullmatch(r"[\w@%+=:,./$-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Units:
    """The units of the machine, or with `user` of one person. `root` is where the machine's files are."""

    def __init__(self, environ: Mapping[str, str], *, user: bool, root: Path = Path("/")) -> None:
        self.user = user
        self._running = root / "run/systemd/system"
        home = Path(environ.get("HOME") or "~").expanduser()
        config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
        self.path = (config / "systemd/user" if user else root / "etc/systemd/system") / NAME

    def install(self, text: str) -> None:
        """Write the unit, have it started now and at every boot."""
        self.check()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(text)
        except OSError as error:
            raise Problem(f"{self.path} cannot be written: {error.strerror}", hint="see --print") from None
        self._control("daemon-reload")
        self._control("enable", NAME)
        self.restart()

    def restart(self) -> None:
        """Have systemd end the server and start what is installed now."""
        self._control("restart", NAME)

    def await_server(self, answers: Callable[[], bool]) -> None:
        """Return once it answers. To systemd a server that ends at once has been started, too."""
        deadline = time.monotonic() + _READY_SECONDS
        while not answers():
            if time.monotonic() > deadline or self._said("is-active", NAME) != "active":
                raise Problem(
                    f"{NAME} is installed, but its server does not come up; "
                    f"its last words:{self._last_words()}",
                    hint=f"mend that and type it again, or: refloat service uninstall{self._flag}",
                )
            time.sleep(_LOOK_SECONDS)

    def _last_words(self) -> str:
        scope = ("--user",) if self.user else ()
        which = ("--unit", NAME, "--lines", str(_SHOWN), "--output", "cat", "--no-pager")
        command = ("journalctl", *scope, *which)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return "".join(f"\n  | {line}" for line in done.stdout.splitlines()) or "\n  | (it said nothing)"

    def uninstall(self) -> bool:
        """Stop the server and take the unit away; the applications go on. False when there was none."""
        self.check()
        if not self.path.exists():
            return False
        self._control("disable", "--now", NAME)
        self.path.unlink()
        self._control("daemon-reload")
        return True

    def status(self) -> dict[str, str]:
        """What systemd says of it, in its own words."""
        if not self.path.exists():
            return {"unit": str(self.path), "installed": "no", "active": "inactive", "enabled": "disabled"}
        self.check()
        answers = {word: self._said(f"is-{word}", NAME) for word in ("active", "enabled")}
        return {"unit": str(self.path), "installed": "yes", **answers}

    def check(self) -> None:
        """Refuse where there is no systemd, or not the right to write the unit."""
        if shutil.which("systemctl") is None or not self._running.is_dir():
            raise Problem(
                "this machine is not run by systemd",
                hint="`refloat up` starts a server without it; --print shows the unit for another machine",
            )
        if not self.user and os.geteuid() != 0:
            raise Problem(
                "a unit of the whole machine needs root", hint="use sudo, or --user for one of your own"
            )

    @property
    def _flag(self) -> str:
        return " --user" if self.user else ""

    def _control(self, *words: str) -> None:
        done = self._run(*words)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise Problem(
                f"{' '.join(done.args)} failed: {said[-1] if said else done.returncode}",
                hint=f"see: journalctl{self._flag} -u {NAME}",
            )

    def _said(self, *words: str) -> str:
        return self._run(*words).stdout.strip() or "unknown"

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        scope = ("--user",) if self.user else ()
        return subprocess.run(["systemctl", *scope, *words], capture_output=True, text=True, check=False)
