"""The identity of a node: one node directory on one machine, whichever servers use it."""

import uuid
from pathlib import Path

from refloat.supervisor.directories import write_private
from refloat.supervisor.turns import turn


def node_id(node_dir: Path) -> str:
    """Made at the first call, and the same for every server that is given this directory."""
    path = node_dir / "id"
    with turn(node_dir / "id.lock"):
        if not path.exists():
            write_private(path, uuid.uuid4().hex.encode(), durable=True)
        return path.read_text().strip()
