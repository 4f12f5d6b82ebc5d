"""The websocket on which workers hear of runs."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.subscriptions import work_pool_hints
from headrace.exceptions import ApiError, Forbidden, Unauthorized
from headrace.server.events import hints
from headrace.server.store.tables.flows import FLOW_RUN
from headrace.server.store.tables.work_pools import WORK_POOL, WORK_QUEUE
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Secret, Settings, get_settings, temporary_settings
from tests.support import shelf
from tests.support.serving import serving
from tests.support.talking import close_code, heard, opened

POOL = uuid7()
QUEUE = uuid7()


def make_pool(tx: Tx) -> None:
    """A work pool `p` with one queue."""
    times = {"created": tx.now, "updated": tx.now}
    plain = {"is_paused": False, "concurrency_limit": None, "status": "READY", "description": None}
    tx.execute(
        WORK_POOL.insert().values(
            id=POOL, name="p", type="process", base_job_template={}, storage_configuration={}, **times, **plain
        )
    )
    tx.execute(WORK_QUEUE.insert().values(id=QUEUE, work_pool_id=POOL, name="default", priority=1, **times, **plain))


def schedule_run(tx: Tx, seconds: float) -> UUID:
    """A run in that queue, scheduled so far ahead."""
    run = uuid7()
    moment = tx.now + timedelta(seconds=seconds)
    values: dict[str, Any] = {
        "id": run, "created": tx.now, "updated": tx.now, "flow_id": uuid7(), "work_queue_id": QUEUE, "name": "r",
        "parameters": {}, "context": {}, "empirical_policy": {}, "tags": [], "labels": {}, "auto_scheduled": True,
        "total_run_time": 0.0, "run_count": 0, "state_type": "SCHEDULED", "next_scheduled_start_time": moment,
        "expected_start_time": moment,
    }  # fmt: skip
    tx.execute(FLOW_RUN.insert().values(**values))
    return run


@pytest.fixture
def pool(sqlite_store: Store) -> Iterator[str]:
    """The URL of a server with the pool `p`, in websocket form, below which its sockets are."""
    sqlite_store.write(make_pool)
    with serving(sqlite_store, operations=shelf.operations()) as url:
        yield url.replace("http", "ws", 1) + "/work_pools/p"


def test_hints_of_the_pool_arrive(pool: str) -> None:
    """After the login comes one hint at once; each change then is told, several of a kind together."""

    async def scene() -> list[Any]:
        connection = await opened(pool + "/runs")
        frames = [await heard(connection), await heard(connection)]
        for _ in range(50):
            hints.publish(f"work-pool:{POOL}", {"type": "runs"})
        hints.publish(f"work-pool:{uuid7()}", {"type": "runs"})
        hints.publish(f"work-pool:{POOL}", {"type": "cancel", "flow_run_id": "x"})
        frames += [await heard(connection), await heard(connection)]
        await connection.close()
        return frames

    runs = {"type": "runs"}
    assert asyncio.run(scene()) == [{"type": "auth_success"}, runs, runs, {"type": "cancel", "flow_run_id": "x"}]


def test_a_run_that_becomes_due_is_told(pool: str, sqlite_store: Store, clock: ManualClock) -> None:
    """The passing of time until a scheduled start is a reason to tell, though no operation runs then."""
    sqlite_store.write(lambda tx: schedule_run(tx, 0.2))

    async def scene() -> list[Any]:
        connection = await opened(pool + "/runs")
        frames = [await heard(connection), await heard(connection)]
        frames.append(await heard(connection))
        await connection.close()
        return frames

    assert asyncio.run(scene()) == [{"type": "auth_success"}, {"type": "runs"}, {"type": "runs"}]


@pytest.mark.parametrize(
    "first",
    ["", "{", "[]", '{"type": "hello"}', "[" * 5000, "null"],
)
def test_s4_a_first_frame_that_is_no_login_closes(pool: str, first: str) -> None:
    """Anything but a login frame ends the connection with 1008, whatever it is."""

    async def scene() -> int:
        return await close_code(await opened(pool + "/runs", first))

    assert asyncio.run(scene()) == 1008


def test_s4_a_login_that_is_too_long_closes(pool: str) -> None:
    """A first frame beyond 8 KiB is not even read."""

    async def scene() -> int:
        return await close_code(await opened(pool + "/runs", '{"type": "auth", "token": "' + "x" * 9000 + '"}'))

    assert asyncio.run(scene()) == 1009


def test_s4_bytes_close_cleanly(pool: str) -> None:
    """A binary frame in place of the login ends the connection with 1008."""

    async def scene() -> int:
        connection = await connect(pool + "/runs", subprotocols=["prefect"])  # type: ignore[list-item]
        await connection.send(b"\xff\x00")
        return await close_code(connection)

    assert asyncio.run(scene()) == 1008


def test_a_pool_that_is_not_there(pool: str) -> None:
    """A socket for an unknown pool is closed with a code of its own."""

    async def scene() -> int:
        connection = await opened(pool.removesuffix("/p") + "/nothing/runs")
        await heard(connection)
        return await close_code(connection)

    assert asyncio.run(scene()) == 4404


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/runs", {}),
        ("/runs", {"subprotocols": ["other"]}),
        ("/runs", {"subprotocols": ["prefect"], "origin": "http://evil.example"}),
        ("/nothing", {"subprotocols": ["prefect"]}),
    ],
)
def test_upgrades_that_are_refused(pool: str, path: str, options: dict[str, Any]) -> None:
    """A missing subprotocol, a foreign page and an unknown path are 403."""

    async def scene() -> int:
        with pytest.raises(InvalidStatus) as caught:
            await connect(pool + path, **options)
        return caught.value.response.status_code

    assert asyncio.run(scene()) == 403


def limited(**changes: Any) -> Settings:
    """Settings with other limits, and the login `user:pass`."""
    server = get_settings().server
    api = replace(server.api, auth_string=Secret("user:pass"))
    return replace(get_settings(), server=replace(server, api=api, limits=replace(server.limits, **changes)))


def test_s4_a_socket_must_log_in_in_time(sqlite_store: Store) -> None:
    """A socket that says nothing is closed."""

    async def scene(url: str) -> int:
        connection = await connect(url.replace("http", "ws") + "/work_pools/p/runs", subprotocols=["prefect"])  # type: ignore[list-item]
        return await close_code(connection)

    with serving(sqlite_store, limited(authenticate_seconds=0.1), operations={}) as url:
        assert asyncio.run(scene(url)) == 1008


def test_s4_few_sockets_may_wait_to_log_in(sqlite_store: Store) -> None:
    """Beyond the limit further ones are refused, until one of those that wait has left."""

    async def scene(url: str) -> tuple[int, Any]:
        url = url.replace("http", "ws") + "/work_pools/p/runs"
        waiting = [await connect(url, subprotocols=["prefect"]) for _ in range(2)]  # type: ignore[list-item]
        with pytest.raises(InvalidStatus) as caught:
            await connect(url, subprotocols=["prefect"])  # type: ignore[list-item]
        await waiting[0].send('{"type": "auth", "token": "user:pass"}')
        await heard(waiting[0])
        another = await opened(url, '{"type": "auth", "token": "user:pass"}')
        return caught.value.response.status_code, await heard(another)

    sqlite_store.write(make_pool)
    with serving(sqlite_store, limited(unauthenticated_sockets=2), operations={}) as url:
        assert asyncio.run(scene(url)) == (503, {"type": "auth_success"})


@pytest.mark.parametrize("token", ["null", '"user"', '"user:pass "', '"dXNlcjpwYXNz"', "7", '"\\u00e9"'])
def test_s4_a_wrong_login_is_refused(sqlite_store: Store, token: str) -> None:
    """Only the plain login is right, where one is set."""

    async def scene(url: str) -> int:
        url = url.replace("http", "ws") + "/work_pools/p/runs"
        return await close_code(await opened(url, f'{{"type": "auth", "token": {token}}}'))

    with serving(sqlite_store, limited(), operations={}) as url:
        assert asyncio.run(scene(url)) == 1008


async def first_of(frames: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    """The first frame of a subscription."""
    async with aclosing(frames) as opened_frames:  # type: ignore[type-var]
        return await asyncio.wait_for(anext(opened_frames), 30)


def test_a_subscription_hears_and_comes_back(sqlite_store: Store) -> None:
    """A subscription logs in by the settings, and survives a server that is restarted on another port."""
    sqlite_store.write(make_pool)

    async def next_frame(frames: Any) -> Any:
        return await asyncio.wait_for(anext(frames), 30)

    async def scene() -> list[Any]:
        frames = work_pool_hints("p")
        got = []
        for _ in range(2):
            running = serving(sqlite_store, limited(), operations={})
            url = await asyncio.to_thread(running.__enter__)
            with temporary_settings(**{"api.url": url, "api.auth_string": "user:pass"}):
                got.append(await next_frame(frames))
                stopping = asyncio.create_task(asyncio.to_thread(running.__exit__, None, None, None))
                await asyncio.sleep(0)
            await stopping
        await frames.aclose()  # type: ignore[attr-defined]
        return got

    assert asyncio.run(scene()) == [{"type": "runs"}, {"type": "runs"}]


def test_a_subscription_says_why_it_cannot_be(sqlite_store: Store, tmp_path: Any) -> None:
    """A wrong login, another kind of server, and no server at all are errors; they are not tried for ever."""
    with (
        serving(sqlite_store, limited(), operations={}) as url,
        temporary_settings(**{"api.url": url, "api.auth_string": "user:wrong"}),
        pytest.raises(Unauthorized),
    ):
        asyncio.run(first_of(work_pool_hints("p")))
    with (
        serving(sqlite_store, operations={}) as url,
        temporary_settings(**{"api.url": url + "/elsewhere"}),
        pytest.raises(Forbidden),
    ):
        asyncio.run(first_of(work_pool_hints("p")))
    with temporary_settings(**{"api.url": None, "home": str(tmp_path)}), pytest.raises(ApiError, match="local mode"):
        asyncio.run(first_of(work_pool_hints("p")))
