"""What services that run on and on print while they do."""

from collections import Counter
from typing import Any
from uuid import UUID, uuid5

from litestar import get

from refloat.api import shapes
from refloat.api.call import Body, Call, Http, Id
from refloat.api.statuses import timestamp
from refloat.control.output import Output, last_output
from refloat.domain.services import Application, Container, Database, Service

_MOST = 1000
_IDS = UUID("5f1f3c1e-6a53-4f0e-9d7b-0d6f3a1c2b47")
"""Ids of lines are made from what they are, so that the same line has the same id at every reading."""


def _log(kind: type[Service], below: str = "") -> Any:
    noun = kind.kind

    @get(f"{below}/{noun}/{{service_id:str}}/log", name=f"log_{noun}", operation_id=f"log_{noun}")
    async def log(request: Http, service_id: Id) -> Body:
        """The last 1000 lines of what is deployed, oldest first; those of all its instances."""
        call = Call(request)
        service: Any = await call.reach(kind, service_id)
        return shapes.listed(_bodies(await last_output(call.context, service, _MOST)))

    return log


def _bodies(output: Output) -> list[Body]:
    times: Counter[str] = Counter()
    found = []
    for line in output.lines:
        what = f"{output.revision_key} {line.at.isoformat()} {line.stream} {line.text}"
        times[what] += 1
        found.append(
            {
                "id": str(uuid5(_IDS, f"{what} {times[what]}")),
                "created_at": timestamp(line.at),
                "message": line.text,
                "pod_name": output.revision_key,
                "refloat_stream": line.stream,
            }
        )
    return found


ROUTES = (_log(Application), _log(Container), _log(Database, "/refloat"))
