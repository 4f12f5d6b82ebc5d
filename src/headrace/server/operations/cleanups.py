"""Clean-up that runs leave to the workers of their pool: infrastructure that nobody looks after any more.

When the server ends a cancelling that timed out, or takes back a run that was claimed and not begun, a message is
written in the same transaction (G2), see `deliveries` for how it is handed out. It is gone when a worker says that all
is cleared away. After some deliveries in vain, or when no worker wants it for a day, it is given up: an event says so,
and a line in the server's log.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import fields
from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, or_, select

from headrace._internal.ids import uuid7
from headrace.server.events import hints
from headrace.server.events.log import related_to, tell_of
from headrace.server.operations import deliveries
from headrace.server.rules.change import FlowRunNow
from headrace.server.rules.cleanup import TOO_OFTEN, Kind, Operation, Reservation, Status, judge, left_behind
from headrace.server.store.long_lists import among
from headrace.server.store.tables import CLEANUP_DELIVERY, WORK_POOL, WORK_QUEUE
from headrace.server.store.transaction import Tx
from headrace.settings.server import ServerWorkerChannelSettings

logger = logging.getLogger("headrace.server.cleanup")

KEPT = timedelta(days=1)
"""How long a message waits for a worker that takes it."""
_ROW = CLEANUP_DELIVERY.c
_RESERVATION = [field.name for field in fields(Reservation)]


@dataclass(frozen=True, slots=True)
class Cleaner:
    """A connected worker that clears things away.

    Args:
        id: by which it is told from others.
        pool_id: its pool.
        queue_ids: the queues it serves; what comes from them it gets first.
        kinds: what it can clear away.
        most: how many messages it has at once.
    """

    id: UUID
    pool_id: UUID
    queue_ids: Sequence[UUID]
    kinds: Sequence[Kind]
    most: int


def topic(pool_id: UUID) -> str:
    """The topic on which workers are told that there may be something to clear away."""
    return f"cleanup:{pool_id}"


def _tell(tx: Tx, pool_id: UUID) -> None:
    tx.after_commit(lambda: hints.publish(topic(pool_id), {}))


def clean_up_after(tx: Tx, run: FlowRunNow) -> None:
    """Have cleared away what a run left behind, if it did: called with the run as it was before it was moved on."""
    kind = left_behind(run)
    queue = select(WORK_QUEUE.c.work_pool_id).where(WORK_QUEUE.c.id == run.work_queue_id)
    if kind is None or (pool_id := tx.execute(queue).scalar()) is None:
        return
    message = {
        "id": uuid7(),
        "work_pool_id": pool_id,
        "work_queue_id": run.work_queue_id,
        "kind": kind,
        "flow_run_id": run.id,
        "claim_id": run.state and run.state.id,
        "infrastructure_pid": run.infrastructure_pid,
        "deliveries": 0,
        "since": tx.now,
        "due": tx.now,
    }
    tx.execute(insert(CLEANUP_DELIVERY), message)
    _tell(tx, pool_id)


def _open_to(tx: Tx, worker: Cleaner, settings: ServerWorkerChannelSettings) -> list[ColumnElement[bool]]:
    own = _ROW.work_pool_id == worker.pool_id
    other = CLEANUP_DELIVERY.alias().c
    has = select(func.count()).where(
        other.work_pool_id == worker.pool_id, other.holder == worker.id, other.due > tx.now
    )
    few = _ROW.deliveries < settings.cleanup_max_delivery_attempts
    return [own, among(_ROW.kind, worker.kinds), few, has.scalar_subquery() < worker.most]


def next_due(tx: Tx, worker: Cleaner, settings: ServerWorkerChannelSettings) -> datetime | None:
    """When there will be a message for a worker; None when none waits, or the worker has all it may have."""
    return deliveries.next_due(tx, CLEANUP_DELIVERY, *_open_to(tx, worker, settings))


def take(tx: Tx, worker: Cleaner, settings: ServerWorkerChannelSettings) -> Row[Any] | None:
    """Reserve for a worker the message that has waited longest, if one is due; returns its row."""
    return deliveries.take_first(
        tx,
        CLEANUP_DELIVERY,
        *_open_to(tx, worker, settings),
        holder=worker.id,
        lease=timedelta(seconds=settings.cleanup_lease_seconds),
        first=among(_ROW.work_queue_id, worker.queue_ids),
        deliveries=_ROW.deliveries + 1,
    )


def reservation(row: Row[Any]) -> Reservation:
    """How the message of a row stands."""
    return Reservation(**{name: getattr(row, name) for name in _RESERVATION})


@dataclass(frozen=True, slots=True)
class Answer:
    """How an operation came out, why if it was not accepted, and until when the message is reserved if it still is."""

    status: Status
    reason: str | None
    lease_expires_at: datetime | None = None


def answer(
    tx: Tx, pool_id: UUID, operation: Operation, id: UUID, token: str, settings: ServerWorkerChannelSettings
) -> Answer:
    """Carry out what a worker says about a message that it was handed.

    Args:
        tx: a writing transaction.
        pool_id: the pool of the worker.
        operation: `ack`: it is done; `release`: another may try; `renew`: it takes longer.
        id: the message.
        token: the reservation.
        settings: how long and how often messages are handed out.
    """
    this = _ROW.id == id
    row = tx.execute(select(CLEANUP_DELIVERY).where(this).with_for_update()).one_or_none()
    most, found = settings.cleanup_max_delivery_attempts, None if row is None else reservation(row)
    status, reason = judge(operation, token, found, pool_id=pool_id, now=tx.now, most=most)
    if status is Status.DEAD_LETTERED and row is not None:
        _give_up(tx, row, TOO_OFTEN)
    if status is not Status.ACCEPTED:
        return Answer(status, reason)
    until = None
    if operation == "ack":
        tx.execute(delete(CLEANUP_DELIVERY).where(this))
    elif operation == "release":
        deliveries.give_back(tx, CLEANUP_DELIVERY, this)
    else:
        lease = timedelta(seconds=settings.cleanup_lease_seconds)
        deliveries.renew(tx, CLEANUP_DELIVERY, this, lease=lease)
        until = tx.now + lease
    _tell(tx, pool_id)  # others may take it, or this worker may take another
    return Answer(status, reason, until)


def _in_vain(tx: Tx, settings: ServerWorkerChannelSettings) -> ColumnElement[bool]:
    often = _ROW.deliveries >= settings.cleanup_max_delivery_attempts
    return and_(_ROW.due <= tx.now, or_(often, _ROW.since <= tx.now - KEPT))


def in_vain(tx: Tx, settings: ServerWorkerChannelSettings, limit: int) -> list[UUID]:
    """Messages that were handed out often enough, or that nobody takes, and that nobody has now."""
    found = select(_ROW.id).where(_in_vain(tx, settings)).order_by(_ROW.since).limit(limit)
    return list(tx.execute(found).scalars())


def give_up(tx: Tx, id: UUID, settings: ServerWorkerChannelSettings) -> bool:
    """Give a message up if it is still handed out in vain; returns whether it was."""
    chosen = select(CLEANUP_DELIVERY).where(_ROW.id == id, _in_vain(tx, settings)).with_for_update()
    row = tx.execute(chosen).one_or_none()
    if row is None:
        return False
    _give_up(tx, row, TOO_OFTEN if row.deliveries >= settings.cleanup_max_delivery_attempts else "not_taken")
    return True


def _give_up(tx: Tx, row: Row[Any], reason: str) -> None:
    told = {name: str(getattr(row, name)) for name in ("id", "kind", "flow_run_id", "infrastructure_pid", "deliveries")}
    told["reason"] = reason
    pool = tx.execute(select(WORK_POOL.c.name).where(WORK_POOL.c.id == row.work_pool_id)).scalar() or ""
    run = related_to("flow-run", row.flow_run_id)
    tell_of(tx, "work-pool", "cleanup-dead-lettered", row.work_pool_id, pool, payload=told, related=[run])
    tx.execute(delete(CLEANUP_DELIVERY).where(_ROW.id == row.id))
    tx.after_commit(lambda: logger.warning("Clean-up in the work pool %r was given up: %s", pool, told))
