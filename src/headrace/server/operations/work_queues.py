"""Work queues: by pool and name, and by id as agents knew them."""

from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy import ColumnElement, Row, Select, delete, func, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schemas import work_pools as by_pool
from headrace.schemas import work_queues as by_id
from headrace.schemas.work_pools import (
    ReadWorkQueues,
    WorkPoolCreate,
    WorkQueueCreate,
    WorkQueueStatus,
    WorkQueueUpdate,
    WorkQueueWithStatus,
)
from headrace.schemas.work_queues import WorkQueueHealthPolicy, WorkQueueStatusDetail
from headrace.server.operations.object_events import change_status, changes_payload, tell_of_queues
from headrace.server.operations.paging import listed, page_size
from headrace.server.operations.registry import implements
from headrace.server.operations.rows import values_of
from headrace.server.operations.work_pools import HOLDING, find_pool, insert_pool
from headrace.server.store.filters import where
from headrace.server.store.statements import insert_ignore
from headrace.server.store.tables import DEPLOYMENT, FLOW_RUN, WORK_POOL, WORK_QUEUE
from headrace.server.store.transaction import Tx
from headrace.settings import get_settings

AGENT_POOL = "default-agent-pool"
"""The pool of queues that are named without one."""

_ACTIVE = (
    select(func.count())
    .select_from(FLOW_RUN)
    .where(FLOW_RUN.c.work_queue_id == WORK_QUEUE.c.id, FLOW_RUN.c.state_type.in_(HOLDING))
    .correlate(WORK_QUEUE)
    .scalar_subquery()
)
SELECT_QUEUES: Select[Any] = select(
    WORK_QUEUE, WORK_POOL.c.name.label("work_pool_name"), _ACTIVE.label("active_slots")
).join(WORK_POOL, WORK_POOL.c.id == WORK_QUEUE.c.work_pool_id)


def read_queue(row: Row[Any]) -> WorkQueueWithStatus:
    """A row of `SELECT_QUEUES` as the struct."""
    queue = msgspec.convert(values_of(row), WorkQueueWithStatus)
    if queue.concurrency_limit is None:
        queue.active_slots = None
    return queue


def find_queue(tx: Tx, *conditions: ColumnElement[bool], key: Any) -> Row[Any]:
    """The queue that conditions name, as a row of `SELECT_QUEUES`.

    Raises:
        ObjectNotFound: there is none.
    """
    row = tx.execute(SELECT_QUEUES.where(*conditions)).one_or_none()
    if row is None:
        raise ObjectNotFound("Work queue", key)
    return row


def _named(tx: Tx, pool_name: str, name: str) -> Row[Any]:
    pool = find_pool(tx, pool_name)
    return find_queue(tx, WORK_QUEUE.c.work_pool_id == pool.id, WORK_QUEUE.c.name == name, key=name)


@implements(by_pool.CREATE_WORK_QUEUE, access="work_pools:write")
def create_work_queue(tx: Tx, work_pool_name: str, body: WorkQueueCreate) -> WorkQueueWithStatus:
    """Create a queue in a pool."""
    return insert_queue(tx, find_pool(tx, work_pool_name).id, body)


@implements(by_id.CREATE_WORK_QUEUE, access="work_pools:write")
def create_work_queue_without_pool(tx: Tx, body: WorkQueueCreate) -> WorkQueueWithStatus:
    """Create a queue in the pool of queues without one."""
    return insert_queue(tx, agent_pool(tx).id, body)


def agent_pool(tx: Tx) -> Row[Any]:
    """The pool of queues that are named without one, made when it is first needed."""
    row = tx.execute(select(WORK_POOL).where(WORK_POOL.c.name == AGENT_POOL)).one_or_none()
    return row if row is not None else insert_pool(tx, WorkPoolCreate(name=AGENT_POOL, type="prefect-agent"))


def insert_queue(tx: Tx, pool_id: UUID, body: WorkQueueCreate) -> WorkQueueWithStatus:
    """Insert a queue; its priority is its own, and others of the pool give way to it.

    Raises:
        ObjectAlreadyExists: the pool has one of this name.
    """
    taken = _priorities(tx, pool_id)
    row = msgspec.structs.asdict(body) | {
        "id": uuid7(),
        "created": tx.now,
        "updated": tx.now,
        "work_pool_id": pool_id,
        "priority": body.priority or next(place for place in count(1) if place not in taken),
        "status": WorkQueueStatus.PAUSED if body.is_paused else WorkQueueStatus.NOT_READY,
    }
    if not insert_ignore(tx, WORK_QUEUE, [row], index=["work_pool_id", "name"]):
        raise ObjectAlreadyExists(f"A work queue with the name '{body.name}' exists already.")
    if body.priority is not None:
        _make_way(tx, pool_id, row["id"], body.priority)
    tell_of_queues(tx, "created", [row["id"]])
    return read_queue(find_queue(tx, WORK_QUEUE.c.id == row["id"], key=row["id"]))


def _priorities(tx: Tx, pool_id: UUID, but: UUID | None = None) -> dict[int, UUID]:
    """The queues of a pool by their priorities; the pool is locked, so that no two take the same."""
    tx.execute(select(WORK_POOL.c.id).where(WORK_POOL.c.id == pool_id).with_for_update())
    chosen = select(WORK_QUEUE.c.priority, WORK_QUEUE.c.id).where(WORK_QUEUE.c.work_pool_id == pool_id)
    return {row.priority: row.id for row in tx.execute(chosen) if row.id != but}


def _make_way(tx: Tx, pool_id: UUID, queue_id: UUID, priority: int) -> None:
    """Move the queues behind a priority one place back, as far as the next free one."""
    others = _priorities(tx, pool_id, but=queue_id)
    while (other := others.get(priority)) is not None:
        priority += 1
        tx.execute(update(WORK_QUEUE).where(WORK_QUEUE.c.id == other).values(priority=priority))


@implements(by_pool.READ_WORK_QUEUE, access="work_pools:read")
def read_work_queue(tx: Tx, work_pool_name: str, name: str) -> WorkQueueWithStatus:
    """One queue of a pool."""
    return read_queue(_named(tx, work_pool_name, name))


@implements(by_id.READ_WORK_QUEUE, access="work_pools:read")
def read_work_queue_by_id(tx: Tx, id: UUID) -> WorkQueueWithStatus:
    """One queue."""
    return read_queue(find_queue(tx, WORK_QUEUE.c.id == id, key=id))


@implements(by_id.READ_WORK_QUEUE_BY_NAME, access="work_pools:read")
def read_work_queue_by_name(tx: Tx, name: str) -> WorkQueueWithStatus:
    """The queue of a name in the pool of queues without one."""
    return read_queue(_named(tx, AGENT_POOL, name))


@implements(by_pool.READ_WORK_QUEUES, access="work_pools:read")
def read_work_queues(tx: Tx, work_pool_name: str, body: ReadWorkQueues) -> list[WorkQueueWithStatus]:
    """The queues of a pool that a filter finds, by priority."""
    pool = find_pool(tx, work_pool_name)
    return _listed(tx, body, WORK_QUEUE.c.work_pool_id == pool.id)


@implements(by_id.READ_WORK_QUEUES, access="work_pools:read")
def read_all_work_queues(tx: Tx, body: ReadWorkQueues) -> list[WorkQueueWithStatus]:
    """The queues of all pools that a filter finds."""
    return _listed(tx, body)


def _listed(tx: Tx, body: ReadWorkQueues, *conditions: ColumnElement[bool]) -> list[WorkQueueWithStatus]:
    chosen = SELECT_QUEUES.where(*conditions, where(WORK_QUEUE, body.work_queues))
    chosen = chosen.order_by(WORK_QUEUE.c.priority, WORK_QUEUE.c.id).limit(page_size(body.limit)).offset(body.offset)
    return listed(tx.execute(chosen), read_queue, "work queue")


@implements(by_pool.UPDATE_WORK_QUEUE, access="work_pools:write")
def update_work_queue(tx: Tx, work_pool_name: str, name: str, body: WorkQueueUpdate) -> None:
    """Change the given fields of a queue of a pool."""
    _update(tx, _named(tx, work_pool_name, name), body)


@implements(by_id.UPDATE_WORK_QUEUE, access="work_pools:write")
def update_work_queue_by_id(tx: Tx, id: UUID, body: WorkQueueUpdate) -> None:
    """Change the given fields of a queue."""
    _update(tx, find_queue(tx, WORK_QUEUE.c.id == id, key=id), body)


def _update(tx: Tx, queue: Row[Any], body: WorkQueueUpdate) -> None:
    changes = {field: value for field, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    changes = {
        field: value for field, value in changes.items() if value is not None or field not in ("name", "priority")
    }
    paused = changes.get("is_paused", queue.is_paused)
    tx.execute(update(WORK_QUEUE).where(WORK_QUEUE.c.id == queue.id).values(updated=tx.now, **changes))
    payload = changes_payload(queue, changes, ("name", "description", "concurrency_limit", "priority"))
    if payload:
        tell_of_queues(tx, "updated", [queue.id], payload)
    if paused != queue.is_paused:
        unpaused = WorkQueueStatus.READY if _is_polled(tx, queue) else WorkQueueStatus.NOT_READY
        status = WorkQueueStatus.PAUSED if paused else unpaused
        change_status(tx, WORK_QUEUE, status, WORK_QUEUE.c.id == queue.id)
    if "priority" in changes and changes["priority"] != queue.priority:
        _make_way(tx, queue.work_pool_id, queue.id, changes["priority"])


def _is_polled(tx: Tx, queue: Row[Any]) -> bool:
    """Whether a worker has asked for the queue's runs so lately that it counts as ready."""
    silence = get_settings().server.services.foreman.work_queue_last_polled_timeout_seconds
    return queue.last_polled is not None and tx.now - queue.last_polled <= timedelta(seconds=silence)


@implements(by_pool.DELETE_WORK_QUEUE, access="work_pools:write")
def delete_work_queue(tx: Tx, work_pool_name: str, name: str) -> None:
    """Delete a queue of a pool."""
    _delete(tx, _named(tx, work_pool_name, name))


@implements(by_id.DELETE_WORK_QUEUE, access="work_pools:write")
def delete_work_queue_by_id(tx: Tx, id: UUID) -> None:
    """Delete a queue."""
    _delete(tx, find_queue(tx, WORK_QUEUE.c.id == id, key=id))


def _delete(tx: Tx, queue: Row[Any]) -> None:
    default: UUID | None = tx.execute(
        select(WORK_POOL.c.default_queue_id).where(WORK_POOL.c.id == queue.work_pool_id)
    ).scalar_one()
    if default == queue.id:
        raise ValidationFailed("The default queue of a work pool cannot be deleted.")
    for table in (DEPLOYMENT, FLOW_RUN):  # what waited there waits in the pool's default queue
        tx.execute(update(table).where(table.c.work_queue_id == queue.id).values(work_queue_id=default))
    tell_of_queues(tx, "deleted", [queue.id])
    tx.execute(delete(WORK_QUEUE).where(WORK_QUEUE.c.id == queue.id))


@implements(by_id.READ_WORK_QUEUE_STATUS, access="work_pools:read")
def read_work_queue_status(tx: Tx, id: UUID) -> WorkQueueStatusDetail:
    """Whether a queue is polled and keeps up."""
    queue = find_queue(tx, WORK_QUEUE.c.id == id, key=id)
    policy = WorkQueueHealthPolicy()
    late = select(FLOW_RUN.c.id).where(FLOW_RUN.c.work_queue_id == id, FLOW_RUN.c.state_name == "Late")
    late_runs = tx.execute(select(func.count()).select_from(late.subquery())).scalar_one()
    polled = queue.last_polled is not None and (tx.now - queue.last_polled).total_seconds() <= (
        policy.maximum_seconds_since_last_polled or 0
    )
    return WorkQueueStatusDetail(
        healthy=polled and late_runs <= (policy.maximum_late_runs or 0),
        late_runs_count=late_runs,
        last_polled=queue.last_polled,
        health_check_policy=policy,
    )
