"""Each service has a user of its own, and directories nobody else can look into."""

import os
import stat
from pathlib import Path

import pytest
from supervisor_support import ROOT

from refloat.supervisor import accounts
from refloat.supervisor.accounts import Accounts
from refloat.supervisor.directories import make_data_directory, obstacle, own_directory, write_private


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives services other users")
def test_a_shell_whose_files_are_private_makes_a_data_directory_that_services_can_pass(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    was = os.umask(0o077)
    try:
        make_data_directory(tmp_path / "mine/new/data")
    finally:
        os.umask(was)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("mine", "mine/new", "mine/new/data")]
    assert modes == [0o700, 0o711, 0o711]


def test_a_service_keeps_its_user_over_restarts(tmp_path: Path) -> None:
    first = Accounts(tmp_path, as_root=True).uid("a")
    assert first is not None and first >= 200_000
    assert Accounts(tmp_path, as_root=True).uid("a") == first


def test_two_services_never_share_a_user(tmp_path: Path) -> None:
    given = Accounts(tmp_path, as_root=True)
    assert len({given.uid(f"service-{number}") for number in range(50)}) == 50


def test_a_freed_user_is_not_given_out_before_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "COUNT", 3)
    given = Accounts(tmp_path, as_root=True)
    first, second = given.uid("a"), given.uid("b")
    given.free("a")
    given.free("unknown")
    assert given.uid("c") not in (first, second)
    assert given.uid("d") == first


def test_without_root_there_are_no_users(tmp_path: Path) -> None:
    given = Accounts(tmp_path, as_root=False)
    assert given.uid("a") is None and not given.isolating
    assert not (tmp_path / "accounts.json").exists()


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_a_directory_belongs_to_its_user_and_its_parents_do_not(tmp_path: Path) -> None:
    node = tmp_path / "node"
    made = own_directory(node / "services/a/home", 200_003, node)
    assert (made.stat().st_uid, stat.S_IMODE(made.stat().st_mode)) == (200_003, 0o750)
    for parent in (node, node / "services", node / "services/a"):
        assert (parent.stat().st_uid, stat.S_IMODE(parent.stat().st_mode)) == (0, 0o711)


def test_a_closed_directory_above_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    found = obstacle(closed / "inside/file")
    assert found is not None and found in (closed, *closed.parents)
    assert obstacle(Path("/usr/bin/env")) is None


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"first", b"second"):
        write_private(path, content, durable=True)
    assert path.read_bytes() == b"second" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
