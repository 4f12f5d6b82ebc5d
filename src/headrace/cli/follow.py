"""Following a flow run: its log lines and changes of state as they come, until it is final."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from headrace.client import Client
from headrace.schemas.filters import IdIn, LogFilter, LogSort, TaskRunFilter, TimeRange
from headrace.schemas.flow_runs import READ_FLOW_RUN, FlowRun
from headrace.schemas.logs import READ_LOGS, Log, ReadLogs
from headrace.schemas.states import State
from headrace.schemas.task_runs import READ_TASK_RUNS, ReadTaskRuns

PAGE = 200
OVERLAP = timedelta(seconds=2)  # lines of several processes arrive a little out of order
LAST_LINES = 0.5  # seconds that lines may arrive after the final state, from a worker's side


def read_log(client: Client, flow_run_id: UUID, after: datetime | None = None) -> Iterator[Log]:
    """All log lines of a flow run, oldest first, a page at a time; the name of each is that of its run.

    Args:
        client: who asks the API.
        flow_run_id: the run.
        after: leave out lines older than this.
    """
    chosen = LogFilter(flow_run_id=IdIn(any_=[flow_run_id]), timestamp=TimeRange(after_=after) if after else None)
    offset = 0
    while True:
        body = ReadLogs(logs=chosen, limit=PAGE, offset=offset, sort=LogSort.TIMESTAMP_ASC)
        page = client.call(READ_LOGS, body=body)
        _name_by_run(client, page)
        yield from page
        if len(page) < PAGE:
            return
        offset += PAGE


def _name_by_run(client: Client, lines: list[Log]) -> None:
    """Say which task run a line is from, in place of the logger's name."""
    ids = list({line.task_run_id for line in lines if line.task_run_id is not None})
    if not ids:
        return
    runs = client.call(READ_TASK_RUNS, body=ReadTaskRuns(task_runs=TaskRunFilter(id=IdIn(any_=ids))))
    names = {run.id: run.name for run in runs}
    for line in lines:
        line.name = (names.get(line.task_run_id) if line.task_run_id else None) or line.name


def follow(
    client: Client, flow_run_id: UUID, *, timeout: float | None = None, interval: float = 0.25
) -> Iterator[Log | State]:
    """Log lines and states of a run in the order they are seen; ends when the run is final.

    Args:
        client: who asks the API.
        flow_run_id: the run.
        timeout: seconds after which to give up; None waits for ever.
        interval: seconds between looks.

    Raises:
        TimeoutError: the run was not final in time.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    seen: set[UUID] = set()
    state_id: UUID | None = None
    newest: datetime | None = None
    while True:
        run: FlowRun = client.call(READ_FLOW_RUN, id=flow_run_id)
        final = run.state is not None and run.state.is_final()
        if final:
            time.sleep(LAST_LINES)
        for line in read_log(client, flow_run_id, newest - OVERLAP if newest else None):
            newest = max(newest, line.timestamp) if newest else line.timestamp
            if line.id not in seen:
                seen.add(line.id)
                yield line
        if run.state is not None and run.state.id != state_id:
            state_id = run.state.id
            yield run.state
        if final:
            return
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"Flow run '{run.name}' was not final after {timeout:g} seconds.")
        time.sleep(interval)
