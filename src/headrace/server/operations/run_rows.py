"""Rows of runs as structs, with their state in force and where they run."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, Select, Table, or_, select

from headrace.schemas.flow_runs import FlowRun
from headrace.schemas.states import FINAL, State, StateType
from headrace.schemas.task_runs import TaskRun
from headrace.server.store.json_functions import member
from headrace.server.store.tables import FLOW_RUN, FLOW_RUN_STATE, TASK_RUN, TASK_RUN_STATE, WORK_POOL, WORK_QUEUE

STARTED_BY_OTHERS = or_(
    member(FLOW_RUN.c.empirical_policy, "retry_type").is_(None),
    member(FLOW_RUN.c.empirical_policy, "retry_type") != "in_process",
)
"""A scheduled run is to be started by a worker, rather than to be gone on with by a process that waits to retry it."""

_STATE = ("id", "type", "name", "timestamp", "message", "data", "state_details")
_TIMESTAMP = _STATE.index("timestamp")


def _own(table: Table, struct: type[msgspec.Struct]) -> list[Any]:
    return [table.c[name] for name in struct.__struct_fields__ if name in table.c]


def _in_force(states: Table) -> list[Any]:
    return [states.c[name].label(f"of_state_{name}") for name in _STATE]


SELECT_FLOW_RUNS: Select[Any] = (
    select(
        *_own(FLOW_RUN, FlowRun),
        WORK_POOL.c.id.label("work_pool_id"),
        WORK_POOL.c.name.label("work_pool_name"),
        *_in_force(FLOW_RUN_STATE),
    )
    .select_from(FLOW_RUN)
    .outerjoin(FLOW_RUN_STATE, FLOW_RUN_STATE.c.id == FLOW_RUN.c.state_id)
    .outerjoin(WORK_QUEUE, WORK_QUEUE.c.id == FLOW_RUN.c.work_queue_id)
    .outerjoin(WORK_POOL, WORK_POOL.c.id == WORK_QUEUE.c.work_pool_id)
)
"""Flow runs as `read_flow_run_row` reads them."""

SELECT_TASK_RUNS: Select[Any] = (
    select(*_own(TASK_RUN, TaskRun), *_in_force(TASK_RUN_STATE))
    .select_from(TASK_RUN)
    .outerjoin(TASK_RUN_STATE, TASK_RUN_STATE.c.id == TASK_RUN.c.state_id)
)
"""Task runs as `read_task_run_row` reads them."""


def _names(runs: Select[Any]) -> tuple[str, ...]:
    """The fields of a run, in front of those of its state.

    As plain `str`, for msgspec takes no names of SQLAlchemy's own class for keys; and read once, not of each row.
    """
    return tuple(map(str, runs.selected_columns.keys()[: -len(_STATE)]))


_FLOW_RUN_NAMES, _TASK_RUN_NAMES = _names(SELECT_FLOW_RUNS), _names(SELECT_TASK_RUNS)


def _with_state(names: tuple[str, ...], row: Row[Any], now: datetime) -> dict[str, Any]:
    values, state = dict(zip(names, row, strict=False)), row[len(names) :]  # what is left of the row is the state
    if state[0] is not None:
        values["state"] = dict(zip(_STATE, state, strict=True))
    values.update(estimates(values, state[_TIMESTAMP], now))
    return values


def estimates(values: Mapping[str, Any], since: datetime | None, now: datetime) -> dict[str, float]:
    """How long a run has run by now, and how late it began or is, in seconds.

    Args:
        values: columns of the run.
        since: when it got the state it is in.
        now: the present moment.
    """
    kind, expected, begun = values["state_type"], values["expected_start_time"], values["start_time"]
    so_far = (now - since).total_seconds() if kind == StateType.RUNNING and since else 0.0
    if begun is None:
        begun = now if kind is not None and kind not in FINAL else expected
    late = (begun - expected).total_seconds() if expected and begun else 0.0
    return {
        "estimated_run_time": values["total_run_time"] + (so_far if so_far > 0 else 0.0),
        "estimated_start_time_delta": late if late > 0 else 0.0,
    }


def read_flow_run_row(row: Row[Any], now: datetime) -> FlowRun:
    """A row of `SELECT_FLOW_RUNS` as the struct."""
    return msgspec.convert(_with_state(_FLOW_RUN_NAMES, row, now), FlowRun)


def read_task_run_row(row: Row[Any], now: datetime) -> TaskRun:
    """A row of `SELECT_TASK_RUNS` as the struct."""
    return msgspec.convert(_with_state(_TASK_RUN_NAMES, row, now), TaskRun)


def flow_run_of(values: Mapping[str, Any], state: State, now: datetime, **more: Any) -> FlowRun:
    """A flow run just inserted, without reading it again.

    Args:
        values: its columns.
        state: its first state.
        now: the present moment.
        more: fields that are no columns.
    """
    known = {name: values[name] for name in FlowRun.__struct_fields__ if name in values}
    return msgspec.convert(known | estimates(values, values["state_timestamp"], now) | more | {"state": state}, FlowRun)
