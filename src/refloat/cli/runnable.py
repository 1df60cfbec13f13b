"""Whether a folder can be run, by the same rules as the build's, and which folder near it can."""

import shlex
from collections.abc import Collection, Iterator
from pathlib import Path

from refloat.builders.detect import Reader, detect
from refloat.cli.problems import Problem
from refloat.cli.working_tree import WorkingTree
from refloat.domain.errors import BuildFailed

_NAME_A_COMMAND = (
    "add a Procfile with a line like `web: python server.py`, or give the folder of the application"
)
_NAMED = 4
"""Folders that a hint names."""
_LOOKED_AT = 50
"""Folders that are looked at; a folder with more is not one of applications."""


def check_that_it_runs(tree: WorkingTree) -> None:
    """Refuse what the build would refuse, before anything is made or started."""
    files = tree.files()
    try:
        detect(files, _reader(tree.folder))
    except BuildFailed as error:
        hint = _NAME_A_COMMAND if "_path" in error.hint else error.hint  # those are words of the API
        if near := list(_near(tree.folder, files)):
            hint = f"give the folder of the application: {', or '.join(near[:_NAMED])}"
        raise Problem(f"{tree.folder}: {error.message}", hint=hint) from None


def _reader(folder: Path) -> Reader:
    def read(name: str) -> str:
        path = folder / name
        try:
            return path.read_text(errors="replace") if path.is_file() else ""
        except OSError as error:
            raise Problem(
                f"{path} cannot be read: {error.strerror}", hint="make it readable, or have git ignore it"
            ) from None

    return read


def _near(folder: Path, files: Collection[str]) -> Iterator[str]:
    """What to type for each folder that can be run: of those right below, else the top of the repository."""
    below: dict[str, list[str]] = {}
    for name in files:
        first, _, rest = name.partition("/")
        if rest:
            below.setdefault(first, []).append(rest)
    found = [folder / it for it in sorted(below)[:_LOOKED_AT] if _runs(folder / it, below[it])]
    top = next((it for it in folder.parents if (it / ".git").exists()), None)
    if not found and top and _runs(top, WorkingTree(top, top / ".git").files()):
        found = [top]
    yield from (f"refloat up {shlex.quote(_typed(it))}" for it in found)


def _typed(folder: Path) -> str:
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def _runs(folder: Path, files: Collection[str]) -> bool:
    try:
        detect(files, _reader(folder))
    except (BuildFailed, Problem):
        return False
    return True
