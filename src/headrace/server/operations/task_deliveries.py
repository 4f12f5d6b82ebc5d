"""Background task runs on their way to the processes that serve their tasks.

A run that waits has a row, see `deliveries`, written with its state. The row is good as long as the run is in that very
state: so a run whose taker died, or was never heard of again, is handed out once more, and one that was begun is not.
Should two processes have the same run all the same, the rules let only one of them begin it (G4).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, not_, select

from headrace.schemas.task_runs import TaskRun
from headrace.server.events import hints
from headrace.server.operations import deliveries
from headrace.server.operations.run_rows import SELECT_TASK_RUNS, read_task_run_row
from headrace.server.store.long_lists import among
from headrace.server.store.statements import upsert
from headrace.server.store.tables import TASK_DELIVERY, TASK_RUN
from headrace.server.store.transaction import Tx

WAITING = "task-runs"
"""The topic on which servers of tasks are told that a run may wait for them."""
LEASE = timedelta(seconds=30)
_ROW = TASK_DELIVERY.c
_IS_GOOD = exists(select(1).where(TASK_RUN.c.id == _ROW.task_run_id, TASK_RUN.c.state_id == _ROW.state_id))


def deliver(tx: Tx, run_id: UUID, task_key: str, state_id: UUID, due: datetime) -> None:
    """Have a run handed to whoever serves its task.

    Args:
        tx: the transaction that writes the state.
        run_id: the run.
        task_key: its task.
        state_id: the state; when the run leaves it the delivery is void.
        due: when.
    """
    row = {"task_run_id": run_id, "task_key": task_key, "state_id": state_id, "since": due, "due": due, "holder": None}
    upsert(tx, TASK_DELIVERY, [row], index=["task_run_id"], update=["state_id", "since", "due", "holder"])
    tx.after_commit(tell)


def tell() -> None:
    """Tell those who serve tasks to look."""
    hints.publish(WAITING, {})


def next_due(tx: Tx, task_keys: Sequence[str]) -> datetime | None:
    """When the next run of these tasks is due; None when none waits."""
    return deliveries.next_due(tx, TASK_DELIVERY, among(_ROW.task_key, task_keys))


def take(tx: Tx, task_keys: Sequence[str], holder: UUID) -> TaskRun | None:
    """Take the run of these tasks that has waited longest.

    Args:
        tx: a writing transaction.
        task_keys: of the tasks.
        holder: who takes it, for so long as the lease lasts.
    """
    which = among(_ROW.task_key, task_keys)
    while (row := deliveries.take_first(tx, TASK_DELIVERY, which, holder=holder, lease=LEASE)) is not None:
        waits = SELECT_TASK_RUNS.where(TASK_RUN.c.id == row.task_run_id, TASK_RUN.c.state_id == row.state_id)
        if (run := tx.execute(waits).one_or_none()) is not None:
            return read_task_run_row(run, tx.now)
        tx.execute(delete(TASK_DELIVERY).where(_ROW.task_run_id == row.task_run_id))
    return None


def give_back(tx: Tx, run_id: UUID, holder: UUID) -> None:
    """Let a run be taken by another at once, before those that came after it."""
    if deliveries.give_back(tx, TASK_DELIVERY, _ROW.task_run_id == run_id, _ROW.holder == holder):
        tx.after_commit(tell)


def keep(tx: Tx, holder: UUID) -> int:
    """Renew the leases of what a holder has and has not begun; returns of how many."""
    held: ColumnElement[bool] = _ROW.holder == holder
    tx.execute(delete(TASK_DELIVERY).where(held, not_(_IS_GOOD)))
    return deliveries.renew(tx, TASK_DELIVERY, held, lease=LEASE)
