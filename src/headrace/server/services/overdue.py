"""Finding flow runs whose deadline has passed, for the services that move them."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, select

from headrace.exceptions import ObjectNotFound
from headrace.schemas.states import StateCreate, StateType
from headrace.server.operations.cleanups import clean_up_after
from headrace.server.operations.closing import MESSAGES, close_inside
from headrace.server.operations.facts import lock_flow_run
from headrace.server.operations.transitions import reconcile
from headrace.server.rules.change import FlowRunNow, Policy
from headrace.server.rules.flow_runs import RECONCILING_FLOW_RUN_RULES
from headrace.server.services.service import each
from headrace.server.store.tables import FLOW_RUN
from headrace.server.store.transaction import Store, Tx

BATCH = 1000
"""Most runs of one kind in one turn; the rest is still overdue in the next."""

Decide = Callable[[FlowRunNow, datetime], StateCreate | None]


def overdue(tx: Tx, types: Iterable[StateType], *more: ColumnElement[bool]) -> list[UUID]:
    """Flow runs of these types whose deadline has passed, the longest overdue first."""
    kinds = [kind.value for kind in types]
    found = select(FLOW_RUN.c.id).where(FLOW_RUN.c.state_type.in_(kinds), FLOW_RUN.c.due <= tx.now, *more)
    return list(tx.execute(found.order_by(FLOW_RUN.c.due).limit(BATCH)).scalars())


def move_overdue(
    store: Store,
    name: str,
    ids: Iterable[UUID],
    decide: Decide,
    policy: Policy[Any, Any] = RECONCILING_FLOW_RUN_RULES,
) -> int:
    """Look at each run again, in a transaction of its own, and move it if `decide` says so.  # G2, G13

    Args:
        store: the database.
        name: the service, for its reports.
        ids: the runs that may be overdue.
        decide: says from the run and the time which state it is to get, if any.
        policy: the rules that apply.

    Returns:
        How many runs were moved.
    """

    def move(run_id: UUID) -> bool:
        return store.write(lambda tx: _move(tx, run_id, decide, policy))

    return each(name, ids, move)


def _move(tx: Tx, run_id: UUID, decide: Decide, policy: Policy[Any, Any]) -> bool:
    try:
        run = lock_flow_run(tx, run_id)
    except ObjectNotFound:  # deleted since it was found
        return False
    proposed = decide(run, tx.now)
    if proposed is None:
        return False
    outcome = reconcile(tx, run, proposed, policy)
    state = outcome.result.state
    if outcome.written:
        clean_up_after(tx, run)
        if state is not None and state.type in MESSAGES:
            close_inside(tx, run_id, state.type)
    return outcome.written
