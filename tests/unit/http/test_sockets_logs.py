"""The websocket on which clients hear of log lines."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from headrace._internal.ids import uuid7
from headrace.schemas.filters import LogFilter
from headrace.schemas.logs import Log, LogCreate, ReadLogs
from headrace.schemas.recording import LogRecord, Records
from headrace.server.events import hints
from headrace.server.http.logs_out import fits
from headrace.server.operations.logs import LINES, create_logs, read_logs
from headrace.server.operations.recording import record
from headrace.server.store.transaction import Store
from headrace.settings import Settings, get_settings
from tests.support.serving import serving
from tests.support.talking import close_code, entered, heard

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
RUN, TASK = UUID(int=1), UUID(int=2)


def streaming(**changes: bool) -> Settings:
    """Settings with which log lines are told."""
    server = get_settings().server
    both = {"stream_out_enabled": True, "stream_publishing_enabled": True, **changes}
    return replace(get_settings(), server=replace(server, logs=replace(server.logs, **both)))


def line(message: str, **more: Any) -> LogCreate:
    """A line as a client sends it."""
    return LogCreate(**{"level": 20, "message": message, "name": "n", "timestamp": MOMENT, **more})


async def until_heard() -> None:
    """Wait until somebody listens to log lines."""
    while not hints.is_heard(LINES):
        await asyncio.sleep(0.01)


def test_lines_are_told_as_they_are_written(sqlite_store: Store) -> None:
    """Those of both ways of writing, narrowed by the filter; none that were there before."""
    sqlite_store.write(lambda tx: create_logs(tx, [line("before")]))
    own = {"id": uuid7(), "level": 40, "message": "c", "name": "n", "timestamp": MOMENT}

    async def scene(url: str) -> list[str]:
        connection = await entered(url + "/logs/out", {"type": "filter", "filter": {"level": {"ge_": 20}}})
        await until_heard()
        await sqlite_store.write_soon(lambda tx: create_logs(tx, [line("a"), line("no", level=10), line("b")]))
        await sqlite_store.write_soon(lambda tx: record(tx, Records(logs=[msgspec.convert(own, LogRecord)])))
        frames = [await heard(connection) for _ in range(3)]
        assert {frame["type"] for frame in frames} == {"log"}
        return [frame["log"]["message"] for frame in frames]

    with serving(sqlite_store, streaming(), operations={}) as url:
        assert asyncio.run(scene(url)) == ["a", "b", "c"]


@pytest.mark.parametrize("off", ["stream_out_enabled", "stream_publishing_enabled"])
def test_nothing_is_told_unless_both_settings_are_on(sqlite_store: Store, off: str) -> None:
    """The socket is open, and silent."""

    async def scene(url: str) -> None:
        connection = await entered(url + "/logs/out", {"type": "filter", "filter": {}})
        with pytest.raises(TimeoutError):
            await heard(connection, 0.3)
        assert not hints.is_heard(LINES)

    with serving(sqlite_store, streaming(**{off: False}), operations={}) as url:
        asyncio.run(scene(url))


@pytest.mark.parametrize("frame", [{"type": "other"}, {"filter": {}}, {"type": "filter", "filter": {"level": 1}}, []])
def test_s4_what_is_no_filter_closes(sqlite_store: Store, frame: Any) -> None:
    """Another type, and a filter that cannot be read, end the connection with 1002."""

    async def scene(url: str) -> int:
        return await close_code(await entered(url + "/logs/out", frame))

    with serving(sqlite_store, streaming(), operations={}) as url:
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
