"""The websocket on which clients hear of events."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.schemas.events import Event
from headrace.schemas.recording import RECORD, Records, TaskRunRecord
from headrace.schemas.states import State, StateType
from headrace.server.events import hints
from headrace.server.events.log import append
from headrace.server.http import feed
from headrace.server.http.event_feed import EventFeed
from headrace.server.store.transaction import Store
from headrace.settings import Settings, get_settings
from tests.support.serving import serving
from tests.support.talking import close_code, entered, heard

LATER = {"occurred": {"until": "2100-01-01T00:00:00Z"}}
EVERYTHING = {"type": "filter", "filter": LATER}
NEW_ONES = {**EVERYTHING, "backfill": False}


def write(store: Store, *names: str, ago: float = 0) -> list[UUID]:
    """Write an event of each name, one a second, the last so many seconds ago."""
    resource = {"prefect.resource.id": "thing.1"}

    def do(tx: Any) -> list[UUID]:
        first = tx.now - timedelta(seconds=ago + len(names) - 1)
        moments = [first + timedelta(seconds=number) for number in range(len(names))]
        events = [
            Event(occurred=moment, event=name, resource=resource, id=uuid7())
            for name, moment in zip(names, moments, strict=True)
        ]
        append(tx, events)
        return [event.id for event in events]

    return store.write(do)


def small_pages() -> Settings:
    """Settings with pages of two events."""
    server = get_settings().server
    return replace(
        get_settings(), server=replace(server, events=replace(server.events, websocket_backfill_page_size=2))
    )


@pytest.fixture
def server(store: Store) -> Iterator[str]:
    """The URL of the socket; the store is on each database."""
    with serving(store, small_pages(), operations={}) as url:
        yield url + "/events/out"


async def names_of(connection: Any, count: int) -> list[str]:
    """The names of the next events."""
    frames = [await heard(connection) for _ in range(count)]
    assert all(frame["type"] == "event" and frame["event"]["received"] for frame in frames)
    return [frame["event"]["event"] for frame in frames]


def test_the_past_comes_first_and_then_what_is_new(server: str, store: Store) -> None:
    """Past events come in pages, oldest first, none from more than 15 minutes ago, and new ones follow."""
    write(store, "too.old", ago=16 * 60)
    write(store, "c", ago=10)
    write(store, "a", "b", ago=100)
    write(store, "d", "e")

    async def scene() -> list[str]:
        connection = await entered(server, EVERYTHING)
        past = await names_of(connection, 5)
        await asyncio.to_thread(write, store, "f", "g")
        new = await names_of(connection, 2)
        await asyncio.to_thread(write, store, "h")
        new += await names_of(connection, 1)
        await connection.close()
        return past + new

    assert asyncio.run(scene()) == list("abcdefgh")


def test_task_runs_that_were_recorded_are_told_of_as_prefects_clients_would(server: str, store: Store) -> None:
    """With all of the task run and of its state, whether they are past or new."""

    def record() -> None:
        states = [State(type=StateType.PENDING, timestamp=store.read(lambda tx: tx.now))]
        told = TaskRunRecord(id=uuid7(), task_key="load", dynamic_key="0", name="load-0", states=states)
        LocalClient(store).call(RECORD, body=Records(task_runs=[told]))

    async def scene() -> list[Any]:
        await asyncio.to_thread(record)
        connection = await entered(server, EVERYTHING)
        frames = [await heard(connection)]
        await asyncio.to_thread(record)
        return [*frames, await heard(connection)]

    for frame in asyncio.run(scene()):
        payload = frame["event"]["payload"]
        assert set(payload) == {"intended", "initial_state", "validated_state", "task_run"}
        assert payload["validated_state"]["data"] is None
        assert payload["validated_state"]["state_details"] == {}
        assert payload["task_run"]["task_key"] == "load"


def test_only_new_ones_are_told_when_the_past_is_not_wanted(server: str, store: Store) -> None:
    """A filter narrows new events as it narrows past ones."""
    write(store, "past")

    async def scene() -> list[str]:
        prefixed = {**NEW_ONES, "filter": {**LATER, "event": {"prefix": ["a."]}}}
        connection = await entered(server, prefixed)
        await asyncio.sleep(0.3)  # from when on it hears is not told
        await asyncio.to_thread(write, store, "b.no", "a.yes", "ab", "a.too")
        return await names_of(connection, 2)

    assert asyncio.run(scene()) == ["a.yes", "a.too"]


def test_g17_what_another_process_wrote_is_told_without_a_hint(
    server: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hints are only hints: the log is looked at every second."""
    write(store, "past")
    monkeypatch.setattr(hints, "publish", lambda *_: None)

    async def scene() -> list[str]:
        connection = await entered(server, EVERYTHING)
        names = await names_of(connection, 1)
        await asyncio.to_thread(write, store, "elsewhere")
        return names + await names_of(connection, 1)

    assert asyncio.run(scene()) == ["past", "elsewhere"]


def test_a_filter_without_an_end_leaves_out_what_is_to_come(server: str, store: Store, clock: ManualClock) -> None:
    """Until when defaults to the moment at which the filter is read."""
    write(store, "past")

    async def scene() -> list[str]:
        ended = await entered(server, {"type": "filter", "filter": {}})
        endless = await entered(server, EVERYTHING)
        names = [*await names_of(ended, 1), *await names_of(endless, 1)]
        clock.advance(1)
        await asyncio.to_thread(write, store, "new")
        names += await names_of(endless, 1)
        with pytest.raises(TimeoutError):
            await heard(ended, 0.3)
        return names

    assert asyncio.run(scene()) == ["past", "past", "new"]


def test_g8_nothing_is_told_twice_or_left_out_while_events_are_written(server: str, store: Store) -> None:
    """Each of many listeners that come while events are written hears each event once."""

    async def listener(delay: float) -> list[str]:
        await asyncio.sleep(delay)
        connection = await entered(server, EVERYTHING)
        names = await names_of(connection, 100)
        with pytest.raises(TimeoutError):
            await heard(connection, 0.2)
        await connection.close()
        return names

    async def scene() -> list[list[str]]:
        listeners = [asyncio.create_task(listener(delay / 50)) for delay in range(8)]
        for number in range(100):
            await asyncio.to_thread(write, store, str(number))
        return await asyncio.gather(*listeners)

    for names in asyncio.run(scene()):
        assert sorted(names, key=int) == [str(number) for number in range(100)]


@pytest.mark.parametrize(
    "frame", [{"type": "other"}, {"filter": {}}, {"type": "filter", "filter": {"nothing": 1}}, [], "x", {"type": None}]
)
def test_s4_what_is_no_filter_closes(sqlite_store: Store, frame: Any) -> None:
    """Another type, and a filter that cannot be read, end the connection with 1002."""

    async def scene(url: str) -> int:
        return await close_code(await entered(url + "/events/out", frame))

    with serving(sqlite_store, operations={}) as url:
        assert asyncio.run(scene(url)) == 1002


def test_g14_a_listener_that_is_too_slow_learns_of_it(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window holds so many events; who falls out of it is told so, and others go on."""
    monkeypatch.setattr(feed, "WINDOW", 3)

    async def scene() -> list[str]:
        feed = EventFeed(sqlite_store)
        async with feed.listening() as slow, feed.listening() as quick:
            heard = []
            for name in "abcde":
                await asyncio.to_thread(write, sqlite_store, name)
                heard += [news.row.event for news in await quick.next_ones()]
            with pytest.raises(TimeoutError):
                await slow.next_ones()
        return heard

    assert asyncio.run(scene()) == list("abcde")


def test_the_log_is_followed_while_somebody_listens(sqlite_store: Store) -> None:
    """Who comes after all have left hears what is new from then on."""

    async def scene() -> list[str]:
        feed = EventFeed(sqlite_store)
        async with feed.listening():
            await asyncio.to_thread(write, sqlite_store, "a")
        await asyncio.to_thread(write, sqlite_store, "b")
        async with feed.listening() as listener:
            await asyncio.to_thread(write, sqlite_store, "c")
            return [news.row.event for news in await listener.next_ones()]

    assert asyncio.run(scene()) == ["c"]
