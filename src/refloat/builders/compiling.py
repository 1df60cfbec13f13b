"""Compiling a release's own Python sources, so that the first request does not pay for it."""

import asyncio
from pathlib import Path

from refloat.builders.groups import end_group, start

_PROGRAM = """
import os, sys
uid = int(sys.argv[1])
if uid:
    os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
import compileall
compileall.compile_dir(sys.argv[2], quiet=2, legacy=False)
"""


async def compile_sources(python: str, folder: Path, uid: int | None, deadline: float = 120) -> None:
    """Write byte code beside the sources, as the service's user. Compiling runs nothing of them.

    A source that does not compile is left alone: the application may never import it.
    """
    process = await start(
        python,
        *("-I", "-S", "-c", _PROGRAM, str(uid or 0), str(folder)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"LC_ALL": "C.UTF-8"},
        cwd="/",
    )
    try:
        async with asyncio.timeout(deadline):
            await process.wait()
    except TimeoutError:
        return
    finally:
        await end_group(process)
