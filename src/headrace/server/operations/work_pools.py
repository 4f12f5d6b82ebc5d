"""Work pools, and the workers that were seen in them."""

from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy import Row, Select, bindparam, delete, func, insert, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import Forbidden, ObjectAlreadyExists, ObjectNotFound
from headrace.schemas.filters import WorkerStatus
from headrace.schemas.states import StateType
from headrace.schemas.work_pools import (
    COUNT_WORK_POOLS,
    CREATE_WORK_POOL,
    DELETE_WORK_POOL,
    DELETE_WORKER,
    READ_WORK_POOL,
    READ_WORK_POOLS,
    READ_WORKERS,
    UPDATE_WORK_POOL,
    WORKER_HEARTBEAT,
    CountWorkPools,
    ReadWorkers,
    ReadWorkPools,
    Worker,
    WorkerHeartbeat,
    WorkPool,
    WorkPoolCreate,
    WorkPoolStatus,
    WorkPoolUpdate,
)
from headrace.server.events import hints
from headrace.server.operations.checks import check_template
from headrace.server.operations.object_events import (
    change_status,
    changes_payload,
    tell_of_pool,
    tell_of_pool_status,
    tell_of_queues,
)
from headrace.server.operations.paging import count_of, listed, page_size
from headrace.server.operations.registry import implements
from headrace.server.operations.rows import values_of
from headrace.server.store.filters import where
from headrace.server.store.prepared import Prepared
from headrace.server.store.statements import insert_ignore, upsert
from headrace.server.store.tables import CLEANUP_DELIVERY, DEPLOYMENT, FLOW_RUN, WORK_POOL, WORK_QUEUE, WORKER
from headrace.server.store.transaction import Tx

DEFAULT_QUEUE = "default"
HOLDING = (StateType.PENDING, StateType.RUNNING)
"""Types of state in which a run takes a slot of its queue and pool."""
AGENT = "prefect-agent"
"""The type of pools without workers: whoever asks for their runs, nobody says that they are ready."""
_RESERVED = ("prefect", "headrace")

_ACTIVE = (
    select(func.count())
    .select_from(FLOW_RUN)
    .join(WORK_QUEUE, WORK_QUEUE.c.id == FLOW_RUN.c.work_queue_id)
    .where(WORK_QUEUE.c.work_pool_id == WORK_POOL.c.id, FLOW_RUN.c.state_type.in_(HOLDING))
    .correlate(WORK_POOL)
    .scalar_subquery()
)
_SELECT: Select[Any] = select(WORK_POOL, _ACTIVE.label("active_slots"))


def _read(row: Row[Any]) -> WorkPool:
    pool = msgspec.convert(values_of(row), WorkPool)
    if pool.type == AGENT:
        pool.status = None
    if pool.concurrency_limit is None:
        pool.active_slots = None
    return pool


def _refuse_reserved(name: str) -> None:
    if name.lower().startswith(_RESERVED):
        word = "Prefect" if name.lower().startswith("prefect") else "headrace"
        raise Forbidden(f"Work pools starting with '{word}' are reserved for internal use.")


_BY_NAME = Prepared(select(WORK_POOL).where(WORK_POOL.c.name == bindparam("called")))


def find_pool(tx: Tx, name: str) -> Row[Any]:
    """The row of the pool of a name.

    Raises:
        ObjectNotFound: there is none.
    """
    row: Row[Any] | None = tx.execute(_BY_NAME, {"called": name}).one_or_none()
    if row is None:
        raise ObjectNotFound("Work pool", name)
    return row


@implements(CREATE_WORK_POOL, access="work_pools:write")
def create_work_pool(tx: Tx, body: WorkPoolCreate) -> WorkPool:
    """Create a work pool with its default queue."""
    _refuse_reserved(body.name)
    check_template(body.base_job_template)
    return _read(insert_pool(tx, body))


def insert_pool(tx: Tx, body: WorkPoolCreate) -> Row[Any]:
    """Insert a work pool with its default queue and return its row.

    Raises:
        ObjectAlreadyExists: there is one of this name.
    """
    pool_id, queue_id = uuid7(), uuid7()
    row = msgspec.structs.asdict(body) | {
        "id": pool_id,
        "created": tx.now,
        "updated": tx.now,
        "default_queue_id": queue_id,
        "status": WorkPoolStatus.PAUSED if body.is_paused else WorkPoolStatus.NOT_READY,
    }
    if not insert_ignore(tx, WORK_POOL, [row], index=["name"]):
        raise ObjectAlreadyExists(f"A work pool with the name '{body.name}' exists already.")
    queue = {
        "id": queue_id,
        "created": tx.now,
        "updated": tx.now,
        "work_pool_id": pool_id,
        "name": DEFAULT_QUEUE,
        "description": "The work pool's default queue.",
        "is_paused": False,
        "priority": 1,
        "status": "NOT_READY",
    }
    tx.execute(insert(WORK_QUEUE), queue)
    pool = tx.execute(_SELECT.where(WORK_POOL.c.id == pool_id)).one()
    tell_of_pool(tx, "created", pool)
    tell_of_pool_status(tx, pool, pool.status)
    tell_of_queues(tx, "created", [queue_id])
    return pool


@implements(READ_WORK_POOL, access="work_pools:read")
def read_work_pool(tx: Tx, name: str) -> WorkPool:
    """One work pool."""
    row = tx.execute(_SELECT.where(WORK_POOL.c.name == name)).one_or_none()
    if row is None:
        raise ObjectNotFound("Work pool", name)
    return _read(row)


@implements(READ_WORK_POOLS, access="work_pools:read")
def read_work_pools(tx: Tx, body: ReadWorkPools) -> list[WorkPool]:
    """The work pools a filter finds, by name."""
    chosen = _SELECT.where(where(WORK_POOL, body.work_pools)).order_by(WORK_POOL.c.name)
    return listed(tx.execute(chosen.limit(page_size(body.limit)).offset(body.offset)), _read, "work pool")


@implements(COUNT_WORK_POOLS, access="work_pools:read")
def count_work_pools(tx: Tx, body: CountWorkPools) -> int:
    """How many work pools a filter finds."""
    return count_of(tx, select(WORK_POOL.c.id).where(where(WORK_POOL, body.work_pools)))


@implements(UPDATE_WORK_POOL, access="work_pools:write")
def update_work_pool(tx: Tx, name: str, body: WorkPoolUpdate) -> None:
    """Change the given fields of a work pool."""
    changes = {field: value for field, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    if set(changes) - {"is_paused", "concurrency_limit"}:
        _refuse_reserved(name)
    pool = find_pool(tx, name)
    kept = ("base_job_template", "is_paused", "storage_configuration")  # null means: leave it
    changes = {field: value for field, value in changes.items() if value is not None or field not in kept}
    check_template(changes.get("base_job_template", {}))
    paused = changes.get("is_paused", pool.is_paused)
    tx.execute(update(WORK_POOL).where(WORK_POOL.c.id == pool.id).values(updated=tx.now, **changes))
    _tell_workers(tx, pool.id)
    payload = changes_payload(pool, changes, _TOLD)
    if payload:
        tell_of_pool(tx, "updated", pool, payload)
    if paused != pool.is_paused:
        status = WorkPoolStatus.PAUSED if paused else status_by_workers(tx, pool.id)
        change_status(tx, WORK_POOL, status, WORK_POOL.c.id == pool.id)


_TOLD = ("description", "base_job_template", "concurrency_limit", "storage_configuration")
"""The fields whose changes the event of an update tells of."""


def pool_topic(pool_id: UUID) -> str:
    """The topic on which workers are told that their pool may be another."""
    return f"work-pool-itself:{pool_id}"


def _tell_workers(tx: Tx, pool_id: UUID) -> None:
    tx.after_commit(lambda: hints.publish(pool_topic(pool_id), {}))


def status_by_workers(tx: Tx, pool_id: UUID) -> WorkPoolStatus:
    """What a pool is when it is not paused: ready when a worker is online."""
    online = select(WORKER.c.id).where(WORKER.c.work_pool_id == pool_id, WORKER.c.status == WorkerStatus.ONLINE)
    return WorkPoolStatus.READY if tx.execute(online.limit(1)).one_or_none() else WorkPoolStatus.NOT_READY


@implements(DELETE_WORK_POOL, access="work_pools:write")
def delete_work_pool(tx: Tx, name: str) -> None:
    """Delete a work pool with its queues and workers; deployments and runs that named it name none."""
    _refuse_reserved(name)
    pool = find_pool(tx, name)
    own = select(WORK_QUEUE.c.id).where(WORK_QUEUE.c.work_pool_id == pool.id)
    tell_of_queues(tx, "deleted", list(tx.execute(own).scalars()))
    tell_of_pool(tx, "deleted", pool)
    queues = select(WORK_QUEUE.c.id).where(WORK_QUEUE.c.work_pool_id == pool.id)
    for table in (DEPLOYMENT, FLOW_RUN):
        tx.execute(update(table).where(table.c.work_queue_id.in_(queues)).values(work_queue_id=None))
    for table in (WORKER, WORK_QUEUE, CLEANUP_DELIVERY):
        tx.execute(delete(table).where(table.c.work_pool_id == pool.id))
    tx.execute(delete(WORK_POOL).where(WORK_POOL.c.id == pool.id))
    _tell_workers(tx, pool.id)


@implements(WORKER_HEARTBEAT, access="work_pools:write")
def worker_heartbeat(tx: Tx, work_pool_name: str, body: WorkerHeartbeat) -> None:
    """Note that a worker lives; one that is new is added. Its pool is ready then."""
    pool = find_pool(tx, work_pool_name)
    row = {
        "id": uuid7(),
        "created": tx.now,
        "updated": tx.now,
        "work_pool_id": pool.id,
        "name": body.name,
        "status": WorkerStatus.ONLINE,
        "last_heartbeat_time": tx.now,
        "heartbeat_interval_seconds": body.heartbeat_interval_seconds,
    }
    changed = ["updated", "status", "last_heartbeat_time", "heartbeat_interval_seconds"]
    upsert(tx, WORKER, [row], index=["work_pool_id", "name"], update=changed)
    if pool.status == WorkPoolStatus.NOT_READY:
        change_status(tx, WORK_POOL, WorkPoolStatus.READY, WORK_POOL.c.id == pool.id)


@implements(READ_WORKERS, access="work_pools:read")
def read_workers(tx: Tx, work_pool_name: str, body: ReadWorkers) -> list[Worker]:
    """The workers of a pool that a filter finds, those seen last first."""
    pool = find_pool(tx, work_pool_name)
    chosen = select(WORKER).where(WORKER.c.work_pool_id == pool.id, where(WORKER, body.workers))
    chosen = chosen.order_by(WORKER.c.last_heartbeat_time.desc(), WORKER.c.id)
    rows = tx.execute(chosen.limit(page_size(body.limit)).offset(body.offset))
    return listed(rows, _read_worker, "worker")


def _read_worker(row: Row[Any]) -> Worker:
    return msgspec.convert(values_of(row), Worker, strict=False)  # the interval is a float in the database


@implements(DELETE_WORKER, access="work_pools:write")
def delete_worker(tx: Tx, work_pool_name: str, name: str) -> None:
    """Forget a worker."""
    pool = find_pool(tx, work_pool_name)
    if not tx.execute(delete(WORKER).where(WORKER.c.work_pool_id == pool.id, WORKER.c.name == name)).rowcount:
        raise ObjectNotFound("Worker", name)
