"""The reaper: ends the attempts whose holder has died, and frees slots that nobody holds.  # G6, G7

A run's row says until when its lease lasts. One that ended makes the run CRASHED, with what ran inside it, or
SCHEDULED again when it had not begun. Nothing expires for one lease time after the reaper starts, or comes back from a
time in which it did not look: whoever could not renew meanwhile gets the time to do so. `rules/deadlines.py` decides.
"""

from datetime import timedelta

from sqlalchemy import ColumnElement, Table, and_, delete, or_, select

from headrace.schemas.states import FINAL, StateCreate, StateType
from headrace.server.operations.slots import free
from headrace.server.rules.change import FlowRunNow
from headrace.server.rules.deadlines import Watch, lease_has_ended, look, when_holder_died
from headrace.server.rules.facts import FOREVER
from headrace.server.services.overdue import BATCH, move_overdue, overdue
from headrace.server.services.service import Service
from headrace.server.store.tables import FLOW_RUN, SLOT_LEASE, SLOT_WAITER, TASK_RUN
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Settings

NAME = "leases"
INTERVAL = 1.0
_HELD = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED)


def service() -> Service:
    """The reaper of one server process, which remembers when it looked."""
    return Service(NAME, INTERVAL, Reaper().run_once)


class Reaper:
    """Looks for leases that have ended.

    Args:
        interval: seconds between two looks; three of them may pass before a look counts as missed.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self._harmless_gap = 3 * interval
        self._watch: Watch | None = None

    def run_once(self, store: Store, _: Settings) -> int:
        """Look once and return how many runs were ended and slots freed."""
        now, ids, slots = store.read(
            lambda tx: (tx.now, overdue(tx, _HELD, FLOW_RUN.c.lease_until <= tx.now), unheld_slots(tx))
        )
        self._watch = watch = look(self._watch, now)
        # by the time of the look: a turn that takes long must not end leases that were alive when it began
        done = move_overdue(store, NAME, ids, lambda run, _: self._decide(run, watch))
        if slots:
            done += store.write(free_unheld_slots)
        return done

    def _decide(self, run: FlowRunNow, watch: Watch) -> StateCreate | None:
        ended = lease_has_ended(run, watch.last, watch, self._harmless_gap)
        return when_holder_died(run, watch.last) if ended else None


UNKNOWN = timedelta(minutes=10)
"""How long a run may hold slots without end before its record arrives: it may be on its way for a while."""
_FINAL = [kind.value for kind in FINAL]


def unheld_slots(tx: Tx) -> bool:
    """Whether there are slots, or places in line, whose time is over or whose run is deleted or ended."""
    waiters = select(SLOT_WAITER.c.id).where(SLOT_WAITER.c.until <= tx.now)
    found = (select(SLOT_LEASE.c.id).where(_unheld(tx)), waiters)
    return any(tx.execute(one.limit(1)).first() is not None for one in found)


def free_unheld_slots(tx: Tx) -> int:
    """Delete them and return how many there were.

    No change of state leaves such a slot behind; deleting a run, a foreign client's time of grace, and a client that
    does not give back what it took, do.
    """
    free(tx, delete(SLOT_WAITER).where(SLOT_WAITER.c.until <= tx.now))
    chosen = select(SLOT_LEASE.c.id).where(_unheld(tx)).order_by(SLOT_LEASE.c.id).limit(BATCH).with_for_update()
    ids = list(tx.execute(chosen).scalars())
    # the condition once more: a lease may have been renewed in between
    return free(tx, delete(SLOT_LEASE).where(SLOT_LEASE.c.id.in_(ids), _unheld(tx)))


def _unheld(tx: Tx) -> ColumnElement[bool]:
    return or_(SLOT_LEASE.c.until <= tx.now, _has_gone(tx, "flow_run", FLOW_RUN), _has_gone(tx, "task_run", TASK_RUN))


def _has_gone(tx: Tx, kind: str, table: Table) -> ColumnElement[bool]:
    """The holder has ended or is not there, unless its own calls end the lease and its record may be on its way."""
    holder = select(table.c.id).where(table.c.id == SLOT_LEASE.c.holder_id)
    stale = or_(~SLOT_LEASE.c.by_client, and_(SLOT_LEASE.c.until == FOREVER, SLOT_LEASE.c.acquired <= tx.now - UNKNOWN))
    ended = holder.where(table.c.state_type.in_(_FINAL)).exists()
    return and_(SLOT_LEASE.c.holder_type == kind, or_(ended, and_(~holder.exists(), stale)))
