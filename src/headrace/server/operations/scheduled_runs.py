"""Which scheduled runs a worker may take now, and who holds the slots of a queue or pool.

A pool or queue that is paused gives nothing. What is free is the limit less the runs that are pending or running; the
queue of the first priority is served first, and within a queue the run that has waited longest.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, select, update

from headrace.exceptions import ObjectNotFound
from headrace.schemas.deployments import (
    GET_SCHEDULED_FLOW_RUNS_FOR_DEPLOYMENTS,
    DeploymentStatus,
    GetScheduledFlowRunsForDeployments,
)
from headrace.schemas.flow_runs import FlowRun
from headrace.schemas.states import StateType
from headrace.schemas.work_pools import (
    GET_SCHEDULED_FLOW_RUNS,
    READ_WORK_POOL_CONCURRENCY_STATUS,
    FlowRunSlotSummary,
    GetScheduledFlowRuns,
    ReadWorkPoolConcurrencyStatus,
    WorkerFlowRun,
    WorkPoolConcurrencyStatus,
    WorkQueueConcurrencyStatusDetail,
    WorkQueueStatus,
)
from headrace.schemas.work_queues import (
    READ_WORK_QUEUE_CONCURRENCY_STATUS,
    READ_WORK_QUEUE_RUNS,
    ReadWorkQueueConcurrencyStatus,
    ReadWorkQueueRuns,
    WorkQueueConcurrencyStatus,
)
from headrace.server.operations.object_events import change_status
from headrace.server.operations.paging import listed, page_size
from headrace.server.operations.registry import implements
from headrace.server.operations.run_rows import SELECT_FLOW_RUNS, STARTED_BY_OTHERS, read_flow_run_row
from headrace.server.operations.work_pools import HOLDING, find_pool
from headrace.server.operations.work_queues import find_queue
from headrace.server.store.tables import DEPLOYMENT, FLOW_RUN, WORK_QUEUE
from headrace.server.store.transaction import Tx

POLL_NOTED = timedelta(seconds=5)
"""A poll that comes sooner after the last one is not written down: workers that are told of each run poll often."""


def _waiting(before: datetime | None, after: datetime | None = None) -> list[ColumnElement[bool]]:
    """Conditions on runs to be taken."""
    due = FLOW_RUN.c.next_scheduled_start_time
    conditions: list[ColumnElement[bool]] = [FLOW_RUN.c.state_type == StateType.SCHEDULED, STARTED_BY_OTHERS]
    if before is not None:
        conditions.append(due <= before)
    if after is not None:
        conditions.append(due >= after)
    return conditions


def _take(tx: Tx, limit: int, *conditions: ColumnElement[bool]) -> list[FlowRun]:
    chosen = SELECT_FLOW_RUNS.where(*conditions).order_by(FLOW_RUN.c.next_scheduled_start_time, FLOW_RUN.c.id)
    return listed(tx.execute(chosen.limit(limit)), lambda row: read_flow_run_row(row, tx.now), "flow run")


def _active(tx: Tx, queues: Sequence[UUID]) -> dict[UUID, int]:
    """How many runs hold a slot of each queue."""
    counts = (
        select(FLOW_RUN.c.work_queue_id, func.count().label("active"))
        .where(FLOW_RUN.c.work_queue_id.in_(queues), FLOW_RUN.c.state_type.in_(HOLDING))
        .group_by(FLOW_RUN.c.work_queue_id)
    )
    return {row.work_queue_id: row.active for row in tx.execute(counts)}


@implements(GET_SCHEDULED_FLOW_RUNS, access="work_pools:write")
def get_scheduled_flow_runs(tx: Tx, name: str, body: GetScheduledFlowRuns) -> list[WorkerFlowRun]:
    """The runs that a worker of this pool may take, in the order to take them."""
    pool = find_pool(tx, name)
    chosen = select(WORK_QUEUE).where(WORK_QUEUE.c.work_pool_id == pool.id)
    queues = tx.execute(chosen.order_by(WORK_QUEUE.c.priority, WORK_QUEUE.c.id)).all()
    if unknown := set(body.work_queue_names) - {queue.name for queue in queues}:
        raise ObjectNotFound("Work queue", f"{name}/{min(unknown)}")
    asked = [queue for queue in queues if not body.work_queue_names or queue.name in body.work_queue_names]
    _note_poll(tx, [queue for queue in asked if not queue.is_paused])
    if pool.is_paused:
        return []
    active = _active(tx, [queue.id for queue in queues])
    free = page_size(body.limit)
    if pool.concurrency_limit is not None:
        free = min(free, pool.concurrency_limit - sum(active.values()))
    found: list[WorkerFlowRun] = []
    waiting = _waiting(body.scheduled_before, body.scheduled_after)
    for queue in asked:
        open_slots = free - len(found)
        if queue.concurrency_limit is not None:
            open_slots = min(open_slots, queue.concurrency_limit - active.get(queue.id, 0))
        if queue.is_paused or open_slots <= 0:
            continue
        for run in _take(tx, open_slots, FLOW_RUN.c.work_queue_id == queue.id, *waiting):
            run.state = None  # as the reference answers here alone: the type and the name are enough for a worker
            found.append(WorkerFlowRun(work_pool_id=pool.id, work_queue_id=queue.id, flow_run=run))
    return found


def _note_poll(tx: Tx, queues: Sequence[Row[Any]]) -> None:
    """Queues that are polled are ready, and so are their deployments."""
    stale = [q.id for q in queues if q.last_polled is None or tx.now - q.last_polled >= POLL_NOTED]
    if stale:
        tx.execute(update(WORK_QUEUE).where(WORK_QUEUE.c.id.in_(stale)).values(last_polled=tx.now))
        change_status(tx, WORK_QUEUE, WorkQueueStatus.READY, WORK_QUEUE.c.id.in_(stale))
        _note_deployments(tx, DEPLOYMENT.c.work_queue_id.in_(stale))


def _note_deployments(tx: Tx, condition: ColumnElement[bool]) -> None:
    tx.execute(update(DEPLOYMENT).where(condition).values(last_polled=tx.now))
    change_status(tx, DEPLOYMENT, DeploymentStatus.READY, condition)


@implements(GET_SCHEDULED_FLOW_RUNS_FOR_DEPLOYMENTS, access="deployments:write")
def get_scheduled_flow_runs_for_deployments(tx: Tx, body: GetScheduledFlowRunsForDeployments) -> list[FlowRun]:
    """The runs of these deployments that whoever serves them may take."""
    _note_deployments(tx, DEPLOYMENT.c.id.in_(body.deployment_ids))
    waiting = _waiting(body.scheduled_before)
    return _take(tx, page_size(body.limit), FLOW_RUN.c.deployment_id.in_(body.deployment_ids), *waiting)


@implements(READ_WORK_QUEUE_RUNS, access="work_pools:write")
def read_work_queue_runs(tx: Tx, id: UUID, body: ReadWorkQueueRuns) -> list[FlowRun]:
    """The runs of one queue that may be taken."""
    queue = find_queue(tx, WORK_QUEUE.c.id == id, key=id)
    if queue.is_paused:
        return []
    _note_poll(tx, [queue])
    free = page_size(body.limit)
    if queue.concurrency_limit is not None:
        free = min(free, queue.concurrency_limit - _active(tx, [id]).get(id, 0))
    return _take(tx, free, FLOW_RUN.c.work_queue_id == id, *_waiting(body.scheduled_before)) if free > 0 else []


@implements(READ_WORK_QUEUE_CONCURRENCY_STATUS, access="work_pools:read")
def read_work_queue_concurrency_status(
    tx: Tx, id: UUID, body: ReadWorkQueueConcurrencyStatus
) -> WorkQueueConcurrencyStatus:
    """Which runs hold the slots of a queue, a page at a time."""
    queue = find_queue(tx, WORK_QUEUE.c.id == id, key=id)
    limit, count = page_size(body.limit), _active(tx, [id]).get(id, 0)
    return WorkQueueConcurrencyStatus(
        active_slots=count,
        concurrency_limit=queue.concurrency_limit,
        flow_runs=_holders(tx, id, limit, (body.page - 1) * limit),
        count=count,
        limit=limit,
        page=body.page,
        pages=ceil(count / limit) if limit else 0,
    )


@implements(READ_WORK_POOL_CONCURRENCY_STATUS, access="work_pools:read")
def read_work_pool_concurrency_status(
    tx: Tx, name: str, body: ReadWorkPoolConcurrencyStatus
) -> WorkPoolConcurrencyStatus:
    """Which runs hold the slots of a pool, by queue, a page of queues at a time."""
    pool = find_pool(tx, name)
    chosen = select(WORK_QUEUE).where(WORK_QUEUE.c.work_pool_id == pool.id)
    queues = tx.execute(chosen.order_by(WORK_QUEUE.c.priority, WORK_QUEUE.c.id)).all()
    active = _active(tx, [queue.id for queue in queues])
    limit = page_size(body.limit)
    shown = queues[(body.page - 1) * limit :][:limit]
    return WorkPoolConcurrencyStatus(
        active_slots=sum(active.values()),
        concurrency_limit=pool.concurrency_limit,
        count=len(queues),
        limit=limit,
        page=body.page,
        pages=ceil(len(queues) / limit) if limit else 0,
        queues=[
            WorkQueueConcurrencyStatusDetail(
                queue_id=queue.id,
                queue_name=queue.name,
                active_slots=active.get(queue.id, 0),
                concurrency_limit=queue.concurrency_limit,
                flow_run_count=active.get(queue.id, 0),
                flow_runs=_holders(tx, queue.id, body.flow_run_limit, 0),
            )
            for queue in shown
        ],
    )


def _holders(tx: Tx, queue_id: UUID, limit: int, offset: int) -> list[FlowRunSlotSummary]:
    fields = ("id", "name", "state_type", "state_name", "start_time", "state_timestamp")
    chosen = (
        select(*(FLOW_RUN.c[name] for name in fields))
        .where(FLOW_RUN.c.work_queue_id == queue_id, FLOW_RUN.c.state_type.in_(HOLDING))
        .order_by(FLOW_RUN.c.state_timestamp, FLOW_RUN.c.id)
    )
    return [
        FlowRunSlotSummary(
            id=row.id,
            name=row.name,
            state_type=StateType(row.state_type),
            state_name=row.state_name,
            start_time=row.start_time,
            state_timestamp=row.state_timestamp,
            time_in_current_state=max((tx.now - row.state_timestamp).total_seconds(), 0.0),
        )
        for row in tx.execute(chosen.limit(limit).offset(offset))
    ]
