"""Closing what ran inside a flow run that has crashed or was cancelled.  # G6, G12

Open task runs, and unfinished child runs, get the end their parent had. A child with a deployment runs elsewhere and
has a worker of its own: it outlives a crash, and is told to cancel.

News about a task run that its process had written to its spool may arrive after this, and say what really happened.
They are older than the end written here and still have to win; so `task_run.state_timestamp`, by which old news are
told from new, keeps the moment of the last real news.  # G11
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, Select, bindparam, select

from headrace._internal.ids import uuid7
from headrace.schemas.recording import TaskRunRecord
from headrace.schemas.states import FINAL, State, StateDetails, StateType
from headrace.server.operations.facts import lock_flow_run
from headrace.server.operations.rows import values_of
from headrace.server.operations.run_events import states_before, tell_of_task_runs
from headrace.server.operations.slots import free
from headrace.server.operations.transitions import reconcile, task_run_state_row
from headrace.server.rules.deadlines import when_parent_ended
from headrace.server.store.tables import FLOW_RUN, SLOT_LEASE, TASK_RUN, TASK_RUN_STATE
from headrace.server.store.transaction import Tx

OPEN = tuple(kind.value for kind in StateType if kind not in FINAL)
"""The types of what has not ended."""
MESSAGES = {
    StateType.CRASHED: "Its flow run crashed while this task run was open.",
    StateType.CANCELLED: "Its flow run was cancelled while this task run was open.",
}
BATCH = 1000

_NAMES = ("id", "flow_run_id", "task_key", "dynamic_key", "name", "run_count")
_OPEN_TASK_RUNS = (
    select(*(TASK_RUN.c[name] for name in TaskRunRecord.__struct_fields__ if name in TASK_RUN.c))
    .where(TASK_RUN.c.flow_run_id == bindparam("run_id"), TASK_RUN.c.state_type.in_(OPEN))
    .order_by(TASK_RUN.c.id)  # locked in id order  # G16
    .limit(BATCH)
    .with_for_update()
)
_END_TASK_RUN = (
    TASK_RUN.update()
    .where(TASK_RUN.c.id == bindparam("run_id"))
    .values(
        state_id=bindparam("new_state_id"),
        state_type=bindparam("new_type"),
        state_name=bindparam("new_name"),
        next_scheduled_start_time=None,
        start_time=bindparam("new_start"),
        end_time=bindparam("new_end"),
        updated=bindparam("new_end"),
    )
)
_FREE = SLOT_LEASE.delete().where(SLOT_LEASE.c.holder_id.in_(bindparam("holders", expanding=True)))
_CHILDREN = (
    select(FLOW_RUN.c.id)
    .join(TASK_RUN, TASK_RUN.c.id == FLOW_RUN.c.parent_task_run_id)
    .where(TASK_RUN.c.flow_run_id == bindparam("run_id"), FLOW_RUN.c.state_type.in_(OPEN))
    .order_by(FLOW_RUN.c.id)
    .limit(BATCH)
)


def close_inside(tx: Tx, run_id: UUID, ended: StateType) -> int:
    """End what is open inside a flow run, and inside its child runs; at most `BATCH` of each kind a run.

    Args:
        tx: a writing transaction.
        run_id: the flow run that has ended.
        ended: how: CRASHED or CANCELLED.

    Returns:
        How many runs were changed.
    """
    changed = 0
    for [child_id] in _rows(tx, _CHILDREN, run_id):
        child = lock_flow_run(tx, child_id)
        proposed = when_parent_ended(child, ended)
        if proposed is None:
            continue
        written = reconcile(tx, child, proposed).result.state
        changed += 1
        if written is not None and written.type in MESSAGES:
            changed += close_inside(tx, child_id, written.type)
    return changed + _close_task_runs(tx, run_id, ended)


def _close_task_runs(tx: Tx, run_id: UUID, ended: StateType) -> int:
    states, changes, records = [], [], []
    for row in _rows(tx, _OPEN_TASK_RUNS, run_id):
        details = StateDetails(flow_run_id=run_id, task_run_id=row.id)
        state = State(id=uuid7(), type=ended, timestamp=tx.now, message=MESSAGES[ended], state_details=details)
        states.append(task_run_state_row(row.id, state))
        record = _record(row)
        record.start_time, record.end_time, record.states = row.start_time or tx.now, tx.now, [state]
        records.append(record)
        change = {"run_id": row.id, "new_state_id": state.id, "new_type": ended.value, "new_name": state.name}
        changes.append({**change, "new_start": record.start_time, "new_end": tx.now})
    if states:
        before = states_before(tx, records)
        tx.execute(TASK_RUN_STATE.insert(), states)
        tx.execute(_END_TASK_RUN, changes)
        tell_of_task_runs(tx, records, before)  # G8
        free(tx, _FREE, {"holders": [change["run_id"] for change in changes]})
    return len(states)


def _record(row: Row[Any]) -> TaskRunRecord:
    """What is told of a task run; of one that cannot be read, what names it.  # G13"""
    values = values_of(row)
    try:
        return msgspec.convert(values, TaskRunRecord)
    except msgspec.ValidationError:
        return TaskRunRecord(**{name: values[name] for name in _NAMES})


def _rows(tx: Tx, statement: Select[Any], run_id: UUID) -> Sequence[Any]:
    return tx.execute(statement, {"run_id": run_id}).all()
