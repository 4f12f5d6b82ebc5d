"""Ends cancellings that nobody carries out, and what ran inside runs that were cancelled or have crashed.  # G12

A worker or an engine that is told to cancel writes CANCELLED itself; when it has died, the deadline in the run's row
passes and the server writes it. Children and task runs follow their parent: at once when the server ends it, and in
the next turn when a client did.
"""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import and_, bindparam, or_, select

from headrace.schemas.states import StateType
from headrace.server.operations.closing import OPEN, close_inside
from headrace.server.operations.facts import times
from headrace.server.rules.deadlines import when_cancelling_lasts
from headrace.server.services.overdue import BATCH, move_overdue, overdue
from headrace.server.services.service import Service, each
from headrace.server.store.tables import FLOW_RUN, TASK_RUN
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Settings

NAME = "cancelling"
INTERVAL = 5.0
RECENT = timedelta(days=1)


def service() -> Service:
    """The service that ends cancellings."""
    return Service(NAME, INTERVAL, run_once)


def run_once(store: Store, settings: Settings) -> int:
    """End what is overdue and return how many runs were changed."""
    limits = times(settings)
    ids = store.read(lambda tx: overdue(tx, [StateType.CANCELLING]))
    done = move_overdue(store, NAME, ids, lambda run, now: when_cancelling_lasts(run, now, limits))

    def close(parent: tuple[UUID, StateType]) -> bool:
        return store.write(lambda tx: close_inside(tx, *parent)) > 0

    return done + each(NAME, store.read(parents_with_open_runs), close)


_CHILD = FLOW_RUN.alias("child")
_STANDS_FOR = TASK_RUN.alias("stands_for")
_PARENT = select(FLOW_RUN.c.id, FLOW_RUN.c.state_type).where(
    FLOW_RUN.c.state_type.in_([StateType.CANCELLED.value, StateType.CRASHED.value]),
    FLOW_RUN.c.end_time > bindparam("since"),
)
# joins, so that the database may begin at either end: one of them has few rows
_WITH_OPEN_TASK_RUNS = _PARENT.join(TASK_RUN, TASK_RUN.c.flow_run_id == FLOW_RUN.c.id).where(
    TASK_RUN.c.state_type.in_(OPEN)
)
_WITH_OPEN_CHILDREN = (
    _PARENT.join(_STANDS_FOR, _STANDS_FOR.c.flow_run_id == FLOW_RUN.c.id)
    .join(_CHILD, _CHILD.c.parent_task_run_id == _STANDS_FOR.c.id)
    .where(
        _CHILD.c.state_type.in_(OPEN),
        _CHILD.c.parent_task_run_id.is_not(None),  # says to the planner that few rows are meant
        or_(
            _CHILD.c.deployment_id.is_(None),
            and_(FLOW_RUN.c.state_type == StateType.CANCELLED.value, _CHILD.c.state_type != StateType.CANCELLING.value),
        ),
    )
)


def parents_with_open_runs(tx: Tx) -> list[tuple[UUID, StateType]]:
    """Runs cancelled or crashed within the last day inside which something is still open, with how they ended."""
    found: dict[UUID, StateType] = {}
    for statement in (_WITH_OPEN_TASK_RUNS, _WITH_OPEN_CHILDREN):
        rows = tx.execute(statement.distinct().limit(BATCH), {"since": tx.now - RECENT})
        found |= {row.id: StateType(row.state_type) for row in rows}
    return list(found.items())
