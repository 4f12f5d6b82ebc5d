"""The websocket on which servers of background tasks are handed runs."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.schemas.states import StateCreate, StateDetails, StateType
from headrace.schemas.task_runs import SetTaskRunState, TaskRunCreate
from headrace.schemas.task_workers import ReadTaskWorkers, TaskWorkerFilter
from headrace.server.http import task_scheduling
from headrace.server.operations.states import set_task_run_state
from headrace.server.operations.task_deliveries import LEASE, keep, take
from headrace.server.operations.task_runs import create_task_run
from headrace.server.operations.task_workers import note, read_task_workers
from headrace.server.store.transaction import Store
from tests.support.serving import serving
from tests.support.talking import close_code, entered, heard, say

SUBSCRIBE = {"type": "subscribe", "keys": ["m.f", "m.g"], "client_id": "me"}
ACK = {"type": "ack"}
ME, OTHER = uuid7(), uuid7()


def delay(store: Store, key: str = "m.f", seconds: float = 0) -> str:
    """A background run, as `.delay()` makes it."""

    def do(tx: Any) -> str:
        details = StateDetails(deferred=True, scheduled_time=tx.now + timedelta(seconds=seconds))
        state = StateCreate(type=StateType.SCHEDULED, state_details=details)
        return str(create_task_run(tx, TaskRunCreate(task_key=key, dynamic_key=str(uuid7()), state=state)).id)  # type: ignore[union-attr]

    return store.write(do)


def begin(store: Store, run_id: Any) -> str:
    """Propose PENDING, as a server of tasks does before it runs one; returns the answer."""
    state = StateCreate(type=StateType.PENDING, state_details=StateDetails(deferred=True))
    result: Any = store.write(lambda tx: set_task_run_state(tx, run_id, SetTaskRunState(state=state)))
    return str(getattr(result, "value", result).status)


@pytest.fixture
def server(store: Store) -> Iterator[str]:
    """The URL of the socket; the store is on each database."""
    with serving(store, operations={}) as url:
        yield url + "/task_runs/subscriptions/scheduled"


def test_each_run_is_handed_to_one_server_of_tasks(server: str, store: Store) -> None:
    """Of many runs and several takers, each run reaches one; those that waited before come first."""
    waiting = [delay(store, key) for key in ("m.f", "m.g", "m.other", "m.f")]

    async def serve_tasks(taken: list[str]) -> None:
        connection = await entered(server, SUBSCRIBE)
        while True:
            run = await heard(connection)
            assert run["state"]["type"] == "SCHEDULED"
            taken.append(run["id"])
            await say(connection, ACK)

    async def scene() -> list[str]:
        taken: list[str] = []
        takers = [asyncio.create_task(serve_tasks(taken))]
        while len(taken) < 3:
            await asyncio.sleep(0.01)
        takers += [asyncio.create_task(serve_tasks(taken)) for _ in range(3)]
        waiting.extend([await asyncio.to_thread(delay, store) for _ in range(15)])
        while len(taken) < 18:
            await asyncio.sleep(0.01)
        await asyncio.wait(takers, timeout=0.5)  # what came twice would come now
        for one in takers:
            one.cancel()
        return taken

    taken = asyncio.run(asyncio.wait_for(scene(), 60))
    del waiting[2]
    assert taken[:3] == waiting[:3]
    assert sorted(taken) == sorted(waiting)


def test_a_run_that_was_not_acknowledged_goes_back_first(server: str, store: Store) -> None:
    """A taker that leaves without a word has taken nothing, and what it had comes before what waits."""
    ids = [delay(store) for _ in range(3)]

    async def scene() -> list[str]:
        connection = await entered(server, SUBSCRIBE)
        got = [(await heard(connection))["id"]]
        await connection.close()
        again = await entered(server, SUBSCRIBE)
        for _ in ids:
            got.append((await heard(again))["id"])
            await say(again, ACK)
        await say(again, {"type": "quit"})
        assert await close_code(again) == 1000
        return got

    assert asyncio.run(scene()) == [ids[0], *ids]


def test_g2_runs_wait_in_the_database(store: Store) -> None:
    """A server process that is restarted hands out what waited in the one before."""
    run = delay(store)

    async def scene(url: str, acknowledge: bool) -> str:
        connection = await entered(url + "/task_runs/subscriptions/scheduled", SUBSCRIBE)
        found: str = (await heard(connection))["id"]
        if acknowledge:
            await say(connection, ACK)
        await connection.close()
        return found

    for acknowledge in (False, True):
        with serving(store, operations={}) as url:
            assert asyncio.run(scene(url, acknowledge)) == run


def test_g2_a_run_that_was_taken_and_never_begun_is_handed_out_again(store: Store, clock: ManualClock) -> None:
    """The lease of a taker that is gone ends; that of one that is there is renewed; a run that was begun stays away."""
    run = delay(store)
    seconds = LEASE.total_seconds()

    assert str(store.write(lambda tx: take(tx, ["m.f"], ME)).id) == run  # type: ignore[union-attr]
    assert store.write(lambda tx: take(tx, ["m.f"], OTHER)) is None
    clock.advance(seconds - 1)
    assert store.write(lambda tx: keep(tx, ME)) == 1
    clock.advance(seconds - 1)
    assert store.write(lambda tx: take(tx, ["m.f"], OTHER)) is None
    clock.advance(2)
    taken = store.write(lambda tx: take(tx, ["m.f"], OTHER))
    assert taken is not None
    assert [begin(store, taken.id), begin(store, taken.id)] == ["ACCEPT", "ABORT"]  # G4
    clock.advance(seconds + 1)
    assert store.write(lambda tx: take(tx, ["m.f"], ME)) is None


def test_g4_takers_at_the_same_time_take_different_runs(store: Store) -> None:
    """As several server processes of one database do."""
    waiting = [delay(store) for _ in range(40)]

    def take_all(_: int) -> list[str]:
        runs = iter(lambda: store.write(lambda tx: take(tx, ["m.f"], ME)), None)
        return [str(run.id) for run in runs]

    with ThreadPoolExecutor(4) as threads:
        taken = [id for ids in threads.map(take_all, range(4)) for id in ids]
    assert sorted(taken) == sorted(waiting)


def test_a_run_is_handed_out_when_it_is_due(server: str, store: Store, clock: ManualClock) -> None:
    """Not before its time."""
    run = delay(store, seconds=60)

    async def scene() -> str:
        connection = await entered(server, SUBSCRIBE)
        with pytest.raises(TimeoutError):
            await heard(connection, 0.5)
        clock.advance(61)
        return str((await heard(connection))["id"])

    assert asyncio.run(scene()) == run


@pytest.mark.parametrize(
    "frame",
    [
        {},
        [],
        "x",
        ACK,
        {"type": "subscribe"},
        {**SUBSCRIBE, "keys": []},
        {**SUBSCRIBE, "client_id": ""},
        SUBSCRIBE["keys"],
    ],
)
def test_s4_a_bad_subscription_closes(sqlite_store: Store, frame: Any) -> None:
    """Another type, no keys, or no name end the connection with 4001."""

    async def scene(url: str) -> int:
        return await close_code(await entered(url + "/task_runs/subscriptions/scheduled", frame))

    with serving(sqlite_store, operations={}) as url:
        assert asyncio.run(scene(url)) == task_scheduling.NO_SUBSCRIPTION


def names_of_servers(store: Store, *keys: str) -> list[str]:
    """Who serves any of these tasks, or who serves tasks at all."""
    body = ReadTaskWorkers(task_worker_filter=TaskWorkerFilter(task_keys=list(keys)) if keys else None)
    return [one.identifier for one in store.read(lambda tx: read_task_workers(tx, body))]


def test_servers_of_tasks_are_listed_while_they_are_connected(server: str, store: Store) -> None:
    """A filter finds those that serve any of its tasks; one without tasks finds all."""
    listed = partial(names_of_servers, store)

    async def scene() -> None:
        delay(store)
        connection = await entered(server, SUBSCRIBE)
        await heard(connection)
        assert [listed(), listed("m.f"), listed("m.f", "m.h"), listed("m.h")] == [["me"], ["me"], ["me"], []]
        await say(connection, {"type": "quit"})
        await close_code(connection)

    asyncio.run(scene())
    assert listed() == []


def test_a_server_of_tasks_is_forgotten_with_the_process_that_it_was_connected_to(
    store: Store, clock: ManualClock
) -> None:
    """However that ended; as long as it is renewed it stays."""
    store.write(lambda tx: note(tx, ME, "me", ["m.f"]))
    store.write(lambda tx: note(tx, OTHER, "other", ["m.f"]))
    clock.advance(20)
    store.write(lambda tx: note(tx, ME, "me", ["m.f"]))
    before = names_of_servers(store)
    clock.advance(20)

    assert (before, names_of_servers(store)) == (["me", "other"], ["me"])
