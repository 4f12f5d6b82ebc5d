"""Figures about many runs: histories in buckets of time, lateness, counts for the pages.

The database counts and adds up; a call costs what its filters find, and answers with a few hundred rows at most.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, case, func, select

from headrace.exceptions import ValidationFailed
from headrace.schemas.flow_runs import (
    AVERAGE_FLOW_RUN_LATENESS,
    COUNT_TASK_RUNS_BY_FLOW_RUN,
    FLOW_RUN_HISTORY,
    READ_FLOW_RUN_HISTORY,
    AverageFlowRunLateness,
    CountTaskRunsByFlowRun,
    FlowRunHistory,
    ReadFlowRunHistory,
    SimpleFlowRun,
)
from headrace.schemas.history import CountByState, HistoryResponse, HistoryResponseState
from headrace.schemas.states import FINAL, StateType
from headrace.schemas.task_runs import (
    READ_DASHBOARD_TASK_RUN_COUNTS,
    READ_TASK_RUN_COUNTS_BY_STATE,
    TASK_RUN_HISTORY,
    ReadDashboardTaskRunCounts,
    ReadTaskRunCountsByState,
    TaskRunCount,
    TaskRunHistory,
)
from headrace.server.operations.flow_runs import chosen_flow_runs, flow_run_rows
from headrace.server.operations.paging import listed
from headrace.server.operations.registry import implements
from headrace.server.operations.rows import values_of
from headrace.server.operations.run_rows import estimates
from headrace.server.operations.task_runs import chosen_task_runs
from headrace.server.store.long_lists import by_ids
from headrace.server.store.tables import FLOW_RUN, TASK_RUN
from headrace.server.store.tables.types import aware
from headrace.server.store.time_functions import elapsed, moment
from headrace.server.store.transaction import Tx

BUCKETS = 500
"""Most buckets of one history: what a page can show, and a bound on the work one call makes."""
DASHBOARD_BUCKETS = 20
SECOND = 1_000_000
"""Microseconds in a second."""
_FACTS = ("state_type", "state_timestamp", "expected_start_time", "start_time", "total_run_time")
_KINDS = frozenset(kind.value for kind in StateType)
_FAILED = (StateType.FAILED.value, StateType.CRASHED.value)


@implements(FLOW_RUN_HISTORY, access="runs:read")
def flow_run_history(tx: Tx, body: FlowRunHistory) -> list[HistoryResponse]:
    """Flow runs expected in a span of time, in buckets, counted by state."""
    return _history(tx, body, FLOW_RUN)


@implements(TASK_RUN_HISTORY, access="runs:read")
def task_run_history(tx: Tx, body: TaskRunHistory) -> list[HistoryResponse]:
    """Task runs expected in a span of time, in buckets, counted by state."""
    return _history(tx, body, TASK_RUN)


def _history(tx: Tx, body: FlowRunHistory | TaskRunHistory, table: Table) -> list[HistoryResponse]:
    edges = bucket_edges(body.history_start, body.history_end, body.history_interval_seconds)
    expected, width = table.c.expected_start_time, int(body.history_interval_seconds * SECOND)
    group = ((elapsed(moment(edges[0]), expected) // width).label("bucket"), table.c.state_type, table.c.state_name)
    sums = (func.count().label("runs"), func.sum(_ran(table, tx.now)), func.sum(_late(table, tx.now)))
    chosen = chosen_flow_runs if table is FLOW_RUN else chosen_task_runs
    statement = chosen(select(*group, *sums), body).where(expected >= edges[0], expected < edges[-1])
    rows: Sequence[Any] = tx.execute(statement.group_by(*group).order_by(*group)).all()
    buckets: list[list[HistoryResponseState]] = [[] for _ in edges[1:]]
    for at, kind, name, runs, ran, late in rows:
        if kind in _KINDS:  # G13
            buckets[min(at, len(buckets) - 1)].append(
                HistoryResponseState(
                    state_type=StateType(kind),
                    state_name=name,
                    count_runs=runs,
                    sum_estimated_run_time=float(ran),
                    sum_estimated_lateness=float(late),
                )
            )
    return [
        HistoryResponse(interval_start=start, interval_end=end, states=states)
        for start, end, states in zip(edges, edges[1:], buckets, strict=False)
    ]


def bucket_edges(start: datetime, end: datetime, seconds: float) -> list[datetime]:
    """Where the buckets of a history begin and end.

    Returns:
        At least one edge, and not more than `BUCKETS` + 1; a span that ends before it begins has no bucket.

    Raises:
        ValidationFailed: a bucket is shorter than a second, or so long that time itself ends before it.
    """
    if not seconds >= 1:
        raise ValidationFailed(f"History interval is {seconds} seconds: it must not be less than 1 second.")
    start, end = aware(start), aware(end)
    try:
        width = timedelta(seconds=seconds)
        count = min(max(0, int(-(-(end - start).total_seconds() // seconds))), BUCKETS)
        return [start + width * index for index in range(count + 1)]
    except OverflowError:
        raise ValidationFailed(f"History interval of {seconds} seconds is too long. Give a shorter one.") from None


def _late(table: Table, now: datetime) -> ColumnElement[Any]:
    """Seconds by which a run began too late, or is late by now; as `estimates` reckons them."""
    expected, start = table.c.expected_start_time, table.c.start_time
    waits = table.c.state_type.not_in([kind.value for kind in FINAL])
    late = case((start.is_not(None), elapsed(expected, start)), (waits, elapsed(expected, moment(now))), else_=0)
    return case((late > 0, late), else_=0) / float(SECOND)


def _ran(table: Table, now: datetime) -> ColumnElement[Any]:
    """Seconds a run has run by now; as `estimates` reckons them."""
    so_far = elapsed(table.c.state_timestamp, moment(now))
    runs = (table.c.state_type == StateType.RUNNING.value) & (so_far > 0)
    return table.c.total_run_time + case((runs, so_far), else_=0) / float(SECOND)


@implements(AVERAGE_FLOW_RUN_LATENESS, access="runs:read")
def average_flow_run_lateness(tx: Tx, body: AverageFlowRunLateness) -> float | None:
    """How late the flow runs that filters find began or are, in seconds on average; null when there are none."""
    average = tx.execute(chosen_flow_runs(select(func.avg(_late(FLOW_RUN, tx.now))), body)).scalar_one()
    return None if average is None else float(average)


_HISTORY = by_ids(select(FLOW_RUN.c.id, *(FLOW_RUN.c[name] for name in _FACTS)), FLOW_RUN.c.id)


@implements(READ_FLOW_RUN_HISTORY, access="runs:read")
def read_flow_run_history(tx: Tx, body: ReadFlowRunHistory) -> list[SimpleFlowRun]:
    """Flow runs as a page draws them: when, how long, how late, in which state."""
    rows = flow_run_rows(tx, _HISTORY, body, max(0, body.limit), body.offset)

    def read(row: Any) -> SimpleFlowRun:
        figures = estimates(values_of(row), row.state_timestamp, tx.now)
        return SimpleFlowRun(
            id=row.id,
            state_type=StateType(row.state_type),
            timestamp=row.start_time or row.expected_start_time or row.state_timestamp,
            duration=figures["estimated_run_time"],
            lateness=figures["estimated_start_time_delta"],
        )

    return listed(rows, read, "flow run")


@implements(COUNT_TASK_RUNS_BY_FLOW_RUN, access="runs:read")
def count_task_runs_by_flow_run(tx: Tx, body: CountTaskRunsByFlowRun) -> dict[str, int]:
    """How many task runs each of these flow runs has, by the flow run's id; children's stand-ins are left out."""
    stands_in = select(FLOW_RUN.c.id).where(FLOW_RUN.c.parent_task_run_id == TASK_RUN.c.id).exists()
    counts = (
        select(TASK_RUN.c.flow_run_id, func.count().label("task_runs"))
        .where(TASK_RUN.c.flow_run_id.in_(body.flow_run_ids), ~stands_in)
        .group_by(TASK_RUN.c.flow_run_id)
    )
    found = {row.flow_run_id: row.task_runs for row in tx.execute(counts)}
    return {str(flow_run_id): found.get(flow_run_id, 0) for flow_run_id in body.flow_run_ids}


@implements(READ_TASK_RUN_COUNTS_BY_STATE, access="runs:read")
def read_task_run_counts_by_state(tx: Tx, body: ReadTaskRunCountsByState) -> CountByState:
    """How many of the task runs that filters find are in each type of state."""
    kind = TASK_RUN.c.state_type
    rows: Sequence[Any] = tx.execute(chosen_task_runs(select(kind, func.count()), body).group_by(kind)).all()
    return CountByState(**{kind: runs for kind, runs in rows if kind in _KINDS})


@implements(READ_DASHBOARD_TASK_RUN_COUNTS, access="runs:read")
def read_dashboard_task_run_counts(tx: Tx, body: ReadDashboardTaskRunCounts) -> list[TaskRunCount]:
    """Completed and failed task runs since a moment, in twenty buckets of equal length."""
    span = body.task_runs.start_time
    if span is None or span.after_ is None:
        raise ValidationFailed("task_runs.start_time.after_ is required. Give the moment since when to count.")
    since, until = aware(span.after_), aware(span.before_ or tx.now)
    width = max(int((until - since).total_seconds() * SECOND) // DASHBOARD_BUCKETS, 1)
    bucket = (elapsed(moment(since), TASK_RUN.c.start_time) // width).label("bucket")
    kind = TASK_RUN.c.state_type
    columns: tuple[ColumnElement[Any], ...] = (
        bucket,
        func.sum(case((kind == StateType.COMPLETED.value, 1), else_=0)),
        func.sum(case((kind.in_(_FAILED), 1), else_=0)),
    )
    counts: list[TaskRunCount] = [{"completed": 0, "failed": 0} for _ in range(DASHBOARD_BUCKETS)]
    begun = select(*columns).where(TASK_RUN.c.start_time.is_not(None))
    rows: Sequence[Any] = tx.execute(chosen_task_runs(begun, body).group_by(bucket)).all()
    for at, completed, failed in rows:
        count = counts[min(max(at, 0), DASHBOARD_BUCKETS - 1)]
        count["completed"] += completed
        count["failed"] += failed
    return counts
