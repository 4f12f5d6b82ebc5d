"""Clean-up that runs leave to the workers of their pool: infrastructure that nobody looks after any more.

When the server ends a cancelling that timed out, or takes back a run that was claimed and not begun, a message is
written in the same transaction (G2), see `deliveries` for how it is handed out. It is gone when a worker says that all
is cleared away. After some deliveries in vain, or when no worker wants it for a day, it is given up: an event says so,
and a line in the server's log.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct, convert
from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, or_, select

from headrace._internal.ids import uuid7
from headrace.server.events import hints
from headrace.server.events.log import related_to, tell_of
from headrace.server.operations import deliveries
from headrace.server.rules.change import FlowRunNow
from headrace.server.rules.cleanup import (
    ACCEPTED,
    DEAD_LETTERED,
    TOO_OFTEN,
    Kind,
    Operation,
    Reservation,
    judge,
    left_behind,
)
from headrace.server.store.long_lists import among
from headrace.server.store.tables import CLEANUP_DELIVERY, WORK_POOL, WORK_QUEUE
from headrace.server.store.transaction import Tx
from headrace.settings.server import ServerWorkerChannelSettings

logger = logging.getLogger("headrace.server.cleanup")

KEPT = timedelta(days=1)
"""How long a message waits for a worker that takes it."""
_ROW = CLEANUP_DELIVERY.c
_TOLD = ("id", "kind", "flow_run_id", "infrastructure_pid", "deliveries")


Answer = tuple[str, str | None, datetime | None]
"""How an operation came out, why if it was not accepted, and the end of a lease that was renewed."""


class Cleaner(Struct, frozen=True):
    """A connected worker that clears things away: what of, which queues' first, and how many messages at once."""

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
    if kind is None:
        return
    pool_id = tx.execute(select(WORK_QUEUE.c.work_pool_id).where(WORK_QUEUE.c.id == run.work_queue_id)).scalar()
    if pool_id is None:
        return
    message = {"id": uuid7(), "work_pool_id": pool_id, "work_queue_id": run.work_queue_id, "kind": kind}
    message |= {"flow_run_id": run.id, "infrastructure_pid": run.infrastructure_pid}
    message |= {"claim_id": run.state and run.state.id, "deliveries": 0, "since": tx.now, "due": tx.now}
    tx.execute(insert(CLEANUP_DELIVERY), message)
    _tell(tx, pool_id)


def _open_to(tx: Tx, worker: Cleaner, settings: ServerWorkerChannelSettings) -> list[ColumnElement[bool]]:
    other = CLEANUP_DELIVERY.alias().c
    held = (other.work_pool_id == worker.pool_id, other.holder == worker.id, other.due > tx.now)
    return [
        _ROW.work_pool_id == worker.pool_id,
        among(_ROW.kind, worker.kinds),
        _ROW.deliveries < settings.cleanup_max_delivery_attempts,
        select(func.count()).where(*held).scalar_subquery() < worker.most,
    ]


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
    return convert(row, Reservation, from_attributes=True)


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
    this, lease = _ROW.id == id, timedelta(seconds=settings.cleanup_lease_seconds)
    row = tx.execute(select(CLEANUP_DELIVERY).where(this).with_for_update()).one_or_none()
    found, most = row and reservation(row), settings.cleanup_max_delivery_attempts
    status, reason = judge(operation, token, found, pool_id=pool_id, now=tx.now, most=most)
    if status == DEAD_LETTERED:
        give_up(tx, settings, this)
    if status != ACCEPTED:
        return status, reason, None
    if operation == "ack":
        tx.execute(delete(CLEANUP_DELIVERY).where(this))
    elif operation == "release":
        deliveries.give_back(tx, CLEANUP_DELIVERY, this)
    else:
        deliveries.renew(tx, CLEANUP_DELIVERY, this, lease=lease)
    _tell(tx, pool_id)  # others may take it, or this worker may take another
    return status, reason, tx.now + lease if operation == "renew" else None


def is_in_vain(tx: Tx, settings: ServerWorkerChannelSettings) -> ColumnElement[bool]:
    """A message that was handed out often enough, or that nobody takes, and that nobody has now."""
    often = _ROW.deliveries >= settings.cleanup_max_delivery_attempts
    return and_(_ROW.due <= tx.now, or_(often, _ROW.since <= tx.now - KEPT))


def give_up(tx: Tx, settings: ServerWorkerChannelSettings, *which: ColumnElement[bool]) -> bool:
    """Give a message up, if there is one; returns whether there was."""
    row = tx.execute(delete(CLEANUP_DELIVERY).where(*which).returning(CLEANUP_DELIVERY)).one_or_none()
    if row is None:
        return False
    told = {name: str(getattr(row, name)) for name in _TOLD}
    told["reason"] = TOO_OFTEN if row.deliveries >= settings.cleanup_max_delivery_attempts else "not_taken"
    pool = tx.execute(select(WORK_POOL.c.name).where(WORK_POOL.c.id == row.work_pool_id)).scalar() or ""
    run = related_to("flow-run", row.flow_run_id)
    tell_of(tx, "work-pool", "cleanup-dead-lettered", row.work_pool_id, pool, payload=told, related=[run])
    tx.after_commit(lambda: logger.warning("Clean-up in the work pool %r was given up: %s", pool, told))
    return True
