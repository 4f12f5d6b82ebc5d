"""Quick reads take turns in one thread; a slow one holds up nobody."""

import asyncio
import threading

import pytest

from headrace.server.http import read_lane as module
from headrace.server.http.read_lane import ReadLane
from headrace.server.store.transaction import Store, Tx


def name_of_thread(_: Tx) -> str:
    """Which thread reads."""
    return threading.current_thread().name


async def many(lane: ReadLane, count: int) -> list[int]:
    """The results of so many reads at once, in the order they were asked for."""
    return await asyncio.gather(*(lane.read(lambda _, number=number: number) for number in range(count)))  # type: ignore[misc]


def test_each_caller_gets_its_own_result(store: Store) -> None:
    """Many reads at once, on either database, come back to who asked."""
    assert asyncio.run(many(ReadLane(store), 200)) == list(range(200))


def test_quick_reads_share_a_thread(sqlite_store: Store) -> None:
    """Reads that are quick take turns."""

    async def scene() -> set[str]:
        lane = ReadLane(sqlite_store)
        return set(await asyncio.gather(*(lane.read(name_of_thread) for _ in range(50))))

    assert asyncio.run(scene()) == {"headrace-read-lane"}


def test_a_slow_read_holds_up_nobody(sqlite_store: Store) -> None:
    """Those that wait behind it are freed, those done before it are handed over, and later ones go round it."""
    begun, release = threading.Event(), threading.Event()

    def slow(_: Tx) -> bool:
        begun.set()
        return release.wait(60)

    async def scene() -> tuple[list[str], str, bool]:
        lane = ReadLane(sqlite_store)
        before = asyncio.create_task(lane.read(name_of_thread))
        blocking = asyncio.create_task(lane.read(slow))
        behind = [asyncio.create_task(lane.read(name_of_thread)) for _ in range(5)]
        await asyncio.to_thread(begun.wait, 30)
        freed = await asyncio.wait_for(asyncio.gather(before, *behind), 30)
        later = await asyncio.wait_for(lane.read(name_of_thread), 30)
        release.set()
        return freed, later, await blocking

    freed, later, finished = asyncio.run(scene())

    assert freed[0] == "headrace-read-lane"
    assert all(name.startswith("headrace-reader") for name in (*freed[1:], later))
    assert finished


def test_errors_reach_their_callers_alone(sqlite_store: Store) -> None:
    """A read that raises fails for its caller; those beside it are served."""

    def broken(_: Tx) -> int:
        raise LookupError("no such shelf")

    async def scene() -> list[object]:
        lane = ReadLane(sqlite_store)
        return await asyncio.gather(
            lane.read(lambda _: 1), lane.read(broken), lane.read(lambda _: 2), return_exceptions=True
        )

    first, error, last = asyncio.run(scene())

    assert (first, last) == (1, 2)
    assert isinstance(error, LookupError)


def test_a_caller_that_left_is_forgotten(sqlite_store: Store) -> None:
    """A read whose caller was cancelled harms no other."""

    async def scene() -> int:
        lane = ReadLane(sqlite_store)
        given_up = asyncio.create_task(lane.read(lambda _: 1))
        await asyncio.sleep(0)
        given_up.cancel()
        return await lane.read(lambda _: 2)

    assert asyncio.run(scene()) == 2


def test_the_thread_ends_when_it_is_idle(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while without reads it ends, and the next read starts another."""
    monkeypatch.setattr(module, "IDLE", 0.01)

    async def scene() -> tuple[bool, int]:
        lane = ReadLane(sqlite_store)
        first = await lane.read(lambda _: threading.current_thread())
        await asyncio.to_thread(first.join, 30)
        return first.is_alive(), await lane.read(lambda _: 2)

    assert asyncio.run(scene()) == (False, 2)
