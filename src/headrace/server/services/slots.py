"""Wakes flow runs that wait for a slot of their deployment, as soon as it is their turn.  # G7

A run that finds no slot is scheduled for a later try. When a slot is given back before that, those at the head of the
line are scheduled for now, and their workers hear of it. Without it they would try again at the time they were told.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, select

from headrace.schemas.states import StateCreate, StateDetails, StateType
from headrace.server.operations.slots import heads
from headrace.server.rules.change import FlowRunNow
from headrace.server.rules.slots import AWAITING
from headrace.server.services.overdue import move_overdue
from headrace.server.services.service import Service
from headrace.server.store.tables import FLOW_RUN, SLOT_WAITER
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Settings

NAME = "slots"
INTERVAL = 0.25


def service() -> Service:
    """The service of one server process."""
    return Service(NAME, INTERVAL, run_once)


def run_once(store: Store, _: Settings) -> int:
    """Wake those whose turn it is, and return how many."""
    return move_overdue(store, NAME, store.read(whose_turn_it_is), _wake)


def _sleeps(now: datetime) -> ColumnElement[bool]:
    return and_(
        FLOW_RUN.c.id == SLOT_WAITER.c.request,
        FLOW_RUN.c.state_name == AWAITING,
        FLOW_RUN.c.next_scheduled_start_time > now,
    )


def whose_turn_it_is(tx: Tx) -> list[UUID]:
    """The flow runs that sleep although the slots they wait for are free, and not for anybody before them."""
    asleep = select(SLOT_WAITER.c.limit_id).join(FLOW_RUN, _sleeps(tx.now)).where(SLOT_WAITER.c.until > tx.now)
    served, _ = heads(tx, tx.execute(asleep.distinct()).scalars().all())
    first = {place for places in served.values() for place in places}
    runs = select(FLOW_RUN.c.id).join(SLOT_WAITER, _sleeps(tx.now)).where(SLOT_WAITER.c.id.in_(first))
    return list(tx.execute(runs.order_by(SLOT_WAITER.c.id)).scalars()) if first else []


def _wake(run: FlowRunNow, now: datetime) -> StateCreate | None:
    state = run.state
    if state is None or state.name != AWAITING or (state.state_details.scheduled_time or now) <= now:
        return None
    return StateCreate(type=StateType.SCHEDULED, name=AWAITING, state_details=StateDetails(scheduled_time=now))
