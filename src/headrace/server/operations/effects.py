"""Carrying out what the rules asked for, in the transaction that writes the state."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, bindparam

from headrace._internal.ids import uuid7
from headrace.server.operations.slots import Freeing, find_place, freed, leave_line, stand_in_line
from headrace.server.operations.task_deliveries import deliver
from headrace.server.rules.change import Effect
from headrace.server.rules.facts import FOREVER
from headrace.server.rules.slots import ExtendSlot, FreeSlots, LeaveLine, StandInLine, TakeSlot
from headrace.server.rules.task_effects import Enqueue, FreeTagSlots, KeepInCache, TakeTagSlots
from headrace.server.store.prepared import Prepared
from headrace.server.store.tables import SLOT_LEASE, TASK_RUN
from headrace.server.store.transaction import Tx

_OF_STATES = and_(SLOT_LEASE.c.holder_id == bindparam("holder"), ~SLOT_LEASE.c.by_client)
_FREE = Freeing(SLOT_LEASE.delete().where(_OF_STATES))
_EXTEND = Prepared(SLOT_LEASE.update().where(_OF_STATES).values(until=bindparam("end")))
_CACHE = Prepared(
    TASK_RUN.update()
    .where(TASK_RUN.c.id == bindparam("run_id"))
    .values(cache_key=bindparam("key"), cache_expiration=bindparam("expiration"))
)


def carry_out(tx: Tx, run_id: UUID, kind: str, effects: Iterable[Effect]) -> None:
    """Do what the rules asked for; what concerns only the run's own columns was done with them.

    Args:
        tx: the transaction.
        run_id: the run.
        kind: `flow_run` or `task_run`.
        effects: in their order.
    """
    for effect in effects:
        match effect:
            case TakeSlot(limit_id, lease_id, until):
                _take(tx, kind, run_id, [limit_id], until, lease_id)
            case ExtendSlot(until):
                tx.send(_EXTEND, {"holder": run_id, "end": until})
            case FreeSlots() | FreeTagSlots():
                _FREE.send(tx, {"holder": run_id})
            case TakeTagSlots(limit_ids):
                _take(tx, kind, run_id, limit_ids, FOREVER, uuid7())
            case StandInLine(limit_ids, retry):
                stand_in_line(tx, run_id, find_place(tx, run_id), limit_ids, 1, retry)
            case LeaveLine():
                leave_line(tx, request=run_id)
                freed(tx)
            case KeepInCache(key, expiration):
                tx.send(_CACHE, {"run_id": run_id, "key": key, "expiration": expiration})
            case Enqueue(task_key, state_id, due):
                deliver(tx, run_id, task_key, state_id, due)


def _take(tx: Tx, kind: str, run_id: UUID, limit_ids: Sequence[UUID], until: datetime, lease_id: UUID) -> None:
    """Give a run one slot of each limit, in place of those it may have."""
    _FREE.send(tx, {"holder": run_id})
    leave_line(tx, request=run_id)
    lease = {"id": lease_id, "slots": 1, "holder_type": kind, "holder_id": run_id, "acquired": tx.now, "until": until}
    tx.execute(SLOT_LEASE.insert(), [{**lease, "limit_id": limit_id} for limit_id in limit_ids])
