"""Log lines: written, found, downloaded."""

import csv
import io
from typing import Any
from uuid import UUID

import pytest

from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import ObjectNotFound, ValidationFailed
from headrace.schemas.filters import IdIn, LogFilter, LogSort, NumberRange, TaskRunIdIn, TextSearch, TimeRange
from headrace.schemas.flow_runs import DOWNLOAD_LOGS, FlowRun
from headrace.schemas.logs import CREATE_LOGS, READ_LOGS, LogCreate, ReadLogs
from headrace.server.operations.logs import download_logs
from headrace.server.operations.registry import Raw
from headrace.server.store.tables import LOG
from headrace.server.store.transaction import Store
from tests.operations.runs_world import NOW, at, make_flow, make_run, spoil


def line(message: str, *, level: int = 20, second: float = 0, run: FlowRun | None = None, **options: Any) -> LogCreate:
    """A log line written `second` seconds after the start."""
    return LogCreate(
        name="headrace.flow_runs",
        level=level,
        message=message,
        timestamp=at(seconds=second),
        flow_run_id=run.id if run else None,
        **options,
    )


def messages(api: LocalClient, chosen: LogFilter | None = None, **options: Any) -> list[str]:
    """The messages that a filter finds."""
    return [log.message for log in api.call(READ_LOGS, body=ReadLogs(logs=chosen, **options))]


def test_lines_are_listed_in_order_of_time(api: LocalClient) -> None:
    """Lines come back as they were written, the oldest first, or the newest."""
    run, task_run_id = make_run(api, make_flow(api)), uuid7()
    api.call(
        CREATE_LOGS, body=[line("two", second=2, run=run), line("one", second=1, run=run, task_run_id=task_run_id)]
    )

    first, _ = api.call(READ_LOGS, body=ReadLogs())

    assert (first.message, first.level, first.name, first.timestamp) == ("one", 20, "headrace.flow_runs", at(seconds=1))
    assert (first.flow_run_id, first.task_run_id, first.created) == (run.id, task_run_id, NOW)
    assert messages(api, sort=LogSort.TIMESTAMP_DESC) == ["two", "one"]
    assert messages(api, limit=1, offset=1) == ["two"]


def test_no_lines_are_fine(api: LocalClient) -> None:
    """An empty batch writes nothing."""
    api.call(CREATE_LOGS, body=[])

    assert messages(api) == []


def test_lines_are_found_by_filters(api: LocalClient) -> None:
    """By run, level, time, and words."""
    run, task_run_id = make_run(api, make_flow(api)), uuid7()
    api.call(
        CREATE_LOGS,
        body=[
            line("connection LOST", level=40, second=1, run=run),
            line("100% done", second=2, run=run, task_run_id=task_run_id),
            line("elsewhere", second=3),
        ],
    )

    assert messages(api, LogFilter(flow_run_id=IdIn(any_=[run.id]))) == ["connection LOST", "100% done"]
    assert messages(api, LogFilter(level=NumberRange(ge_=30))) == ["connection LOST"]
    assert messages(api, LogFilter(level=NumberRange(le_=30))) == ["100% done", "elsewhere"]
    assert messages(api, LogFilter(task_run_id=TaskRunIdIn(any_=[task_run_id]))) == ["100% done"]
    assert messages(api, LogFilter(task_run_id=TaskRunIdIn(is_null_=True))) == ["connection LOST", "elsewhere"]
    assert messages(api, LogFilter(timestamp=TimeRange(after_=at(seconds=3)))) == ["elsewhere"]
    assert messages(api, LogFilter(text=TextSearch(query="lost connection"))) == ["connection LOST"]
    assert messages(api, LogFilter(text=TextSearch(query="0%"))) == ["100% done"]
    assert messages(api, LogFilter(text=TextSearch(query="-done -lost"))) == ["elsewhere"]
    assert messages(api, LogFilter(text=TextSearch(query='"lost connection"'))) == []


@pytest.mark.parametrize("limit", [-1, 201])
def test_no_list_is_longer_than_its_limit(api: LocalClient, limit: int) -> None:
    """A limit below 0 or above 200 is refused."""
    with pytest.raises(ValidationFailed, match="limit"):
        messages(api, limit=limit)


def downloaded(store: Store, run_id: UUID) -> Raw:
    """The file a download hands out."""
    answer = store.read(lambda tx: download_logs(tx, run_id))
    assert isinstance(answer, Raw)
    return answer


def test_the_log_of_a_run_is_downloaded_as_a_table(api: LocalClient, store: Store) -> None:
    """Every line of the run, however many, in CSV that keeps quotes and line breaks."""
    run = make_run(api, make_flow(api), "nightly")
    lines = [line(f"line {number}", second=number, run=run) for number in range(250)]
    api.call(CREATE_LOGS, body=[*lines, line('a "b",\nc', second=300, run=run), line("elsewhere")])

    file = downloaded(store, run.id)

    head, *rows = csv.reader(io.StringIO(file.content.decode()))
    assert head == ["timestamp", "level", "flow_run_id", "task_run_id", "message"]
    assert len(rows) == 251
    assert rows[-1] == ["2026-01-01 00:05:00+00:00", "20", str(run.id), "", 'a "b",\nc']
    assert file.media_type.startswith("text/csv")
    assert "nightly" in file.headers["Content-Disposition"]


@pytest.mark.parametrize("message", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_a_table_holds_no_formulas(api: LocalClient, store: Store, message: str) -> None:
    """A message that a spreadsheet would run as a formula is text in it."""
    run = make_run(api, make_flow(api))
    api.call(CREATE_LOGS, body=[line(message, run=run)])

    [_, row] = csv.reader(io.StringIO(downloaded(store, run.id).content.decode()))

    assert row[-1] == "'" + message


@pytest.mark.parametrize("name", ['a"; filename="b', "x\r\nSet-Cookie: a=b", "naïve ☃"])
def test_the_name_of_a_run_stays_inside_its_header(api: LocalClient, store: Store, name: str) -> None:
    """A name is text of users: in the header of a download it can neither end the value nor begin a header."""
    run = make_run(api, make_flow(api), name)

    header = downloaded(store, run.id).headers["Content-Disposition"]

    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2


def test_a_run_that_is_not_there_has_no_log(api: LocalClient) -> None:
    """Downloading the log of an unknown run says that it is not found."""
    with pytest.raises(ObjectNotFound):
        api.call(DOWNLOAD_LOGS, id=uuid7())


def test_g13_a_broken_line_does_not_break_the_list(sqlite_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A line whose time cannot be read is left out and reported; in the download it is there as it is."""
    api = LocalClient(sqlite_store)
    run = make_run(api, make_flow(api))
    api.call(CREATE_LOGS, body=[line(str(number), second=number, run=run) for number in range(3)])
    broken = api.call(READ_LOGS, body=ReadLogs())[1].id
    spoil(sqlite_store, LOG, broken, "timestamp", "soon")

    assert sorted(messages(api)) == ["0", "2"]
    assert str(broken) in caplog.text
    assert downloaded(sqlite_store, run.id).content.count(b"\r\n") == 4
