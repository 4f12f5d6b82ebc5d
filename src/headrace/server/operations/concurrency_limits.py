"""Concurrency limits of tags: each is a limit by name, `tag:<tag>`, whose slots task runs hold.  # G7"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, insert, select

from headrace._internal.ids import uuid7
from headrace.exceptions import ApiError, ObjectNotFound
from headrace.schemas.concurrency_limits import (
    CREATE_CONCURRENCY_LIMIT,
    DECREMENT_CONCURRENCY_LIMITS_V1,
    DELETE_CONCURRENCY_LIMIT,
    DELETE_CONCURRENCY_LIMIT_BY_TAG,
    INCREMENT_CONCURRENCY_LIMITS_V1,
    READ_CONCURRENCY_LIMIT,
    READ_CONCURRENCY_LIMIT_BY_TAG,
    READ_CONCURRENCY_LIMITS,
    RESET_CONCURRENCY_LIMIT_BY_TAG,
    ChangeTagSlots,
    ConcurrencyLimit,
    ConcurrencyLimitCreate,
    MinimalConcurrencyLimitResponse,
    ReadConcurrencyLimits,
    ResetConcurrencyLimit,
)
from headrace.server.operations.concurrency_limits_v2 import (
    change_limit,
    delete_limit,
    find_limit,
    make_limit,
    minimal,
    named,
)
from headrace.server.operations.paging import listed, page_size
from headrace.server.operations.registry import Existing, Refusal, implements
from headrace.server.operations.slots import free, leave_line, locked, stand_in_line, standings
from headrace.server.rules.change import after
from headrace.server.rules.facts import FOREVER
from headrace.server.store.tables import CONCURRENCY_LIMIT, SLOT_LEASE
from headrace.server.store.transaction import Tx
from headrace.settings import get_settings

_TAG = "tag:"


def _named(tag: str) -> str:
    return _TAG + tag


def _read(tx: Tx, rows: Sequence[Row[Any]]) -> list[ConcurrencyLimit]:
    live = (SLOT_LEASE.c.limit_id.in_([row.id for row in rows]), SLOT_LEASE.c.until > tx.now)
    held = (SLOT_LEASE.c.holder_type == "task_run", SLOT_LEASE.c.holder_id.is_not(None))
    chosen = select(SLOT_LEASE.c.limit_id, SLOT_LEASE.c.holder_id).where(*live, *held)
    holders: Any = tx.execute(chosen.order_by(SLOT_LEASE.c.acquired, SLOT_LEASE.c.id)).all()

    def read(row: Row[Any]) -> ConcurrencyLimit:
        return ConcurrencyLimit(
            active_slots=[holder for limit_id, holder in holders if limit_id == row.id],
            concurrency_limit=row.limit,
            created=row.created,
            id=row.id,
            tag=row.name.removeprefix(_TAG),
            updated=row.updated,
        )

    return listed(rows, read, "concurrency limit")


def _find(tx: Tx, id: UUID, *, lock: bool = False) -> Row[Any]:
    """The limit of a tag by its id; another limit is none."""
    row = find_limit(tx, id, lock=lock)
    if not row.name.startswith(_TAG):
        raise ObjectNotFound("Concurrency limit", id)
    return row


@implements(CREATE_CONCURRENCY_LIMIT, access="concurrency_limits:write")
def create_concurrency_limit(tx: Tx, body: ConcurrencyLimitCreate) -> ConcurrencyLimit | Existing:
    """Limit how many task runs of a tag run at once; a limit that is there is changed."""
    name = _named(body.tag)
    row = tx.execute(select(CONCURRENCY_LIMIT).where(CONCURRENCY_LIMIT.c.name == name).with_for_update()).one_or_none()
    if row is not None:
        change_limit(tx, row, {"limit": body.concurrency_limit, "active": True})
        return Existing(_read(tx, [find_limit(tx, row.id)])[0])
    values = {"name": name, "limit": body.concurrency_limit, "active": True, "slot_decay_per_second": 0.0}
    return _read(tx, [find_limit(tx, make_limit(tx, values))])[0]


@implements(READ_CONCURRENCY_LIMIT, access="concurrency_limits:read")
def read_concurrency_limit(tx: Tx, id: UUID) -> ConcurrencyLimit:
    """The limit of a tag, by its id."""
    return _read(tx, [_find(tx, id)])[0]


@implements(READ_CONCURRENCY_LIMIT_BY_TAG, access="concurrency_limits:read")
def read_concurrency_limit_by_tag(tx: Tx, tag: str) -> ConcurrencyLimit:
    """The limit of a tag."""
    return _read(tx, [find_limit(tx, _named(tag))])[0]


@implements(READ_CONCURRENCY_LIMITS, access="concurrency_limits:read")
def read_concurrency_limits(tx: Tx, body: ReadConcurrencyLimits) -> list[ConcurrencyLimit]:
    """The limits of tags, by tag."""
    chosen = select(CONCURRENCY_LIMIT).where(CONCURRENCY_LIMIT.c.name.startswith(_TAG, autoescape=True))
    page = chosen.order_by(CONCURRENCY_LIMIT.c.name).limit(page_size(body.limit)).offset(body.offset)
    return _read(tx, tx.execute(page).all())


@implements(DELETE_CONCURRENCY_LIMIT, access="concurrency_limits:write")
def delete_concurrency_limit(tx: Tx, id: UUID) -> None:
    """Delete the limit of a tag, by its id."""
    delete_limit(tx, _find(tx, id, lock=True))


@implements(DELETE_CONCURRENCY_LIMIT_BY_TAG, access="concurrency_limits:write")
def delete_concurrency_limit_by_tag(tx: Tx, tag: str) -> None:
    """Delete the limit of a tag."""
    delete_limit(tx, find_limit(tx, _named(tag), lock=True))


@implements(RESET_CONCURRENCY_LIMIT_BY_TAG, access="concurrency_limits:write")
def reset_concurrency_limit_by_tag(tx: Tx, tag: str, body: ResetConcurrencyLimit) -> None:
    """Take the slots of a tag from whoever holds them, and give them to those who are named."""
    row = find_limit(tx, _named(tag), lock=True)
    free(tx, delete(SLOT_LEASE).where(SLOT_LEASE.c.limit_id == row.id))
    for task_run_id in dict.fromkeys(body.slot_override or ()):
        _give(tx, [row.id], task_run_id)


@implements(INCREMENT_CONCURRENCY_LIMITS_V1, access="concurrency_limits:write")
def increment_concurrency_limits_v1(tx: Tx, body: ChangeTagSlots) -> list[MinimalConcurrencyLimitResponse] | Refusal:
    """Give a task run a slot of each of these tags, or none; it may ask again for what it has."""
    rows = named(tx, [_named(tag) for tag in body.names])
    limits, place = standings(tx, [row.id for row in rows if row.active], request=body.task_run_id)
    own = SLOT_LEASE.c.limit_id.in_([limit.id for limit in limits]), SLOT_LEASE.c.holder_id == body.task_run_id
    held = set(tx.execute(select(SLOT_LEASE.c.limit_id).where(*own)).scalars())
    wanted = [limit for limit in limits if limit.id not in held]
    for limit in wanted:
        if limit.limit == 0:
            error = ApiError(f"The concurrency limit of tag {limit.name.removeprefix(_TAG)!r} is 0: none may run.")
            error.status = 423
            raise error
    if full := [limit.name.removeprefix(_TAG) for limit in wanted if limit.lacks(1)]:
        wait = get_settings().server.tasks.tag_concurrency_slot_wait_seconds
        ids = [limit.id for limit in wanted]
        stand_in_line(tx, body.task_run_id, place, ids, 1, after(tx.now, wait))
        return Refusal(locked(f"The concurrency limit of a tag has been reached: {', '.join(full)}.", wait))
    leave_line(tx, place=place)
    _give(tx, [limit.id for limit in wanted], body.task_run_id)
    return [MinimalConcurrencyLimitResponse(id=row.id, limit=row.limit, name=row.name[len(_TAG) :]) for row in rows]


def _give(tx: Tx, ids: Sequence[UUID], task_run_id: UUID) -> None:
    lease = {"id": uuid7(), "slots": 1, "by_client": True, "holder_type": "task_run", "holder_id": task_run_id}
    if ids:
        rows = [{**lease, "limit_id": id, "acquired": tx.now, "until": FOREVER} for id in ids]
        tx.execute(insert(SLOT_LEASE), rows)


@implements(DECREMENT_CONCURRENCY_LIMITS_V1, access="concurrency_limits:write")
def decrement_concurrency_limits_v1(tx: Tx, body: ChangeTagSlots) -> list[MinimalConcurrencyLimitResponse]:
    """Give back the slots that a task run has of these tags."""
    rows = named(tx, [_named(tag) for tag in body.names])
    own = SLOT_LEASE.c.limit_id.in_([row.id for row in rows]), SLOT_LEASE.c.holder_id == body.task_run_id
    free(tx, delete(SLOT_LEASE).where(*own))
    return minimal(rows)
