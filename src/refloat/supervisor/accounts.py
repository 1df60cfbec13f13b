"""Which user the processes of a service run as.

As root each service has a numeric user of its own: nobody else's files can be read, no name has to
exist. Without root everything runs as us, and there is no isolation.
"""

import os
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from refloat.supervisor.directories import PASSABLE, write_private
from refloat.supervisor.turns import turn

FIRST, COUNT = 200_000, 100_000
"""The users that are given out; a range that distributions leave free."""


class _Given(msgspec.Struct, kw_only=True):
    format: int = 1
    next: int = FIRST
    uids: dict[str, int] = {}


class Accounts:
    """The users of one node, kept in `<node>/accounts.json`.

    A freed user is not given out again before all others were, so that a file left behind somewhere
    does not fall to the next service.
    """

    def __init__(self, node_dir: Path, *, as_root: bool | None = None) -> None:
        self._path = node_dir.absolute() / "accounts.json"
        self._as_root = os.geteuid() == 0 if as_root is None else as_root

    @property
    def isolating(self) -> bool:
        """Whether services have users of their own."""
        return self._as_root

    def uid(self, service_id: str) -> int | None:
        """The user of the service, the same at every call; None: our own. Its group has the same number."""
        if not self._as_root:
            return None
        if known := self._load().uids.get(service_id):
            return known
        with self._alone():
            given = self._load()
            if service_id not in given.uids:
                given.uids[service_id] = uid = self._free_uid(given)
                given.next = uid + 1
                self._save(given)
            return given.uids[service_id]

    def free(self, service_id: str) -> None:
        """Forget the user of a service that is gone."""
        if service_id in self._load().uids:
            with self._alone():
                given = self._load()
                given.uids.pop(service_id, None)
                self._save(given)

    def _free_uid(self, given: _Given) -> int:
        taken = set(given.uids.values())
        offset = given.next - FIRST
        return next(uid for step in range(COUNT) if (uid := FIRST + (offset + step) % COUNT) not in taken)

    def _alone(self) -> AbstractContextManager[None]:
        self._path.parent.mkdir(mode=PASSABLE, parents=True, exist_ok=True)
        return turn(self._path.with_suffix(".lock"))

    def _load(self) -> _Given:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Given)
        except FileNotFoundError:
            return _Given()

    def _save(self, given: _Given) -> None:
        write_private(self._path, msgspec.json.encode(given), durable=True)
