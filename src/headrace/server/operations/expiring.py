"""Deleting flow runs that ended long ago, in pieces so small that nobody waits for long.

A run goes with its child runs, and only when all of these have ended. What is inside goes first, children before their
parents: whoever is interrupted leaves runs that are found again, and nothing that is not.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Row, delete, exists, nulls_first, or_, select

from headrace.schemas.states import FINAL
from headrace.server.operations.artifacts import delete_artifacts
from headrace.server.operations.deleting import delete_flow_runs, delete_task_runs
from headrace.server.store.long_lists import among
from headrace.server.store.plan_hints import unindexed
from headrace.server.store.tables import ARTIFACT, FLOW_RUN, LOG, TASK_RUN
from headrace.server.store.transaction import Tx

ENDED = tuple(kind.value for kind in FINAL)
"""The types of what has ended."""
ROWS_OF_TASK_RUN = 5
"""About how many rows a task run has, with its states and tags."""
LOOKED_BELOW = 10
"""Of how many runs the children are looked up at once: each may have a hundred thousand task runs to look through."""
_HAS_PARENT = exists().where(TASK_RUN.c.id == FLOW_RUN.c.parent_task_run_id)
_CHILDREN = select(
    FLOW_RUN.c.id, FLOW_RUN.c.state_type, FLOW_RUN.c.end_time, TASK_RUN.c.flow_run_id.label("parent_id")
).join(TASK_RUN, TASK_RUN.c.id == FLOW_RUN.c.parent_task_run_id)


def expired_flow_runs(tx: Tx, since: datetime, before: datetime, limit: int) -> Sequence[Row[Any]]:
    """The id and the end of flow runs that ended in a span of time, the oldest first.

    Child runs are left out, as they go with their parents; but not those whose parent was deleted without them.

    Args:
        tx: a transaction.
        since: when they ended at the earliest.
        before: what their ends are earlier than.
        limit: how many at most.
    """
    ended = FLOW_RUN.c.end_time
    found = select(FLOW_RUN.c.id, ended).where(
        ended >= since, ended < before, unindexed(FLOW_RUN.c.state_type).in_(ENDED)
    )
    alone = found.where(or_(unindexed(FLOW_RUN.c.parent_task_run_id).is_(None), ~_HAS_PARENT))
    return tx.execute(alone.order_by(nulls_first(ended)).limit(limit)).all()  # in the words of the index


def ended_trees(tx: Tx, ids: Sequence[UUID], before: datetime) -> list[UUID]:
    """Flow runs and all that ran below them, children before their parents; without those that have not ended below.

    Args:
        tx: a transaction.
        ids: the runs at the top.
        before: what the ends of all that ran below are earlier than.
    """
    tops = {id: id for id in ids}
    unended: set[UUID] = set()
    runs, start = list(ids), 0
    while parents := runs[start : start + LOOKED_BELOW]:
        start += len(parents)
        for row in tx.execute(_CHILDREN.where(among(TASK_RUN.c.flow_run_id, parents))):
            if row.id not in tops:
                tops[row.id] = tops[row.parent_id]
                runs.append(row.id)
            if row.state_type not in ENDED or (row.end_time is not None and row.end_time >= before):
                unended.add(tops[row.id])
    return [id for id in reversed(runs) if tops[id] not in unended]


def delete_piece(tx: Tx, ids: Sequence[UUID], limit: int) -> int | None:
    """Delete a piece of what is inside flow runs that have ended, and the runs themselves once little is left of it.

    Args:
        tx: a writing transaction.
        ids: the runs; those that have begun again, or are gone, are left alone.
        limit: about how many rows are deleted of what is inside.

    Returns:
        How many runs were deleted; None when there is more inside them.
    """
    ended = select(FLOW_RUN.c.id).where(among(FLOW_RUN.c.id, ids), FLOW_RUN.c.state_type.in_(ENDED))
    ids = list(tx.execute(ended.order_by(FLOW_RUN.c.id).with_for_update()).scalars())  # G16
    if not ids or not delete_inside(tx, ids, limit):
        return delete_flow_runs(tx, ids)
    return None


def delete_inside(tx: Tx, ids: Sequence[UUID], limit: int) -> bool:
    """Delete log lines, artifacts and task runs of flow runs; whether there may be more.

    Args:
        tx: a writing transaction.
        ids: the runs.
        limit: about how many rows are deleted.
    """
    lines = some(tx, LOG.c.id, among(LOG.c.flow_run_id, ids), limit)
    tx.execute(delete(LOG).where(among(LOG.c.id, lines)))
    limit -= len(lines)
    artifacts = some(tx, ARTIFACT.c.id, among(ARTIFACT.c.flow_run_id, ids), limit)
    delete_artifacts(tx, artifacts)
    limit -= len(artifacts)
    task_runs = some(tx, TASK_RUN.c.id, among(TASK_RUN.c.flow_run_id, ids), limit // ROWS_OF_TASK_RUN)
    delete_task_runs(tx, task_runs)
    return limit - len(task_runs) * ROWS_OF_TASK_RUN < ROWS_OF_TASK_RUN


def some(tx: Tx, ids: Column[UUID], condition: Any, limit: int) -> list[UUID]:
    """Some ids of rows that fit a condition."""
    return list(tx.execute(select(ids).where(condition).limit(limit)).scalars()) if limit > 0 else []
