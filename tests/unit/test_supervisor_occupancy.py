"""Who holds a data directory, and what a node leaves of control groups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from refloat.domain.errors import Unavailable
from refloat.supervisor.cgroups import Cgroups
from refloat.supervisor.occupancy import NAME, occupant, occupy

HOLD = """
import sys
from pathlib import Path
from refloat.supervisor.occupancy import occupy
occupy(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write to what belongs to another user")
def test_the_data_directory_of_another_user_is_not_gone_on_with(tmp_path: Path) -> None:
    os.close(occupy(tmp_path))
    os.chown(tmp_path / NAME, 65534, 65534)
    with pytest.raises(Unavailable, match="belongs to another user, nobody"):
        occupy(tmp_path)


def test_the_holder_is_known_as_long_as_it_lives_and_however_it_ends(tmp_path: Path) -> None:
    assert occupant(tmp_path) is None
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    assert occupant(tmp_path) == process.pid
    with pytest.raises(Unavailable, match="another server runs on"):
        occupy(tmp_path)
    assert occupant(tmp_path) == process.pid
    process.kill()
    process.communicate()
    assert occupant(tmp_path) is None and (tmp_path / NAME).read_text() == f"{process.pid}\n"
    descriptor = occupy(tmp_path)
    assert occupant(tmp_path) == os.getpid()
    os.close(descriptor)


def test_a_directory_that_is_none_has_no_holder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert occupant(tmp_path / "file") is None and occupant(tmp_path / "nothing") is None


@pytest.mark.parametrize("kinds", [("freezer", "memory", "pids", "cpu"), ("",)], ids=["v1", "v2"])
def test_a_node_takes_its_groups_along_and_leaves_those_of_others(
    tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    for kind in kinds:
        (tmp_path / kind / "refloat" / "aaaa.app").mkdir(parents=True)
        (tmp_path / kind / "refloat" / "bbbb.app").mkdir()
    if kinds == ("",):
        (tmp_path / "cgroup.controllers").write_text("memory")
    Cgroups(tmp_path, "aaaa").leave()
    for kind in kinds:
        assert [it.name for it in (tmp_path / kind / "refloat").iterdir()] == ["bbbb.app"]
    Cgroups(tmp_path, "bbbb").leave()
    assert not any((tmp_path / kind / "refloat").exists() for kind in kinds)
    Cgroups(tmp_path, "bbbb").leave()
