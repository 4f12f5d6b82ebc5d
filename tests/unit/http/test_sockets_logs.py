"""The websocket on which clients hear of log lines."""

import asyncio
import queue
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from sqlalchemy import func, select, text

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.schemas.filters import LogFilter
from headrace.schemas.logs import Log, LogCreate, ReadLogs
from headrace.schemas.recording import LogRecord, Records
from headrace.server.events import hints, line_news
from headrace.server.events.line_news import CHANNEL, LINES
from headrace.server.http import line_feed
from headrace.server.http.feed import Listener
from headrace.server.http.line_feed import LineFeed
from headrace.server.http.logs_out import fits
from headrace.server.operations.logs import create_logs, read_logs
from headrace.server.operations.recording import record
from headrace.server.store import open_store, postgresql_notices
from headrace.server.store.tables import LOG_NEWS
from headrace.server.store.transaction import Store, Tx
from headrace.settings import get_settings, temporary_settings
from tests.support import postgresql
from tests.support.serving import serving
from tests.support.talking import close_code, entered, heard

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
RUN, TASK = UUID(int=1), UUID(int=2)


@pytest.fixture(autouse=True)
def _get_settings() -> Iterator[None]:
    """Log lines are told."""
    with temporary_settings({"server.logs.stream_out_enabled": True, "server.logs.stream_publishing_enabled": True}):
        yield


def line(message: str, **more: Any) -> LogCreate:
    """A line as a client sends it."""
    return LogCreate(**{"level": 20, "message": message, "name": "n", "timestamp": MOMENT, **more})


async def until_heard() -> None:
    """Wait until somebody listens to log lines."""
    while not hints.is_heard(LINES):
        await asyncio.sleep(0.01)


def news(store: Store) -> int:
    """How many lines are kept as news."""
    return store.read(lambda tx: int(tx.execute(select(func.count()).select_from(LOG_NEWS)).scalar_one()))


async def next_lines(listener: Listener[Log], count: int) -> list[str]:
    """The messages of the next so many lines."""
    heard: list[str] = []
    while len(heard) < count:
        heard += [one.row.message for one in await asyncio.wait_for(listener.next_ones(), 30)]
    return heard


def test_lines_are_told_as_they_are_written(store: Store) -> None:
    """Those of both ways of writing, narrowed by the filter; none that were there before."""
    store.write(lambda tx: create_logs(tx, [line("before")]))

    async def scene(url: str) -> list[str]:
        connection = await entered(url + "/logs/out", {"type": "filter", "filter": {"level": {"ge_": 20}}})
        await until_heard()
        await store.write_soon(lambda tx: create_logs(tx, [line("a"), line("no", level=10), line("b")]))
        await store.write_soon(lambda tx: record(tx, Records(logs=[own("c", level=40)])))
        frames = [await heard(connection) for _ in range(3)]
        assert {frame["type"] for frame in frames} == {"log"}
        return [frame["log"]["message"] for frame in frames]

    with serving(store, get_settings(), operations={}) as url:
        assert asyncio.run(scene(url)) == ["a", "b", "c"]


def own(message: str, **more: Any) -> LogRecord:
    """A line as headrace's recorder sends it."""
    return msgspec.convert(
        {"id": uuid7(), "level": 20, "message": message, "name": "n", "timestamp": MOMENT, **more}, LogRecord
    )


def test_g17_lines_of_other_server_processes_come_without_any_hint(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, to each process that listens, as soon as it looks again."""
    monkeypatch.setattr(hints, "publish", lambda *_: None)

    async def scene() -> list[list[str]]:
        one, other = LineFeed(store), LineFeed(store)
        async with one.listening() as here, other.listening() as there:
            for message in "abc":
                await store.write_soon(lambda tx, message=message: create_logs(tx, [line(message)]))
            return [await next_lines(listener, 3) for listener in (here, there)]

    assert asyncio.run(scene()) == [["a", "b", "c"]] * 2


def test_g17_postgresql_tells_other_processes_at_once(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By NOTIFY, while somebody listens; and again after its connection was lost, when there may be news as well."""
    monkeypatch.setattr(postgresql_notices, "CONNECT_AGAIN", 0.01)
    store, told = open_store(postgres_url), queue.Queue[None]()
    listens = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND datname = %s"
    )
    stop = store.hear(CHANNEL, lambda: told.put(None))
    try:
        told.get(timeout=30)  # it is connected
        store.write(lambda tx: create_logs(tx, [line("nobody listens")]))
        store.write(lambda tx: line_news.listen(tx, uuid7()))
        for _ in range(2):
            assert told.empty()
            store.write(lambda tx: create_logs(tx, [line("a"), line("b")]))
            told.get(timeout=30)
            with psycopg.connect(postgres_url, autocommit=True) as admin:
                assert (True,) in admin.execute(listens, [admin.info.dbname]).fetchall()
            told.get(timeout=30)
    finally:
        stop()
        store.close()
        postgresql.empty(postgres_url)


def test_g8_lines_whose_transactions_commit_in_reverse_order_are_all_told(postgres_url: str) -> None:
    """Nothing is read beyond the oldest transaction that is open, so nothing comes behind a place already read."""
    store = open_store(postgres_url)
    written, commit = threading.Event(), threading.Event()

    def slowly(tx: Tx) -> None:
        create_logs(tx, [line("older")])
        assert tx.execute(text("SELECT 1")).scalar() == 1  # so that it has been sent
        written.set()
        commit.wait(20)

    async def scene() -> list[str]:
        async with LineFeed(store).listening() as listener:
            older = asyncio.to_thread(store.write, slowly)
            writing = asyncio.ensure_future(older)
            await asyncio.to_thread(written.wait, 20)
            await store.write_soon(lambda tx: create_logs(tx, [line("newer")]))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(listener.next_ones(), 1.5)
            commit.set()
            await writing
            return await next_lines(listener, 2)

    try:
        assert asyncio.run(scene()) == ["older", "newer"]
    finally:
        store.close()
        postgresql.empty(postgres_url)


def test_what_is_sent_again_is_told_once(store: Store, clock: ManualClock) -> None:
    """A batch whose answer was lost is there already."""

    async def scene() -> list[str]:
        async with LineFeed(store).listening() as listener:
            first, second = own("a"), own("b")
            for batch in [first], [first, second]:
                clock.advance(1)
                await store.write_soon(lambda tx, batch=batch: record(tx, Records(logs=batch)))
            return await next_lines(listener, 2)

    assert asyncio.run(scene()) == ["a", "b"]
    assert news(store) == 2


def test_nothing_is_kept_for_nobody(store: Store) -> None:
    """No news before anybody listens, none when the last has left, and none when the setting is off."""

    async def scene() -> None:
        feed = LineFeed(store)
        async with feed.listening():
            with temporary_settings({"server.logs.stream_publishing_enabled": False}):
                await store.write_soon(lambda tx: create_logs(tx, [line("untold")]))
        assert feed._leaving is not None
        await feed._leaving
        await store.write_soon(lambda tx: create_logs(tx, [line("after")]))

    store.write(lambda tx: create_logs(tx, [line("before")]))
    asyncio.run(scene())
    assert news(store) == 0


def test_news_are_deleted_after_a_minute(store: Store, clock: ManualClock) -> None:
    """But for the newest, whose number SQLite would give again; so are listeners that died."""
    store.write(lambda tx: line_news.listen(tx, uuid7()))
    store.write(lambda tx: create_logs(tx, [line("a"), line("b"), line("c")]))
    clock.advance(61)
    assert store.write(lambda tx: line_news.clear(tx, 1)) == 1
    assert store.write(lambda tx: line_news.clear(tx, 1000)) == 1
    assert store.write(lambda tx: line_news.clear(tx, 1000)) == 0
    store.write(lambda tx: create_logs(tx, [line("d")]))
    assert news(store) == 1


def test_g14_who_may_have_missed_lines_is_sent_away(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when this process was frozen: others have told it nothing since its lease ended. It comes back for more."""
    monkeypatch.setattr(line_feed, "RENEWED_EACH", 0.0)

    async def scene(url: str) -> list[str]:
        connection = await entered(url + "/logs/out", {"type": "filter", "filter": {}})
        await until_heard()
        clock.advance(31)
        assert await close_code(connection) == 1013
        connection = await entered(url + "/logs/out", {"type": "filter", "filter": {}})
        await until_heard()
        await store.write_soon(lambda tx: create_logs(tx, [line("a")]))
        return [(await heard(connection))["log"]["message"]]

    with serving(store, get_settings(), operations={}) as url:
        assert asyncio.run(scene(url)) == ["a"]


@pytest.mark.parametrize("off", ["stream_out_enabled", "stream_publishing_enabled"])
def test_nothing_is_told_unless_both_settings_are_on(sqlite_store: Store, off: str) -> None:
    """The socket is open, and silent."""

    async def scene(url: str) -> None:
        connection = await entered(url + "/logs/out", {"type": "filter", "filter": {}})
        with pytest.raises(TimeoutError):
            await heard(connection, 0.3)
        assert not hints.is_heard(LINES)

    with (
        temporary_settings({f"server.logs.{off}": False}),
        serving(sqlite_store, get_settings(), operations={}) as url,
    ):
        asyncio.run(scene(url))


@pytest.mark.parametrize("frame", [{"type": "other"}, {"filter": {}}, {"type": "filter", "filter": {"level": 1}}, []])
def test_s4_what_is_no_filter_closes(sqlite_store: Store, frame: Any) -> None:
    """Another type, and a filter that cannot be read, end the connection with 1002."""

    async def scene(url: str) -> int:
        return await close_code(await entered(url + "/logs/out", frame))

    with serving(sqlite_store, get_settings(), operations={}) as url:
        assert asyncio.run(scene(url)) == 1002


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"flow_run_id": {"any_": [str(RUN)]}},
        {"task_run_id": {"any_": [str(TASK)]}},
        {"task_run_id": {"is_null_": True}},
        {"task_run_id": {"is_null_": False}},
        {"level": {"ge_": 20, "le_": 30}},
        {"timestamp": {"after_": "2026-01-01T00:00:01Z"}},
        {"timestamp": {"before_": "2026-01-01T00:00:00"}},
        {"text": {"query": "Hello -there"}},
        {"text": {"query": '"hello there"'}},
        {"operator": "or_", "level": {"ge_": 40}, "task_run_id": {"is_null_": False}},
        {"operator": "and_", "level": {"ge_": 20}, "task_run_id": {"is_null_": True}, "text": {"query": "hello"}},
    ],
)
def test_a_filter_says_the_same_here_and_in_sql(store: Store, chosen: dict[str, Any]) -> None:
    """What is told of is what a list would show."""
    lines = [
        line("hello", level=10, flow_run_id=RUN),
        line("hello there", level=20, flow_run_id=RUN, task_run_id=TASK),
        line("Hello", level=30, timestamp=datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)),
        line("other", level=40, flow_run_id=UUID(int=3), task_run_id=UUID(int=4)),
    ]
    store.write(lambda tx: create_logs(tx, lines))
    wanted = msgspec.convert(chosen, LogFilter)
    everything: list[Log] = store.read(lambda tx: read_logs(tx, ReadLogs()))
    listed = store.read(lambda tx: read_logs(tx, ReadLogs(logs=wanted)))

    assert {one.id for one in listed} == {one.id for one in everything if fits(wanted, one)}
