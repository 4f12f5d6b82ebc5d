"""Taking slots of limits, waiting in line for them, and giving them back: one mechanism for runs and for clients.  # G7

Whoever takes slots locks the rows of the limits in the order of their ids (G16), ends the leases that have run out,
adds up the live ones, and adds its own, all in one transaction. Ending them under the lock is what makes a late
renewal harmless: it finds its row gone.

Who is refused gets a place in the line of each limit and is told when to come back. Nobody may take a slot that those
before them wait for, so slots go to whoever has waited longest, and a large request is not starved by small ones.

Whoever gives slots back says so when that is committed (`free`, `freed`), and `whose_turn` tells who may be served
then: that wakes callers that are held (`http/long_poll.py`). Flow runs are woken by `services/slots.py`.
"""

import math
import random
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Delete, Row, and_, bindparam, case, delete, func, or_, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import RateLimited
from headrace.server.events import hints
from headrace.server.rules.change import after
from headrace.server.rules.facts import FOREVER
from headrace.server.store.prepared import Prepared
from headrace.server.store.tables import CONCURRENCY_LIMIT, SLOT_LEASE, SLOT_WAITER
from headrace.server.store.transaction import Place, Tx
from headrace.settings import get_settings

GRACE = 2.0
"""Seconds a place in line is kept beyond one and a half of the wait that was announced; clients lengthen waits."""
HELD = 3.0
"""Seconds for which a place of a caller that is held is kept at a time."""
FREED = "slots"
"""The topic of hints that slots came back, or that a place in line was given up."""
_TINY = 1e-6

_LIMITS: Any = bindparam("ids", expanding=True)
_LOCK = (
    select(*(CONCURRENCY_LIMIT.c[name] for name in ("id", "name", "limit", "slot_decay_per_second")))
    .add_columns(CONCURRENCY_LIMIT.c.avg_slot_occupancy_seconds)
    .where(CONCURRENCY_LIMIT.c.id.in_(_LIMITS))
    .order_by(CONCURRENCY_LIMIT.c.id)
    .with_for_update()
)
_END = delete(SLOT_LEASE).where(SLOT_LEASE.c.limit_id.in_(_LIMITS), SLOT_LEASE.c.until <= bindparam("now"))
_IS_HOLDER = and_(SLOT_LEASE.c.holder_id == bindparam("holder_id"), ~SLOT_LEASE.c.by_client)
_USED = (
    select(
        SLOT_LEASE.c.limit_id,
        func.sum(case((or_(_IS_HOLDER, SLOT_LEASE.c.drains.is_not(None)), 0), else_=SLOT_LEASE.c.slots)).label("used"),
        func.sum(case((_IS_HOLDER, 1), else_=0)).label("held"),
        func.max(SLOT_LEASE.c.drains).label("drains"),
    )
    .where(SLOT_LEASE.c.limit_id.in_(_LIMITS), SLOT_LEASE.c.until > bindparam("now"))
    .group_by(SLOT_LEASE.c.limit_id)
)
_PLACE = (
    select(SLOT_WAITER.c.id)
    .where(SLOT_WAITER.c.request == bindparam("request"), SLOT_WAITER.c.until > bindparam("now"))
    .where(SLOT_WAITER.c.retry <= bindparam("due"))
    .order_by(SLOT_WAITER.c.id)
    .limit(1)
)
_LAST = UUID(int=(1 << 128) - 1)
_AHEAD = (
    select(SLOT_WAITER.c.limit_id, func.sum(SLOT_WAITER.c.slots).label("ahead"))
    .where(SLOT_WAITER.c.limit_id.in_(_LIMITS), SLOT_WAITER.c.until > bindparam("now"))
    .where(SLOT_WAITER.c.id < bindparam("place"))
    .group_by(SLOT_WAITER.c.limit_id)
)
_LEAVE = delete(SLOT_WAITER).where(SLOT_WAITER.c.id == bindparam("place"))
_LEAVE_ALL = delete(SLOT_WAITER).where(SLOT_WAITER.c.request == bindparam("asks"))
_PLACES: Any = bindparam("places", expanding=True)
_STANDS = select(SLOT_WAITER.c.id).where(SLOT_WAITER.c.id == bindparam("place"), SLOT_WAITER.c.until > bindparam("now"))
_KEEP = (
    update(SLOT_WAITER)
    .where(SLOT_WAITER.c.id.in_(_PLACES), SLOT_WAITER.c.until > bindparam("now"))
    .values(
        retry=bindparam("next"),
        until=case((SLOT_WAITER.c.until > bindparam("end"), SLOT_WAITER.c.until), else_=bindparam("end")),
    )
    .returning(SLOT_WAITER.c.id)
)
_COUNTED = (
    select(
        SLOT_LEASE.c.limit_id,
        func.sum(SLOT_LEASE.c.slots).filter(SLOT_LEASE.c.drains.is_(None)).label("slots"),
        func.max(SLOT_LEASE.c.drains).label("drains"),
    )
    .where(SLOT_LEASE.c.limit_id.in_(_LIMITS), SLOT_LEASE.c.until > bindparam("now"))
    .group_by(SLOT_LEASE.c.limit_id)
)


class Standing(NamedTuple):
    """A limit as it stands for one who asks, locked until the transaction ends.

    `used` are the slots of others, `ahead` those that others wait for and have waited longer; `drains` is when the
    slots that come back by themselves will all be back.
    """

    id: UUID
    name: str
    limit: int
    decay: float
    occupancy: float
    used: float
    held: bool
    drains: datetime | None
    ahead: int

    def lacks(self, slots: int) -> float:
        """How many slots too few are free; 0 when the one who asks may have so many."""
        short = self.used + self.ahead + slots - self.limit
        return short if short > _TINY else 0.0


def used_now(slots: int | None, drains: datetime | None, decay: float, now: datetime) -> float:
    """How many slots are in use: those that are held, and those that have yet to come back by themselves."""
    out = 0.0 if drains is None else max(0.0, (drains - now).total_seconds()) * decay
    return int(slots or 0) + out


def in_use(tx: Tx, rows: Collection[Row[Any]]) -> dict[UUID, float]:
    """How many slots of limits are in use, by their ids; what comes back by itself counts by what is still out."""
    found: Any = tx.execute(_COUNTED, {"ids": [row.id for row in rows], "now": tx.now})
    sums = {one.limit_id: (one.slots, one.drains) for one in found}
    return {row.id: used_now(*sums.get(row.id, (0, None)), row.slot_decay_per_second, tx.now) for row in rows}


def find_place(tx: Tx, request: UUID, *, due: datetime = FOREVER) -> UUID | None:
    """The place in line that a request holds; of several that nobody can tell apart the longest one that is due."""
    held = tx.patience and tx.patience.place
    if held and tx.execute(_STANDS, {"place": held, "now": tx.now}).first():
        return held
    found: UUID | None = tx.execute(_PLACE, {"request": request, "now": tx.now, "due": due}).scalar()
    return found


def standings(
    tx: Tx, ids: Sequence[UUID], *, holder_id: UUID | None = None, request: UUID | None = None, due: datetime = FOREVER
) -> tuple[list[Standing], UUID | None]:
    """Lock limits and see how they stand; a limit that is gone is left out.

    Args:
        tx: a writing transaction.
        ids: the limits.
        holder_id: the run that asks; slots it has been given already are not counted.
        request: who asks, as known in line; None when it has to stand behind everybody.
        due: see `find_place`.

    Returns:
        How they stand, and the place of the one who asks.
    """
    limits: Any = tx.execute(_LOCK, {"ids": ids}).all()
    asked = {"ids": ids, "now": tx.now}
    tx.execute(_END, asked)
    place = None if request is None else find_place(tx, request, due=due)
    used = {row.limit_id: row for row in tx.execute(_USED, {**asked, "holder_id": holder_id})}
    ahead = {row.limit_id: int(row.ahead) for row in tx.execute(_AHEAD, {**asked, "place": place or _LAST})}
    found = []
    for id, name, limit, decay, occupancy in limits:
        row = used.get(id)
        taken = 0.0 if row is None else used_now(row.used, row.drains, decay, tx.now)
        held, drains = (False, None) if row is None else (bool(row.held), row.drains)
        found.append(Standing(id, name, limit, decay, occupancy, taken, held, drains, ahead.get(id, 0)))
    return found, place


def take(
    tx: Tx,
    limits: Sequence[Standing],
    slots: int,
    until: datetime,
    *,
    drains: bool = False,
    holder: tuple[str, UUID] | None = None,
) -> UUID:
    """Take slots for a client, of limits that have been locked and lack none.

    Args:
        tx: the transaction of the lock.
        limits: of which ones.
        slots: how many of each.
        until: the end of the lease.
        drains: whether nobody will give them back: they end as soon as they have come back by themselves.
        holder: the kind and the id of the run that holds them.

    Returns:
        The id of the lease.
    """
    lease_id = uuid7()
    kind, holder_id = holder or (None, None)
    rows = []
    for limit in limits:
        out = after(max(tx.now, limit.drains or tx.now), slots / limit.decay) if limit.decay else None
        end = out if drains and out is not None else until
        row = {"id": lease_id, "limit_id": limit.id, "slots": slots, "by_client": True, "holder_type": kind}
        rows.append({**row, "holder_id": holder_id, "acquired": tx.now, "drains": out, "until": end})
    if rows:
        tx.execute(SLOT_LEASE.insert(), rows)
    return lease_id


def stand_in_line(tx: Tx, request: UUID, place: UUID | None, ids: Sequence[UUID], slots: int, retry: datetime) -> None:
    """Keep a place before limits that are locked, or get one at the end of the line.

    Args:
        tx: the transaction of the lock.
        request: who waits.
        place: the place it has; None for a new one.
        ids: the limits.
        slots: how many it wants of each.
        retry: when it was told to come back.
    """
    if place is not None:
        tx.execute(_LEAVE, {"place": place})
    place = place or uuid7()
    if tx.patience is not None:
        tx.patience.waits = Place(place, tuple(ids))
        retry = max(retry, after(tx.now, HELD)) if tx.patience.holds else retry
    until = after(retry, GRACE) + (retry - tx.now) / 2
    row = {"id": place, "request": request, "slots": slots, "retry": retry, "until": until}
    tx.execute(SLOT_WAITER.insert(), [{**row, "limit_id": id} for id in ids])


def leave_line(tx: Tx, *, place: UUID | None = None, request: UUID | None = None) -> None:
    """Give up a place in line, or all that a request has."""
    if place is not None:
        tx.execute(_LEAVE, {"place": place})
    if request is not None:
        tx.execute(_LEAVE_ALL, {"asks": request})


def keep_places(tx: Tx, places: Collection[UUID]) -> set[UUID]:
    """Keep places in line for `HELD` seconds more, in which nobody else is taken for those who have them.

    Returns:
        Those that are still there.
    """
    end = {"next": after(tx.now, HELD), "end": after(tx.now, HELD + GRACE)}
    return set(tx.execute(_KEEP, {"places": list(places), "now": tx.now, **end}).scalars())


def freed(tx: Tx, limit_ids: Collection[UUID] | None = None) -> None:
    """Tell those who wait for these limits, or for any, that it may be their turn, once this is committed."""
    if hints.is_heard(FREED) and (limit_ids is None or limit_ids):
        limits = {} if limit_ids is None else {"limits": [str(id) for id in limit_ids]}
        tx.after_commit(partial(hints.publish, FREED, limits))


def free(tx: Tx, deletion: Delete, parameters: Mapping[str, Any] | None = None) -> int:
    """Delete leases, or places in line, and tell those who wait; returns how many there were."""
    if not hints.is_heard(FREED):
        return tx.execute(deletion, parameters).rowcount
    limit_ids = tx.execute(deletion.returning(deletion.table.c.limit_id), parameters).scalars().all()
    freed(tx, limit_ids)
    return len(limit_ids)


class Freeing:
    """A deletion of leases that is made often, and mostly finds none.

    Args:
        deletion: with `bindparam`s.
    """

    __slots__ = ("_quiet", "_telling")

    def __init__(self, deletion: Delete) -> None:
        self._quiet = Prepared(deletion)
        self._telling = Prepared(deletion.returning(deletion.table.c.limit_id))

    def send(self, tx: Tx, parameters: Mapping[str, Any]) -> None:
        """Delete the leases, and tell those who wait if there are any in this process."""
        if hints.is_heard(FREED):
            freed(tx, [row.limit_id for row in tx.execute(self._telling, parameters)])
        else:
            tx.send(self._quiet, parameters)


def heads(tx: Tx, limit_ids: Collection[UUID]) -> tuple[dict[UUID, set[UUID]], dict[UUID, float]]:
    """Those before limits who may be served now.

    Args:
        tx: any transaction.
        limit_ids: the limits.

    Returns:
        Their places in line, by limit; a limit that is gone is left out. And the seconds after which one more may be,
        for limits whose slots come back by themselves.
    """
    limits = tx.execute(select(CONCURRENCY_LIMIT).where(CONCURRENCY_LIMIT.c.id.in_(list(limit_ids)))).all()
    used = in_use(tx, limits) if limits else {}
    found: dict[UUID, set[UUID]] = {limit.id: set() for limit in limits}
    next_in: dict[UUID, float] = {}
    for limit in limits:
        left = limit.limit - used[limit.id] + _TINY if limit.active else math.inf
        if left < 1 and not limit.slot_decay_per_second:
            continue
        line = select(SLOT_WAITER.c.id, SLOT_WAITER.c.slots).where(SLOT_WAITER.c.limit_id == limit.id)
        line = line.where(SLOT_WAITER.c.until > tx.now).order_by(SLOT_WAITER.c.id)
        first: Any = tx.execute(line.limit(max(int(left), 0) + 1 if limit.active else None))
        for place, slots in first:
            left -= slots
            if left >= 0 or slots > limit.limit:  # who can never be served any more is to be told so
                found[limit.id].add(place)
            if left < 0:
                if limit.slot_decay_per_second:
                    next_in[limit.id] = -left / limit.slot_decay_per_second
                break
    return found, next_in


def whose_turn(tx: Tx, places: Collection[Place]) -> tuple[set[UUID], dict[UUID, float]]:
    """Those of some places in line whose turn it is before every limit they wait for; else as `heads`."""
    served, next_in = heads(tx, {limit_id for place in places for limit_id in place.limit_ids})
    turn = {
        place.id
        for place in places
        if all(limit_id not in served or place.id in served[limit_id] for limit_id in place.limit_ids)
    }
    return turn, next_in


def wait_for(limits: Sequence[Standing], slots: int) -> float:
    """Seconds after which it may be worth asking again, a little different for each who waits."""
    most = get_settings().server.concurrency.maximum_concurrency_slot_wait_seconds
    waits = [0.0]
    for limit in limits:
        if not (short := limit.lacks(slots)):
            continue
        each = 1 / limit.decay if limit.decay else limit.occupancy / max(limit.limit, 1)
        waits.append(each * (short if limit.decay else limit.ahead + slots))
    return min(most, max(waits)) * random.uniform(0.8, 1.2)  # spreads waiting clients, keeps no secret


def locked(message: str, wait: float) -> RateLimited:
    """The refusal of a call that finds no slot: 423, and when to come again."""
    error = RateLimited(message, wait)
    error.status = 423
    return error
