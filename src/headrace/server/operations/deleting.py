"""Deleting things with what belongs to them; there are no foreign keys on the tables that are written often."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, or_, select, update

from headrace.server.operations.object_events import tell_of_deployments
from headrace.server.operations.run_rows import STARTED_BY_OTHERS
from headrace.server.operations.slots import free
from headrace.server.store.tables import (
    CONCURRENCY_LIMIT,
    DEPLOYMENT,
    DEPLOYMENT_SCHEDULE,
    FLOW_RUN,
    FLOW_RUN_INPUT,
    FLOW_RUN_STATE,
    FLOW_RUN_TAG,
    LOG,
    RUN_KEY,
    SLOT_LEASE,
    TASK_RUN,
    TASK_RUN_STATE,
    TASK_RUN_TAG,
)
from headrace.server.store.transaction import Tx

AT_ONCE = 500
"""How many flow runs one statement deletes; a flow may have had a million of them."""


def delete_flow_runs(tx: Tx, ids: Sequence[UUID]) -> int:
    """Delete flow runs with their states, inputs, task runs, slots and log lines; returns how many there were.

    Their child runs stay, as runs of their own.
    """
    return sum(_delete_flow_runs(tx, ids[start : start + AT_ONCE]) for start in range(0, len(ids), AT_ONCE))


def _delete_flow_runs(tx: Tx, ids: Sequence[UUID]) -> int:
    tasks = select(TASK_RUN.c.id).where(TASK_RUN.c.flow_run_id.in_(ids))
    _orphan(tx, tasks)
    tx.execute(delete(TASK_RUN_STATE).where(TASK_RUN_STATE.c.task_run_id.in_(tasks)))
    tx.execute(delete(TASK_RUN_TAG).where(TASK_RUN_TAG.c.run_id.in_(tasks)))
    held = or_(SLOT_LEASE.c.holder_id.in_(ids), SLOT_LEASE.c.holder_id.in_(tasks))
    free(tx, delete(SLOT_LEASE).where(held))
    for table in (TASK_RUN, LOG, FLOW_RUN_STATE, FLOW_RUN_INPUT):
        tx.execute(delete(table).where(table.c.flow_run_id.in_(ids)))
    deleted = tx.execute(delete(FLOW_RUN).where(FLOW_RUN.c.id.in_(ids))).rowcount
    tx.execute(delete(FLOW_RUN_TAG).where(FLOW_RUN_TAG.c.run_id.in_(ids)))  # after the runs, as who changes them
    tx.execute(delete(RUN_KEY).where(RUN_KEY.c.flow_run_id.in_(ids)))
    return deleted


def _orphan(tx: Tx, tasks: Select[Any] | Sequence[UUID]) -> None:
    """Let the runs below these task runs have no parent: lists that leave out child runs show them from here on."""
    below = update(FLOW_RUN).where(FLOW_RUN.c.parent_task_run_id.in_(tasks))
    tx.execute(below.values(parent_task_run_id=None))


def delete_task_runs(tx: Tx, ids: Sequence[UUID]) -> int:
    """Delete task runs with their states and log lines; returns how many there were."""
    _orphan(tx, ids)
    tx.execute(delete(TASK_RUN_STATE).where(TASK_RUN_STATE.c.task_run_id.in_(ids)))
    tx.execute(delete(TASK_RUN_TAG).where(TASK_RUN_TAG.c.run_id.in_(ids)))
    tx.execute(delete(LOG).where(LOG.c.task_run_id.in_(ids)))
    free(tx, delete(SLOT_LEASE).where(SLOT_LEASE.c.holder_id.in_(ids)))
    return tx.execute(delete(TASK_RUN).where(TASK_RUN.c.id.in_(ids))).rowcount


def delete_deployments(tx: Tx, ids: Sequence[UUID]) -> int:
    """Delete deployments with their schedules, limits and the runs that are only scheduled; past runs stay."""
    locked = select(DEPLOYMENT.c.id).where(DEPLOYMENT.c.id.in_(ids)).order_by(DEPLOYMENT.c.id).with_for_update()
    tx.execute(locked)  # no scheduler inserts runs from here on  # G3
    tell_of_deployments(tx, "deleted", ids)
    # nobody would start them any more
    waiting = (FLOW_RUN.c.deployment_id.in_(ids), FLOW_RUN.c.state_type == "SCHEDULED", STARTED_BY_OTHERS)
    delete_flow_runs(tx, list(tx.execute(select(FLOW_RUN.c.id).where(*waiting)).scalars()))
    tx.execute(update(FLOW_RUN).where(FLOW_RUN.c.deployment_id.in_(ids)).values(deployment_id=None))
    own = select(CONCURRENCY_LIMIT.c.id).where(CONCURRENCY_LIMIT.c.name.in_([f"deployment:{id}" for id in ids]))
    limit_ids = list(tx.execute(own).scalars())  # a limit that deployments share stays
    tx.execute(delete(SLOT_LEASE).where(SLOT_LEASE.c.limit_id.in_(limit_ids)))
    tx.execute(delete(CONCURRENCY_LIMIT).where(CONCURRENCY_LIMIT.c.id.in_(limit_ids)))
    tx.execute(delete(DEPLOYMENT_SCHEDULE).where(DEPLOYMENT_SCHEDULE.c.deployment_id.in_(ids)))
    return tx.execute(delete(DEPLOYMENT).where(DEPLOYMENT.c.id.in_(ids))).rowcount
