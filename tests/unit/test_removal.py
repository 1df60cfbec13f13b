"""Deleting trees that others write to: all of them, and nothing else."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refloat.supervisor.removal import remove, size

NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
TREES: st.SearchStrategy[object] = st.recursive(
    st.sampled_from(["file", "link out", "link up", "dangling", "fifo", "shared file"]),
    lambda below: st.tuples(
        st.sampled_from([0o700, 0o500, 0o000, 0o1777]), st.dictionaries(NAMES, below, max_size=4)
    ),
    max_leaves=12,
)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """What must survive, with its rights."""
    folder = tmp_path / "foreign"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "precious").write_text("content")
    (folder / "inner").chmod(0o750)
    return folder


def build(path: Path, tree: object, foreign: Path) -> None:
    if isinstance(tree, tuple):
        mode, members = tree
        path.mkdir()
        for name, below in members.items():
            build(path / name, below, foreign)
        path.chmod(mode)
    elif tree == "fifo":
        os.mkfifo(path)
    elif tree == "shared file":
        os.link(foreign / "inner" / "precious", path)
    elif tree == "file":
        path.write_text("x")
    else:
        path.symlink_to(
            {"link out": foreign / "inner", "link up": Path(".."), "dangling": Path("nowhere")}[str(tree)]
        )


def unchanged(foreign: Path) -> bool:
    inner = foreign / "inner"
    return (inner / "precious").read_text() == "content" and stat.S_IMODE(inner.stat().st_mode) == 0o750


@pytest.mark.property
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(tree=TREES)
def test_any_tree_is_deleted_whole_and_nothing_it_leads_to(tree: object, foreign: Path) -> None:
    folder = foreign.parent / "doomed"
    build(folder, tree, foreign)
    remove(folder)
    assert not os.path.lexists(folder) and unchanged(foreign)
    assert sorted(p.name for p in foreign.parent.iterdir()) == ["foreign"]
    remove(folder)


@pytest.fixture
def as_owner() -> Iterator[Path]:
    """A folder of a user without root's rights, for whom closed folders are closed; we are that user."""
    folder = Path(tempfile.mkdtemp(prefix="refloat-test-"))
    os.chown(folder, 65534, 65534) if os.geteuid() == 0 else None
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield folder
    if before == 0:
        os.seteuid(0)
    shutil.rmtree(folder)


def test_folders_closed_to_their_owner_are_deleted_by_him(as_owner: Path) -> None:
    for mode in (0o000, 0o500, 0o300):
        inner = as_owner / "tree" / f"{mode:o}" / "inner"
        inner.mkdir(parents=True)
        (inner / "file").write_text("x")
        inner.chmod(mode)
        inner.parent.chmod(mode)
    (as_owner / "tree").chmod(0)
    remove(as_owner / "tree")
    assert list(as_owner.iterdir()) == []


def test_a_tree_deeper_than_any_path_is_deleted(tmp_path: Path) -> None:
    """It has more levels than files may be open, and than calls may be nested."""
    top = os.open(tmp_path, os.O_RDONLY)
    os.mkdir("deep", dir_fd=top)
    here = os.open("deep", os.O_RDONLY, dir_fd=top)
    for _ in range(1100):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    os.close(top)
    assert size(tmp_path / "deep") > 0
    remove(tmp_path / "deep")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tree", "a", "b", ".1"])
def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(
    name: str, tmp_path: Path, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner of the tree exchanges a folder for a link just before it is opened."""
    tree = tmp_path / "tree"
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (foreign / "inner").chmod(0o500)
    really, exchanged = os.open, []

    def interfered(path: object, flags: int, *rest: object, dir_fd: int | None = None) -> int:
        if path == name and not exchanged:
            place = Path(f"/proc/self/fd/{dir_fd}").resolve() / name
            place.rename(tmp_path / "moved")
            place.symlink_to(foreign / "inner")
            exchanged.append(place)
        return really(path, flags, *rest, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", interfered)
        with contextlib.suppress(OSError):
            remove(tree)
    assert exchanged and stat.S_IMODE((foreign / "inner").stat().st_mode) == 0o500
    assert (foreign / "inner" / "precious").read_text() == "content"
    remove(tree)
    assert not os.path.lexists(tree) and (foreign / "inner" / "precious").exists()


def test_sizes_count_what_is_there_and_follow_no_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"x" * 1_000_000)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"x" * 100_000)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    assert 100_000 <= size(folder) < 200_000
    assert size(tmp_path / "nothing") == 0
