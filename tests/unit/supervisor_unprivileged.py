"""Run by a test as another user: ends a hostile tree, then one whose shim was killed.

Imports come first: afterwards our own interpreter may be out of reach, the shims use the system's.
"""

import asyncio
import concurrent.futures.thread  # noqa: F401  (asyncio would import it later)
import os
import signal
import sys

from supervisor_support import HOSTILE, living, node, said, shell, shim_of, until


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")


async def main(name: str) -> None:
    async with node(python="/usr/bin/python3") as (directory, supervisor):
        await supervisor.start(shell(name, HOSTILE))
        await said(supervisor, name, "ready")
        await supervisor.stop(name, 0.2)
        tell("stopped" if not living(name) else f"left {living(name)}")
        other = f"{name}-other"
        await supervisor.start(shell(other, HOSTILE))
        await said(supervisor, other, "ready")
        await until(lambda: len(living(other)) >= 2)
        os.kill(shim_of(directory, other), signal.SIGKILL)
        tell((await supervisor.wait(other)).status)
        await supervisor.stop(other)
        tell("nothing left" if not living(other) else f"left {living(other)}")


if __name__ == "__main__":
    uid = int(sys.argv[1])
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    asyncio.run(main(f"un{sys.argv[2]}"))
