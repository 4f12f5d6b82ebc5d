"""Concurrency limits by name: making and changing them, and the slots that clients take.  # G7"""

import math
from collections.abc import Sequence
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import msgspec
from sqlalchemy import Row, bindparam, delete, insert, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import ApiError, ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schemas.concurrency_limits import (
    GlobalConcurrencyLimit,
    MinimalConcurrencyLimitResponse,
    ReadConcurrencyLimits,
)
from headrace.schemas.concurrency_limits_v2 import (
    BULK_DECREMENT_ACTIVE_SLOTS,
    BULK_DECREMENT_ACTIVE_SLOTS_WITH_LEASE,
    BULK_INCREMENT_ACTIVE_SLOTS,
    BULK_INCREMENT_ACTIVE_SLOTS_WITH_LEASE,
    CREATE_CONCURRENCY_LIMIT_V2,
    DELETE_CONCURRENCY_LIMIT_V2,
    READ_ALL_CONCURRENCY_LIMITS_V2,
    READ_CONCURRENCY_LIMIT_V2,
    RENEW_CONCURRENCY_LEASE,
    UPDATE_CONCURRENCY_LIMIT_V2,
    ConcurrencyLimitV2,
    ConcurrencyLimitV2Create,
    ConcurrencyLimitV2Update,
    ConcurrencyLimitWithLeaseResponse,
    DecrementSlots,
    DecrementSlotsWithLease,
    IncrementSlots,
    IncrementSlotsWithLease,
    LimitMode,
    RenewLease,
)
from headrace.server.events.log import tell_of
from headrace.server.operations.paging import listed, page_size
from headrace.server.operations.registry import Refusal, implements
from headrace.server.operations.rows import values_of
from headrace.server.operations.slots import (
    Standing,
    free,
    freed,
    in_use,
    leave_line,
    locked,
    stand_in_line,
    standings,
    take,
    wait_for,
)
from headrace.server.rules.change import after
from headrace.server.rules.facts import FOREVER
from headrace.server.store.tables import CONCURRENCY_LIMIT, DEPLOYMENT, SLOT_LEASE, SLOT_WAITER
from headrace.server.store.transaction import Tx

_NOTHING = UUID(int=0)
"""The limit of a lease of no slots: a client that asked for limits which are not there renews it all the same."""
_SHOWN = ("name", "limit", "active", "slot_decay_per_second")
_UNLEASED = (
    select(SLOT_LEASE.c.id, SLOT_LEASE.c.slots)
    .where(SLOT_LEASE.c.limit_id == bindparam("of"), SLOT_LEASE.c.by_client, SLOT_LEASE.c.holder_id.is_(None))
    .where((SLOT_LEASE.c.until == FOREVER) | (SLOT_LEASE.c.until == SLOT_LEASE.c.drains))
    .order_by(SLOT_LEASE.c.acquired, SLOT_LEASE.c.id)
)
_OCCUPIED = CONCURRENCY_LIMIT.c.avg_slot_occupancy_seconds
_LEARN = (
    update(CONCURRENCY_LIMIT)
    .where(CONCURRENCY_LIMIT.c.id == bindparam("of"))
    .values(avg_slot_occupancy_seconds=_OCCUPIED + (bindparam("seconds") - _OCCUPIED) / 8)
)


def find_limit(tx: Tx, id_or_name: UUID | str, *, lock: bool = False) -> Row[Any]:
    """A limit by its id or its name.

    Raises:
        ObjectNotFound: there is none.
    """
    try:
        known = CONCURRENCY_LIMIT.c.id == UUID(str(id_or_name))
    except ValueError:
        known = CONCURRENCY_LIMIT.c.name == id_or_name
    chosen = select(CONCURRENCY_LIMIT).where(known)
    row = tx.execute(chosen.with_for_update() if lock else chosen).one_or_none()
    if row is None:
        raise ObjectNotFound("Concurrency limit", id_or_name)
    return row


def make_limit(tx: Tx, values: dict[str, Any]) -> UUID:
    """Make a limit of the values that events show, and tell of it."""
    id = uuid7()
    tx.execute(insert(CONCURRENCY_LIMIT), {**values, "id": id, "created": tx.now, "updated": tx.now})
    tell_of(tx, "concurrency-limit", "created", id, values["name"], payload=values)
    return id


def change_limit(tx: Tx, row: Row[Any], changes: dict[str, Any]) -> None:
    """Change a limit that is locked, and tell of it."""
    tx.execute(update(CONCURRENCY_LIMIT).where(CONCURRENCY_LIMIT.c.id == row.id).values(**changes, updated=tx.now))
    freed(tx, [row.id])
    payload = {name: changes.get(name, row._mapping[name]) for name in _SHOWN}
    tell_of(tx, "concurrency-limit", "updated", row.id, payload["name"], payload=payload)


def delete_limit(tx: Tx, row: Row[Any]) -> None:
    """Delete a limit that is locked, with its leases and the line before it, and tell of it."""
    for table in (SLOT_LEASE, SLOT_WAITER):
        tx.execute(delete(table).where(table.c.limit_id == row.id))
    tx.execute(update(DEPLOYMENT).where(DEPLOYMENT.c.concurrency_limit_id == row.id).values(concurrency_limit_id=None))
    tx.execute(delete(CONCURRENCY_LIMIT).where(CONCURRENCY_LIMIT.c.id == row.id))
    freed(tx, [row.id])
    payload = {name: row._mapping[name] for name in _SHOWN}
    tell_of(tx, "concurrency-limit", "deleted", row.id, row.name, payload=payload)


def minimal(rows: Sequence[Row[Any]]) -> list[MinimalConcurrencyLimitResponse]:
    """Limits as answers about slots name them."""
    return [MinimalConcurrencyLimitResponse(id=row.id, limit=row.limit, name=row.name) for row in rows]


@implements(CREATE_CONCURRENCY_LIMIT_V2, access="concurrency_limits:write")
def create_concurrency_limit_v2(tx: Tx, body: ConcurrencyLimitV2Create) -> ConcurrencyLimitV2:
    """Make a limit, with so many slots in use from the beginning."""
    if tx.execute(select(CONCURRENCY_LIMIT.c.id).where(CONCURRENCY_LIMIT.c.name == body.name)).first():
        raise ObjectAlreadyExists(
            f"There is a concurrency limit named {body.name!r}. Change it, or choose another name."
        )
    id = make_limit(tx, {name: getattr(body, name) for name in _SHOWN})
    _put_slots(tx, id, body.active_slots)
    values = msgspec.structs.asdict(body) | {"denied_slots": 0}  # they are those that somebody waits for: none yet
    return ConcurrencyLimitV2(id=id, created=tx.now, updated=tx.now, **values)


def _put_slots(tx: Tx, id: UUID, slots: int) -> None:
    """Let a limit that is locked have so many slots in use, by nobody in particular."""
    tx.execute(delete(SLOT_LEASE).where(SLOT_LEASE.c.limit_id == id))
    if slots:
        take(tx, standings(tx, [id])[0], slots, FOREVER, drains=True)


def _read(tx: Tx, rows: Sequence[Row[Any]]) -> list[GlobalConcurrencyLimit]:
    used = in_use(tx, rows)

    def read(row: Row[Any]) -> GlobalConcurrencyLimit:
        # what is coming back counts until it is
        return msgspec.convert(values_of(row) | {"active_slots": math.ceil(used[row.id])}, GlobalConcurrencyLimit)

    return listed(rows, read, "concurrency limit")


@implements(READ_CONCURRENCY_LIMIT_V2, access="concurrency_limits:read")
def read_concurrency_limit_v2(tx: Tx, id_or_name: str) -> GlobalConcurrencyLimit:
    """One limit, by its id or its name."""
    return _read(tx, [find_limit(tx, id_or_name)])[0]


@implements(READ_ALL_CONCURRENCY_LIMITS_V2, access="concurrency_limits:read")
def read_all_concurrency_limits_v2(tx: Tx, body: ReadConcurrencyLimits) -> list[GlobalConcurrencyLimit]:
    """All limits, by name."""
    chosen = select(CONCURRENCY_LIMIT).order_by(CONCURRENCY_LIMIT.c.name)
    return _read(tx, tx.execute(chosen.limit(page_size(body.limit)).offset(body.offset)).all())


@implements(UPDATE_CONCURRENCY_LIMIT_V2, access="concurrency_limits:write")
def update_concurrency_limit_v2(tx: Tx, id_or_name: str, body: ConcurrencyLimitV2Update) -> None:
    """Change a limit. Leases that are live stay so, also when there are more of them than the new limit allows."""
    row = find_limit(tx, id_or_name, lock=True)
    changes = {name: value for name in _SHOWN if (value := getattr(body, name)) is not None}
    if changes.get("slot_decay_per_second", row.slot_decay_per_second) != row.slot_decay_per_second:
        # what was coming back at the old rate counts in full until its end
        tx.execute(update(SLOT_LEASE).where(SLOT_LEASE.c.limit_id == row.id).values(drains=None))
    change_limit(tx, row, changes)
    if body.active_slots is not None:
        _put_slots(tx, row.id, body.active_slots)


@implements(DELETE_CONCURRENCY_LIMIT_V2, access="concurrency_limits:write")
def delete_concurrency_limit_v2(tx: Tx, id_or_name: str) -> None:
    """Delete a limit; whoever holds its slots goes on."""
    delete_limit(tx, find_limit(tx, id_or_name, lock=True))


def named(tx: Tx, names: Sequence[str]) -> list[Row[Any]]:
    """The limits of these names; those that are not there are passed over."""
    chosen = select(CONCURRENCY_LIMIT).where(CONCURRENCY_LIMIT.c.name.in_(set(names)))
    return list(tx.execute(chosen.order_by(CONCURRENCY_LIMIT.c.id)))


@implements(BULK_INCREMENT_ACTIVE_SLOTS, access="concurrency_limits:write")
def bulk_increment_active_slots(tx: Tx, body: IncrementSlots) -> list[MinimalConcurrencyLimitResponse] | Refusal:
    """Take slots of all these limits, or of none of them: they are in use until they are given back."""
    rows, limits = _take(tx, body)
    return limits if isinstance(limits, Refusal) else minimal(rows)


@implements(BULK_INCREMENT_ACTIVE_SLOTS_WITH_LEASE, access="concurrency_limits:write")
def bulk_increment_active_slots_with_lease(
    tx: Tx, body: IncrementSlotsWithLease
) -> ConcurrencyLimitWithLeaseResponse | Refusal:
    """Take slots of all these limits, or of none of them: they are in use as long as the lease is renewed."""
    rows, lease_id = _take(tx, body)
    if isinstance(lease_id, Refusal):
        return lease_id
    return ConcurrencyLimitWithLeaseResponse(lease_id=lease_id, limits=minimal(rows))


def _take(tx: Tx, body: IncrementSlots | IncrementSlotsWithLease) -> tuple[list[Row[Any]], UUID | Refusal]:
    """The limits a call names, and the lease it gets of them, or why it gets none.

    Raises:
        ValidationFailed: it never could have it.
    """
    rows = named(tx, body.names)
    leased = body if isinstance(body, IncrementSlotsWithLease) else None
    holder = (leased.holder.type.value, leased.holder.id) if leased and leased.holder else None
    names = ",".join(sorted(set(body.names)))
    if holder is not None:
        request, due = uuid5(holder[1], names), FOREVER
    else:  # nobody can tell such callers apart: the first who comes when one is due is taken for that one
        request, due = uuid5(NAMESPACE_OID, f"{names}:{body.slots}:{body.mode}"), tx.now
    limits, place = standings(tx, [row.id for row in rows if row.active], request=request, due=due)
    _check(limits, body)
    if any(limit.lacks(body.slots) for limit in limits):
        wait = wait_for(limits, body.slots)
        stand_in_line(tx, request, place, [limit.id for limit in limits], body.slots, after(tx.now, wait))
        names = ", ".join(repr(limit.name) for limit in limits if limit.lacks(body.slots))
        return rows, Refusal(locked(f"No slot is free of {names}.", wait))
    leave_line(tx, place=place)
    until = after(tx.now, leased.lease_duration) if leased else FOREVER
    drains = not leased or body.mode is LimitMode.RATE_LIMIT
    if not limits and leased:
        limits = [Standing(_NOTHING, "", 0, 0.0, 0.0, 0.0, False, None, 0)]
        return rows, take(tx, limits, 0, until)
    return rows, take(tx, limits, body.slots, until, drains=drains, holder=holder)


def _check(limits: Sequence[Standing], body: IncrementSlots | IncrementSlotsWithLease) -> None:
    """Refuse what would wait for ever."""
    if body.mode is LimitMode.RATE_LIMIT and (steady := [limit.name for limit in limits if not limit.decay]):
        raise ValidationFailed(f"A rate limit needs a slot_decay_per_second above 0; these have none: {steady}.")
    if any(limit.limit < body.slots for limit in limits):
        raise ValidationFailed("Slots requested is greater than the limit: ask for fewer, or raise the limit.")


@implements(BULK_DECREMENT_ACTIVE_SLOTS, access="concurrency_limits:write")
def bulk_decrement_active_slots(tx: Tx, body: DecrementSlots) -> list[MinimalConcurrencyLimitResponse]:
    """Give back slots that were taken without a lease, those that were taken first."""
    rows = named(tx, body.names)
    for limit in standings(tx, [row.id for row in rows])[0]:
        left = body.slots
        unleased: Any = tx.execute(_UNLEASED, {"of": limit.id}).all()
        for id, slots in unleased:
            lease = (SLOT_LEASE.c.id == id, SLOT_LEASE.c.limit_id == limit.id)
            if slots > left:
                tx.execute(update(SLOT_LEASE).where(*lease).values(slots=slots - left))
            elif left:
                tx.execute(delete(SLOT_LEASE).where(*lease))
            left -= min(left, slots)
        if body.occupancy_seconds is not None:
            tx.execute(_LEARN, {"of": limit.id, "seconds": body.occupancy_seconds})
    freed(tx, [row.id for row in rows])
    return minimal(rows)


@implements(BULK_DECREMENT_ACTIVE_SLOTS_WITH_LEASE, access="concurrency_limits:write")
def bulk_decrement_active_slots_with_lease(tx: Tx, body: DecrementSlotsWithLease) -> None:
    """Give back the slots of a lease; one that has ended has none."""
    chosen = SLOT_LEASE.c.id == body.lease_id
    leases = {row.limit_id: row for row in tx.execute(select(SLOT_LEASE).where(chosen))}
    for limit in standings(tx, list(leases))[0]:
        held = (tx.now - leases[limit.id].acquired).total_seconds()
        tx.execute(_LEARN, {"of": limit.id, "seconds": held})
    free(tx, delete(SLOT_LEASE).where(chosen))


@implements(RENEW_CONCURRENCY_LEASE, access="concurrency_limits:write")
def renew_concurrency_lease(tx: Tx, lease_id: UUID, body: RenewLease) -> None:
    """Let a lease last for so long from now on; one that lasts as long as its run needs no renewal."""
    live = (SLOT_LEASE.c.id == lease_id, SLOT_LEASE.c.until > tx.now)
    until = after(tx.now, body.lease_duration)
    renewed = tx.execute(update(SLOT_LEASE).where(*live, SLOT_LEASE.c.until < FOREVER).values(until=until)).rowcount
    if not renewed and not tx.execute(select(SLOT_LEASE.c.id).where(*live)).first():
        error = ApiError("Lease not found: it has ended, or its slots were given back.")
        error.status = 410
        raise error
