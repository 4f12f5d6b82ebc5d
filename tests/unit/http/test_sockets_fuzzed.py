"""All websockets together: what strangers send, and how many may come."""

import asyncio
import contextlib
import random

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from headrace.server.http import sockets
from headrace.server.store.transaction import Store
from tests.support.serving import ask, serving
from tests.support.talking import close_code, entered, opened

PATHS = (
    "/events/in",
    "/events/out",
    "/logs/out",
    "/task_runs/subscriptions/scheduled",
    "/work_pools/p/runs",
    "/work_pools/p/workers/connect",
)
PIECES = (
    '{"type":', '"filter"', '"subscribe"', '"worker.hello.v1"', '"ack"', "}", "{", "[", "]", ",", '"keys":', "null",
    "1e999", '"\\ud800"', '"\\u0000"', '"filter":', '"occurred"', "-", "9" * 30,
    "[" * 200, '"payload":', '"x"', "\x7f", "é",
)  # fmt: skip
CLEAN = {1000, 1002, 1006, 1007, 1008, 1009, 4001, 4404}


async def frames_sent(connection: ClientConnection, seed: int) -> None:
    """Send nonsense until the server has had enough of it."""
    source = random.Random(seed)
    with contextlib.suppress(ConnectionClosed):
        for _ in range(20):
            text = "".join(source.choices(PIECES, k=source.randrange(8)))
            await connection.send(text.encode() if source.random() < 0.2 else text)
            if source.random() < 0.1:
                await connection.ping()


@pytest.mark.parametrize("path", PATHS)
def test_s4_nonsense_closes_cleanly(sqlite_store: Store, path: str) -> None:
    """Whatever is sent after the login, the socket ends with a code of the protocol, and the server goes on."""

    async def scene(url: str) -> set[int]:
        codes = set()
        for seed in range(20):
            connection = await opened(url + path)
            with contextlib.suppress(ConnectionClosed):
                await frames_sent(connection, seed)
            if path in ("/work_pools/p/runs",):
                await connection.close()  # it hears nothing but the end
            else:
                with contextlib.suppress(TimeoutError):
                    codes.add(await close_code_of(connection))
        return codes

    async def close_code_of(connection: ClientConnection) -> int:
        try:
            async with asyncio.timeout(10):
                while True:
                    await connection.recv()
        except ConnectionClosed as end:
            return 1006 if end.rcvd is None else end.rcvd.code

    with serving(sqlite_store, operations={}) as url:
        assert asyncio.run(scene(url)) <= CLEAN
        assert ask(url, "GET", "/nothing").status == 404


def test_g14_there_is_room_for_so_many_sockets(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that the upgrade is refused with 503, after which clients come again; who leaves makes room."""
    monkeypatch.setattr(sockets, "SOCKETS", 2)

    async def scene(url: str) -> int:
        first, _ = [await entered(url + "/events/out") for _ in range(2)]
        with pytest.raises(InvalidStatus) as caught:
            await entered(url + "/events/out")
        await first.send("nonsense")
        await close_code(first)
        await entered(url + "/events/out")
        return caught.value.response.status_code

    with serving(sqlite_store, operations={}) as url:
        assert asyncio.run(scene(url)) == 503
