"""Rows of runs as structs, with their state in force and where they run."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, Select, Table, select

from headrace.schemas.flow_runs import FlowRun
from headrace.schemas.states import FINAL, State, StateType
from headrace.schemas.task_runs import TaskRun
from headrace.server.store.tables import FLOW_RUN, FLOW_RUN_STATE, TASK_RUN, TASK_RUN_STATE, WORK_POOL, WORK_QUEUE

_STATE = ("id", "type", "name", "timestamp", "message", "data", "state_details")
_MARK = "of_state_"
_OF_STATE = tuple((name, _MARK + name) for name in _STATE)


def _columns(table: Table, struct: type[msgspec.Struct], states: Table) -> list[Any]:
    own = [table.c[name] for name in struct.__struct_fields__ if name in table.c]
    return [*own, table.c.state_timestamp, *(states.c[name].label(_MARK + name) for name in _STATE)]


SELECT_FLOW_RUNS: Select[Any] = (
    select(
        *_columns(FLOW_RUN, FlowRun, FLOW_RUN_STATE),
        WORK_POOL.c.id.label("work_pool_id"),
        WORK_POOL.c.name.label("work_pool_name"),
    )
    .select_from(FLOW_RUN)
    .outerjoin(FLOW_RUN_STATE, FLOW_RUN_STATE.c.id == FLOW_RUN.c.state_id)
    .outerjoin(WORK_QUEUE, WORK_QUEUE.c.id == FLOW_RUN.c.work_queue_id)
    .outerjoin(WORK_POOL, WORK_POOL.c.id == WORK_QUEUE.c.work_pool_id)
)
"""Flow runs as `read_flow_run_row` reads them."""

SELECT_TASK_RUNS: Select[Any] = (
    select(*_columns(TASK_RUN, TaskRun, TASK_RUN_STATE))
    .select_from(TASK_RUN)
    .outerjoin(TASK_RUN_STATE, TASK_RUN_STATE.c.id == TASK_RUN.c.state_id)
)
"""Task runs as `read_task_run_row` reads them."""


# plain `str`, as msgspec takes no names of SQLAlchemy's own class for keys; and read once, not of each row
_FLOW_RUN_NAMES = tuple(map(str, SELECT_FLOW_RUNS.selected_columns.keys()))
_TASK_RUN_NAMES = tuple(map(str, SELECT_TASK_RUNS.selected_columns.keys()))


def _with_state(names: tuple[str, ...], row: Row[Any], now: datetime) -> dict[str, Any]:
    values = dict(zip(names, row, strict=True))
    if values[_MARK + "id"] is not None:
        values["state"] = {name: values[label] for name, label in _OF_STATE}
    values.update(estimates(values, now))
    return values


def estimates(values: Mapping[str, Any], now: datetime) -> dict[str, float]:
    """How long a run has run by now, and how late it began or is, in seconds.

    Args:
        values: columns of the run.
        now: the present moment.
    """
    running = values["state_type"] == StateType.RUNNING
    so_far = (now - values["state_timestamp"]).total_seconds() if running else 0.0
    expected, started = values["expected_start_time"], values["start_time"]
    waiting = values["state_type"] is not None and values["state_type"] not in FINAL
    begun = started or (now if waiting else expected)
    late = (begun - expected).total_seconds() if expected and begun else 0.0
    return {
        "estimated_run_time": values["total_run_time"] + max(so_far, 0.0),
        "estimated_start_time_delta": max(late, 0.0),
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
    return msgspec.convert(known | estimates(values, now) | more | {"state": state}, FlowRun)
