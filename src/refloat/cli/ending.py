"""Ending everything an installation runs on this machine, and removing what it left there.

Applications are stopped through the API, so that they stay stopped when a server is started again.
What the API cannot reach, because the server is gone or a stop hangs, is ended through the records that
the supervisor keeps of every process tree.
"""

import asyncio
import contextlib
import errno
import os
import select
import shlex
import signal
import time
from pathlib import Path

from refloat.cli.client import Client, Json
from refloat.cli.lookup import Place, places
from refloat.cli.problems import Problem
from refloat.settings import Settings
from refloat.supervisor.base import LIVE, State, Status
from refloat.supervisor.occupancy import occupant, user_name
from refloat.supervisor.processes import LocalSupervisor
from refloat.supervisor.removal import remove

_STOP_SECONDS = 90.0
_SERVER_SECONDS = 20.0
_GRACE_SECONDS = 5.0
_LOOK_SECONDS = 0.1
_OURS = ("refloat.lock", "admin.token", "secret.key", "refloat.db")
UNIT = "refloat.service"


def stop_environments(client: Client) -> list[str]:
    """Stop every environment of this machine that runs something; their paths, once they have stopped.

    One that does not stop in time is left to the supervisor.
    """
    asked = [it for it in places(client) if _is_local(client, it) and _ask_to_stop(client, it.environment)]
    deadline = time.monotonic() + _STOP_SECONDS
    waiting = list(asked)
    while waiting and time.monotonic() < deadline:
        waiting = [it for it in waiting if not _has_ended(client, it.environment)]
        if waiting:
            time.sleep(_LOOK_SECONDS)
    return [it.path for it in asked]


def _is_local(client: Client, place: Place) -> bool:
    clusters: list[Json] = client.get(f"/organization/{place.organization['id']}/cluster")["results"]
    return any(c["id"] == place.environment["cluster_id"] and c["refloat_kind"] == "local" for c in clusters)


def _ask_to_stop(client: Client, environment: Json) -> bool:
    path = f"/environment/{environment['id']}"
    with contextlib.suppress(Problem):  # nothing was under way
        client.post(f"{path}/cancelDeployment", {"force_cancel": True})
    try:
        client.post(f"{path}/stop")
    except Problem:  # nothing runs
        return False
    return True


def _has_ended(client: Client, environment: Json) -> bool:
    state = str(client.get(f"/environment/{environment['id']}/status")["last_deployment_state"])
    return state in ("STOPPED", "CANCELED", "DELETED") or state.endswith("ERROR")


def end_server(settings: Settings) -> int | None:
    """End the server of the data directory; its pid, None when there was none."""
    pid = occupant(settings.data_dir)
    if pid is None:
        return None
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if occupant(settings.data_dir) == pid:  # still the same process: the lock says so
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], _SERVER_SECONDS)[0]:
                break
    except PermissionError:
        raise Problem(
            f"the server (process {pid}) belongs to another user", hint="run this as that user"
        ) from None
    finally:
        os.close(handle)
    return pid


def refuse_foreign(settings: Settings) -> None:
    """Only who owns the data directory, or root, may end what runs from it."""
    owner = settings.data_dir.stat().st_uid
    if os.geteuid() not in (0, owner):
        name = user_name(owner)
        raise Problem(
            f"the data directory {settings.data_dir} belongs to another user, {name}",
            hint=f"run this as that user: sudo -u {name} refloat down; or set REFLOAT_DATA_DIR to your own",
        )


def refuse_managed(settings: Settings) -> None:
    """A server that systemd keeps would be started again at once. To be asked before anything is stopped."""
    pid = occupant(settings.data_dir)
    if pid and (scope := kept_by_systemd(pid)):
        raise Problem(
            f"the server (process {pid}) is kept running by systemd as {UNIT}",
            hint=f"take it out first: refloat service uninstall{' --user' if scope == 'user' else ''}",
        )


def kept_by_systemd(pid: int) -> str:
    """`system` or `user` when the process is the one of our unit; "" when it is not."""
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""
    if f"/{UNIT}" not in groups:
        return ""
    return "user" if "/user.slice/" in groups else "system"


def end_processes(settings: Settings) -> list[str]:
    """End every supervised process tree of the node and its control groups; the ids of those that ran.

    Only when no server runs: it would start them again.
    """
    return asyncio.run(_end_processes(LocalSupervisor(settings.node_dir)))


async def _end_processes(supervisor: LocalSupervisor) -> list[str]:
    def is_left(state: State) -> bool:
        return state.status in LIVE or state.status is Status.LOST

    left = [it.id for it in await supervisor.states() if is_left(it)]
    edges = [id for id in left if id.startswith("edge")]
    await asyncio.gather(*(_end_process(supervisor, id) for id in left if id not in edges))
    await asyncio.gather(*(_end_process(supervisor, id) for id in edges))
    supervisor.leave()
    return left


async def _end_process(supervisor: LocalSupervisor, id: str) -> None:
    """On a full disk it ends all the same; only that nobody wants it any more cannot be written down."""
    try:
        await supervisor.stop(id, _GRACE_SECONDS)
    except OSError as error:
        state = await supervisor.state(id)
        if error.errno != errno.ENOSPC or (state and state.status in LIVE):
            raise


def check_purge(settings: Settings) -> None:
    """Refuse to delete a folder that is not the data directory of an installation."""
    folder = settings.data_dir.resolve()
    if folder in (Path("/"), Path.home().resolve()) or not any((folder / name).exists() for name in _OURS):
        raise Problem(
            f"{folder} does not look like a data directory of Refloat: it has none of {', '.join(_OURS)}",
            hint="set REFLOAT_DATA_DIR to the right one",
        )


def purge(settings: Settings) -> None:
    """Delete the data directory, and the node directory where it lies elsewhere."""
    for folder in dict.fromkeys((settings.node_dir.resolve(), settings.data_dir.resolve())):
        try:
            remove(folder)
        except OSError as error:
            what = "" if error.filename in (None, folder.name) else f" ({error.filename})"
            raise Problem(
                f"{folder} cannot be deleted completely: {error.strerror}{what}",
                hint=f"delete what is left of it as root: rm -r {shlex.quote(str(folder))}",
            ) from None
