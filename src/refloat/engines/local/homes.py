"""What a service has on disk, and the fence that guards it.

    <node>/services/<service id>/     ours, others may pass through
        home/  tmp/                   the service's own, 0750; the same for all its revisions
        releases/                     the builder's
        fences.json                   which deployment may still act
        inventory.json                what it is, for the day the database is lost; 0600

The service owns its home and may put links anywhere in it, so nothing below it is opened by path:
every step down is taken from an open folder and follows no link.
"""

import contextlib
import os
import shlex
import stat
from pathlib import Path, PurePosixPath

import msgspec

from refloat.domain.errors import StepFailed
from refloat.domain.fences import Fence, handed_on
from refloat.domain.revision import Revision
from refloat.supervisor.accounts import Accounts
from refloat.supervisor.directories import make_passable, obstacle, own_directory, write_private
from refloat.supervisor.removal import remove
from refloat.supervisor.turns import turn

_INVENTORY = "inventory.json"
_REMEMBERED = 20
_LARGEST_OUTPUT = 1024 * 1024


class Homes:
    """The directories of all services of a node."""

    def __init__(self, node_dir: Path, accounts: Accounts) -> None:
        self._node = node_dir.absolute()
        self._accounts = accounts

    def folder(self, service_id: str) -> Path:
        return self._node / "services" / service_id

    def home(self, service_id: str) -> Path:
        return self.folder(service_id) / "home"

    def temporary(self, service_id: str) -> Path:
        return self.folder(service_id) / "tmp"

    def guard(self, revision: Revision) -> None:
        """Raises Fenced for an owner that was replaced, or a deployment that a later one followed."""
        folder = self.folder(revision.service_id)
        make_passable(folder, self._node)
        with turn(folder / "fences.lock"):
            known = _known_fences(folder)
            if (now := handed_on(known, revision)) != known:
                write_private(folder / "fences.json", msgspec.json.encode(now[-_REMEMBERED:]), durable=True)

    def furnish(self, revision: Revision) -> None:
        """Make home, temporary directory and files. Raises StepFailed naming what the service cannot have."""
        uid = self._accounts.uid(revision.service_id)
        for path in (self.home(revision.service_id), self.temporary(revision.service_id)):
            own_directory(path, uid, self._node)
            self._require_way(path, uid)
        if location := revision.artifact.location:
            self._require_way(Path(location) / "x", uid)
        for mount, content in revision.files.items():
            self._put(revision, mount, content, uid)

    def remember(self, service_id: str, document: str) -> None:
        """Keep a document with the service; the same one again costs a look."""
        make_passable(self.folder(service_id), self._node)
        path, content = self.folder(service_id) / _INVENTORY, document.encode()
        if not path.exists() or path.read_bytes() != content:
            write_private(path, content, durable=True)

    def remembered(self) -> dict[str, str]:
        """By service, every document that is kept and can be read."""
        found = sorted((self._node / "services").glob(f"*/{_INVENTORY}"))
        return {path.parent.name: path.read_text(errors="replace") for path in found if path.is_file()}

    def remove(self, service_id: str) -> None:
        """Delete everything of the service. Raises StepFailed when something could not be deleted."""
        folder = self.folder(service_id)
        try:
            remove(folder)
        except OSError as error:
            raise StepFailed(
                f"{folder} could not be deleted completely: {error.strerror}",
                hint="see who owns what is left",
            ) from None

    def _require_way(self, path: Path, uid: int | None) -> None:
        if uid is not None and (closed := obstacle(path, uid)):
            raise StepFailed(
                f"the service runs as user {uid} and cannot pass through {closed}",
                hint=f"chmod o+x {shlex.quote(str(closed))}, or set REFLOAT_NODE_DIR to a directory"
                " others can pass through",
            )

    def _put(self, revision: Revision, mount: str, content: str, uid: int | None) -> None:
        home = self.home(revision.service_id)
        inside = relative_mount(mount, home)
        try:
            _write_below(home, inside, content.encode(), uid)
        except OSError as error:
            raise StepFailed(f"the file {mount} cannot be written: {error.strerror}") from error


def _known_fences(folder: Path) -> list[Fence]:
    try:
        return msgspec.json.decode((folder / "fences.json").read_bytes(), type=list[Fence])
    except FileNotFoundError:
        return []


def relative_mount(mount: str, home: Path) -> PurePosixPath:
    """Where below the home a file belongs. Raises StepFailed for places elsewhere."""
    path = PurePosixPath(mount.removeprefix("~/"))
    if path.is_relative_to(home):
        path = path.relative_to(home)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise StepFailed(
            f"the file {mount} lies outside of the service's home, which this cluster cannot provide",
            hint="use a path relative to $HOME",
        )
    return path


def _write_below(home: Path, inside: PurePosixPath, content: bytes, uid: int | None) -> None:
    with contextlib.ExitStack() as opened:
        folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        opened.callback(os.close, folder)
        for part in inside.parts[:-1]:
            folder = _step_down(folder, part, uid)
            opened.callback(os.close, folder)
        _replace(folder, inside.name, content, uid)


def _step_down(folder: int, part: str, uid: int | None) -> int:
    """The folder below, made if need be."""
    try:
        os.mkdir(part, 0o700, dir_fd=folder)
        made = True
    except FileExistsError:
        made = False
    below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    if made and uid is not None:
        os.fchown(below, uid, uid)
    return below


def _replace(folder: int, name: str, content: bytes, uid: int | None) -> None:
    temporary = f".{name}.refloat"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as file:
        file.write(content)
        if uid is not None:
            os.fchown(file.fileno(), uid, uid)
    os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def read_output(path: Path) -> str:
    """What a command left in a file of its own; "" when nothing. No link is followed, no device is read.

    Raises StepFailed when it is too large or no text.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StepFailed(f"the output file cannot be read: {error.strerror}") from None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise StepFailed("the output file is no file")
        content = file.read(_LARGEST_OUTPUT + 1)
    if len(content) > _LARGEST_OUTPUT:
        raise StepFailed(f"the output file is larger than {_LARGEST_OUTPUT} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise StepFailed("the output file is not UTF-8 text") from None
