"""The websocket on which clients report events."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import func, select
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.server.store.tables import EVENT
from headrace.server.store.transaction import Store, Tx
from tests.support.serving import serving
from tests.support.talking import close_code, entered, opened, say
from tests.unit.http.test_sockets import limited

ResultT = TypeVar("ResultT")


def event(name: str = "thing.happened", **more: Any) -> dict[str, Any]:
    """An event as a client sends it."""
    resource = {"prefect.resource.id": "thing.1"}
    plain = {"occurred": "2026-01-01T00:00:00Z", "event": name, "resource": resource, "related": [], "payload": {}}
    return {**plain, "id": str(uuid7()), "follows": None, **more}


def stored(store: Store) -> int:
    """How many events the log holds."""
    return int(store.read(lambda tx: tx.execute(select(func.count()).select_from(EVENT)).scalar_one()))


class SlowStore:
    """A store whose commits wait until they are let go."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.gate = threading.Event()
        self.commits = 0

    async def write_soon(self, function: Callable[[Tx], ResultT]) -> ResultT:
        """Wait, and then write."""
        await asyncio.to_thread(self.gate.wait, 30)
        self.commits += 1
        return await self._store.write_soon(function)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def server(sqlite_store: Store, clock: ManualClock) -> Iterator[str]:
    """The URL of the socket."""
    with serving(sqlite_store, operations={}) as url:
        yield url + "/events/in"


def test_g1_the_pong_comes_after_the_commit(sqlite_store: Store, clock: ManualClock) -> None:
    """No pong leaves while an event sent before its ping is not stored, and what waits is committed together."""
    slow = SlowStore(sqlite_store)

    async def scene(url: str) -> tuple[bool, int]:
        connection = await entered(url + "/events/in", event())
        for _ in range(200):
            await say(connection, event())
        receipt = await connection.ping()
        done, _ = await asyncio.wait([asyncio.ensure_future(receipt)], timeout=0.2)
        early = bool(done)
        slow.gate.set()
        await asyncio.wait_for(receipt, 30)
        count = stored(sqlite_store)
        await connection.close()
        return early, count

    with serving(slow, operations={}) as url:
        assert asyncio.run(scene(url)) == (False, 201)
    assert slow.commits < 20


def test_a_ping_before_the_login_is_answered_at_once(server: str) -> None:
    """Clients see by a ping that the server lives before they say who they are."""

    async def scene() -> bool:
        async with connect(server.replace("http", "ws", 1), subprotocols=["prefect"]) as connection:  # type: ignore[list-item]
            await asyncio.wait_for(await connection.ping(), 30)
            await say(connection, {"type": "auth", "token": None})
            await asyncio.wait_for(connection.recv(), 30)
            await asyncio.wait_for(await connection.ping(), 30)
        return True

    assert asyncio.run(scene())


def test_g13_an_event_that_is_refused_harms_only_itself(server: str, sqlite_store: Store) -> None:
    """A forged event, one without a resource and one that the database cannot keep are passed over."""

    async def scene() -> int:
        bad = [event("headrace.forged"), event(resource={}), event("")]
        connection = await entered(server, event(), *bad, event())
        await asyncio.wait_for(await connection.ping(), 30)
        await connection.close()
        return stored(sqlite_store)

    assert asyncio.run(scene()) == 2


@pytest.mark.parametrize("frame", ["", "{", "null", "[]", '{"event": 1}', "[" * 5000, b"\x00\xff", '{"a": "\\u0000"}'])
def test_s4_a_frame_that_is_no_event_ends_the_connection(server: str, sqlite_store: Store, frame: Any) -> None:
    """What came before is stored; the connection ends without a close frame."""

    async def scene() -> tuple[int, int]:
        connection = await entered(server, event())
        await connection.send(frame)
        code = await close_code(connection)
        async with asyncio.timeout(30):
            while not stored(sqlite_store):  # the connection ends before the commit
                await asyncio.sleep(0.01)
        return code, stored(sqlite_store)

    assert asyncio.run(scene()) == (1006, 1)


def test_s4_a_frame_that_is_too_large_is_closed(server: str) -> None:
    """An event has a size."""

    async def scene() -> int:
        return await close_code(await entered(server, event(payload={"text": "x" * 1_600_000})))

    assert asyncio.run(scene()) == 1009


def test_g8_an_event_sent_again_changes_nothing(server: str, sqlite_store: Store) -> None:
    """A client that lost its receipt sends once more."""
    one = event(id=str(UUID(int=7)))

    async def scene() -> int:
        connection = await entered(server, one, one)
        await asyncio.wait_for(await connection.ping(), 30)
        again = await entered(server, one)
        await asyncio.wait_for(await again.ping(), 30)
        return stored(sqlite_store)

    assert asyncio.run(scene()) == 1


def test_an_old_client_needs_no_handshake(server: str, sqlite_store: Store) -> None:
    """Without the subprotocol, and where no login is set, the first frame is an event."""

    async def scene() -> int:
        connection = await opened(server, msgspec.json.encode(event()).decode(), subprotocols=None)
        await asyncio.wait_for(await connection.ping(), 30)
        await connection.close()
        return stored(sqlite_store)

    assert asyncio.run(scene()) == 1


def test_an_old_client_is_refused_where_a_login_is_set(sqlite_store: Store) -> None:
    """Without the subprotocol nobody can log in."""

    async def scene(url: str) -> int:
        with pytest.raises(InvalidStatus) as caught:
            await opened(url + "/events/in", subprotocols=None)
        return caught.value.response.status_code

    with serving(sqlite_store, limited(), operations={}) as url:
        assert asyncio.run(scene(url)) == 403


def test_g14_what_is_not_read_waits_at_the_client(sqlite_store: Store, clock: ManualClock) -> None:
    """While a commit takes long, the server stops reading: a client cannot fill its memory."""
    slow = SlowStore(sqlite_store)

    async def scene(url: str) -> bool:
        connection = await entered(url + "/events/in")
        one = msgspec.json.encode(event(payload={"text": "x" * 100_000})).decode()

        async def flood() -> None:
            for _ in range(500):
                await connection.send(one)

        flooding = asyncio.ensure_future(flood())
        done, _ = await asyncio.wait([flooding], timeout=1)
        stuck = not done
        slow.gate.set()
        await asyncio.wait_for(flooding, 60)
        await asyncio.wait_for(await connection.ping(), 60)
        await connection.close()
        return stuck

    with serving(slow, operations={}) as url:
        assert asyncio.run(scene(url))
