"""The API's socket: answers leave at once, however small they are."""

import asyncio
import socket
import sys
from functools import partial
from pathlib import Path

import pytest
import uvloop

from refloat.app import event_loop, listen, listener
from refloat.domain.errors import Unavailable
from refloat.settings import Settings


async def _connected(folder: Path) -> int:
    """Whether the accepted end of a connection sends without waiting for more."""
    bound = listener(Settings(data_dir=folder, node_dir=folder, port=0))
    seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = writer.get_extra_info("socket")
        seen.set_result(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    server = await asyncio.start_server(accept, sock=bound)
    _, writer = await asyncio.open_connection(*bound.getsockname()[:2])
    writer.close()
    async with server:
        return await seen


def test_a_port_that_only_root_may_use_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(Unavailable, match=":80: Permission denied") as caught:
        listener(Settings(data_dir=tmp_path, node_dir=tmp_path, port=80))
    assert "only root may use a port below 1024" in caught.value.hint


def test_of_two_servers_that_start_on_one_port_the_second_is_told_what_to_do(tmp_path: Path) -> None:
    """Both can bind it while neither listens."""
    first = listener(Settings(data_dir=tmp_path, node_dir=tmp_path, port=0))
    settings = Settings(data_dir=tmp_path, node_dir=tmp_path, port=first.getsockname()[1])
    second = listener(settings)
    with first, second:
        listen(settings, first)
        with pytest.raises(Unavailable, match=r"cannot listen on 127\.0\.0\.1:.*REFLOAT_PORT"):
            listen(settings, second)


def test_accepted_connections_never_wait_for_the_peers_acknowledgement(tmp_path: Path) -> None:
    """Event loops only ask for it on sockets that name their protocol; without it every request on a kept
    connection costs 40 ms more."""
    with asyncio.Runner() as plain:
        assert plain.run(_connected(tmp_path))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as fast:
        assert fast.run(_connected(tmp_path))


def test_a_server_with_postgresql_runs_on_the_fast_loop_and_others_on_the_plain_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def is_fast(*, shared: bool) -> bool:
        with asyncio.Runner(loop_factory=partial(event_loop, shared=shared)) as runner:
            return isinstance(runner.get_loop(), uvloop.Loop)

    assert is_fast(shared=True) and not is_fast(shared=False)
    monkeypatch.setitem(sys.modules, "uvloop", None)  # it is not made for every platform
    assert not is_fast(shared=True)
