"""The tools of builds, as users of services find them."""

import asyncio
from pathlib import Path

import pytest
from supervisor_support import until

from refloat.builders import tools

SLOW = """#!/bin/sh
test "$1" = python || exit 0
echo $$ > {pid}
sleep 0.5
"""


async def test_nothing_that_was_asked_of_a_tool_goes_on_after_a_cancel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = tmp_path / "pid"
    uv = tmp_path / "uv"
    uv.write_text(SLOW.format(pid=pid))
    uv.chmod(0o755)
    monkeypatch.setattr(tools, "find_uv_bin", lambda: str(uv))
    asking = asyncio.ensure_future(tools.Tools(tmp_path).interpreter(None, "3", {}))
    await until(lambda: pid.exists() and pid.read_text() != "")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not Path("/proc", pid.read_text().strip()).exists()
