"""A folder as a git commit, without touching the folder: what `refloat up PATH` deploys.

The commit is made in a bare repository of our own, from the files as they are on disk: uncommitted ones
included, ignored ones left out. The folder's own repository is only asked which files these are; no
object, index or reference of it is written. Files are stored byte for byte: no filter, line ending or
keyword of somebody's git configuration applies.
"""

import errno
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from refloat.cli.problems import Problem
from refloat.supervisor.directories import holding

BRANCH = "main"
REBUILT = ("node_modules/", ".venv/", "venv/", "__pycache__/")
"""Left out of a folder without git, which has often no .gitignore: builds make them anew."""
_SCARCE = 1024 * 1024
"""Bytes: where there are fewer, that is why git failed, whatever it says."""

_QUIET = {"core.fsmonitor": "false", "core.hooksPath": "/dev/null", "core.untrackedCache": "keep"}
_ATTRIBUTES = "* !text !eol !crlf !ident !filter !working-tree-encoding\n"
_ISOLATED = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_ATTR_NOSYSTEM": "1"}

_FOLDER = "folder"
"""The file in our repository that tells whose it is."""


def folder_of(url: str) -> Path | None:
    """The folder that a repository of ours at this address was made from; None of any other address."""
    if not url.startswith("file://"):
        return None
    try:
        return Path(os.fsdecode((Path(unquote(urlsplit(url).path)) / _FOLDER).read_bytes()))
    except OSError:
        return None


class Snapshot(NamedTuple):
    """The commit that holds the folder; `made` tells whether it is a new one."""

    url: str
    commit: str
    made: bool
    files: tuple[str, ...]


class WorkingTree:
    """One folder, and our repository of it below the data directory."""

    def __init__(self, folder: Path, data_dir: Path) -> None:
        self.folder = folder.resolve()
        self._data_dir = data_dir
        key = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        self._ours = data_dir / "sources" / f"{key}.git"

    @property
    def url(self) -> str:
        """Where the server fetches it from."""
        return self._ours.as_uri()

    @property
    def is_known(self) -> bool:
        """Whether it was brought up before."""
        return (self._ours / "HEAD").exists()

    def files(self) -> tuple[str, ...]:
        """The files that belong to the folder by git's rules, relative to it."""
        found = sorted(set(_listed(self.folder)))
        if self._data_dir.resolve().is_relative_to(self.folder):
            inside = f"{self._data_dir.resolve().relative_to(self.folder)}/"
            found = [name for name in found if not name.startswith(inside)]
        if not found and not any(name.name != ".git" for name in self.folder.iterdir()):
            raise Problem(
                f"{self.folder} is empty", hint="change to the folder of the application, or give its path"
            )
        if not found:
            raise Problem(f"there is nothing in {self.folder} that git would keep", hint="look at .gitignore")
        return tuple(found)

    def snapshot(self) -> Snapshot:
        """Commit the files as they are now, if they differ from the last snapshot."""
        files = self.files()
        self._ours.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with holding(self._ours.with_suffix(".lock")):
            self._prepare()
            self._index(files)
            tree = self._git("write-tree")
            known = self._git("rev-parse", "--verify", "--quiet", f"refs/heads/{BRANCH}", fails=True)
            if known and self._git("rev-parse", f"{known}^{{tree}}") == tree:
                return Snapshot(self.url, known, False, files)
            commit = self._commit(tree, known)
        return Snapshot(self.url, commit, True, files)

    # -- our repository

    def _prepare(self) -> None:
        if not self.is_known:
            words = (
                "init",
                "--quiet",
                "--bare",
                "--template=",
                f"--initial-branch={BRANCH}",
                str(self._ours),
            )
            self._checked(_run(words, Path("/"), _ISOLATED, b""))
        (self._ours / _FOLDER).write_bytes(os.fsencode(self.folder))
        (self._ours / "info").mkdir(exist_ok=True)
        (self._ours / "info/attributes").write_text(_ATTRIBUTES)
        self._git("config", "uploadpack.allowAnySHA1InWant", "true")
        (self._ours / "index.lock").unlink(missing_ok=True)  # of a killed one: we hold the lock

    def _index(self, files: Sequence[str]) -> None:
        gone = set(self._git("ls-files", "-z", "--cached").split("\0")) - {"", *files}
        self._git("update-index", "-z", "--force-remove", "--stdin", stdin=_joined(gone))
        self._git("update-index", "-z", "--add", "--remove", "--replace", "--stdin", stdin=_joined(files))

    def _commit(self, tree: str, parent: str) -> str:
        parents = ("-p", parent) if parent else ()
        commit = self._git("commit-tree", tree, *parents, "-m", _words(self.folder, tree))
        self._git("update-ref", f"refs/heads/{BRANCH}", commit)
        self._git("gc", "--auto", "--quiet")
        return commit

    def _git(self, *words: str, stdin: bytes = b"", fails: bool = False) -> str:
        """Run git on our repository with this folder as its working tree."""
        identity = {
            f"GIT_{who}_{what}": "refloat" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        place = ("--git-dir", str(self._ours), "--work-tree", str(self.folder))
        environ = _ISOLATED | identity | {"HOME": str(self._ours)}
        # --work-tree does not go with a bare repository otherwise
        done = _run(("-c", "core.bare=false", *place, *words), self.folder, environ, stdin)
        if fails and done.returncode:
            return ""
        return self._checked(done)

    def _checked(self, done: "subprocess.CompletedProcess[bytes]") -> str:
        if done.returncode:
            if shutil.disk_usage(self._data_dir).free < _SCARCE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._data_dir))
            raise Problem(
                f"git cannot read the files of {self.folder}: {_said(done)}",
                hint="make them readable, or ignore them by .gitignore",
            )
        return os.fsdecode(done.stdout).removesuffix("\n")


# -- the folder's own repository, which is only asked


def _listed(folder: Path, above: str = "") -> list[str]:
    """The files of a folder and of the repositories nested in it, by each one's own rules."""
    cached, others = _tracked(folder)
    there = _Existing(folder)
    found = []
    for name in dict.fromkeys((*cached, *others)):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            found += _listed(path, f"{above}{name.rstrip('/')}/")
        elif there(name):
            found.append(above + name)
    return found


def _tracked(folder: Path) -> tuple[list[str], list[str]]:
    """What the repository around the folder tracks in it, and what is there besides and not ignored."""
    top = next((it for it in (folder, *folder.parents) if (it / ".git").exists()), None)
    if top is None or (top != folder and _asked(top, folder, "check-ignore", "-q", ".").returncode == 0):
        return [], _untracked_files(folder)
    listed = _asked(top, folder, "ls-files", "-z", "--cached")
    others = _asked(top, folder, "ls-files", "-z", "--others", "--exclude-standard")
    for done in (listed, others):
        if done.returncode:
            raise Problem(
                f"git cannot list the files of {folder}: {_said(done)}", hint=f"try: git -C {folder} status"
            )
    return _names(listed.stdout), _names(others.stdout)


def _untracked_files(folder: Path) -> list[str]:
    """The files of a folder that belongs to no repository; its .gitignore files count all the same."""
    excluded = tuple(f"--exclude={pattern}" for pattern in REBUILT)
    words = ("ls-files", "-z", "--others", "--exclude-standard", *excluded)
    with _NoRepository() as nothing:
        done = _run(("--git-dir", nothing, "--work-tree", str(folder), *words), folder, {}, b"")
    if done.returncode:
        raise Problem(f"git cannot list the files of {folder}: {_said(done)}", hint="is it readable?")
    return _names(done.stdout)


class _NoRepository:
    """An empty repository for a moment: git lists nothing without one."""

    def __enter__(self) -> str:
        import tempfile

        self._folder = tempfile.TemporaryDirectory(prefix="refloat-listing-")
        path = f"{self._folder.name}/none"
        _run(("init", "--quiet", "--template=", path), Path("/"), _ISOLATED, b"")
        return f"{path}/.git"

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()


class _Existing:
    """Whether a tracked name is still a file of its own, and not something behind a symbolic link."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._real: dict[str, bool] = {"": True}

    def __call__(self, name: str) -> bool:
        return self._is_real(name.rpartition("/")[0]) and os.path.lexists(self._folder / name)

    def _is_real(self, parent: str) -> bool:
        if parent not in self._real:
            above = self._is_real(parent.rpartition("/")[0])
            self._real[parent] = above and not (self._folder / parent).is_symlink()
        return self._real[parent]


def _words(folder: Path, tree: str) -> str:
    """What the commit is called: the folder's own last commit, and whether there is more."""
    top = next((it for it in (folder, *folder.parents) if (it / ".git").exists()), None)
    if top is None:
        return f"Files of {folder.name}"
    head = _asked(top, folder, "log", "-1", "--format=%h %s", "--no-show-signature")
    if head.returncode:
        return f"Files of {folder.name}"
    inside = "" if top == folder else str(folder.relative_to(top))
    same = os.fsdecode(_asked(top, folder, "rev-parse", f"HEAD:{inside}").stdout).strip() == tree
    return os.fsdecode(head.stdout).strip() + ("" if same else " (and uncommitted changes)")


def _asked(top: Path, folder: Path, *words: str) -> "subprocess.CompletedProcess[bytes]":
    """Ask the repository at `top`. Naming it spares the question who owns it; nothing is written."""
    place = ("--git-dir", str(top / ".git"), "--work-tree", str(top))
    return _run((*place, *words), folder, {"GIT_OPTIONAL_LOCKS": "0"}, b"")


def _run(
    words: Sequence[str], folder: Path, environ: dict[str, str], stdin: bytes
) -> "subprocess.CompletedProcess[bytes]":
    config = [part for key, value in _QUIET.items() for part in ("-c", f"{key}={value}")]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        return subprocess.run(
            ["git", *config, *words],
            cwd=folder,
            env={**kept, "LC_ALL": "C", **environ},
            input=stdin,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise Problem("git is not installed", hint="install it (Debian: apt-get install git)") from None


def _names(listing: bytes) -> list[str]:
    return [name for name in os.fsdecode(listing).split("\0") if name]


def _joined(names: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(name) + b"\0" for name in sorted(names))


def _said(done: "subprocess.CompletedProcess[bytes]") -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
