"""Takes back runs that were taken on without a lease and have not begun in time.  # G2, G12

Prefect's workers have no lease: one that dies after it took a run on leaves it PENDING, or waiting for its retry, for
ever. Such a run is scheduled anew if it has a deployment, else it is crashed. Runs with a lease are the reaper's.
"""

from sqlalchemy import or_

from headrace.schemas.states import StateType
from headrace.server.operations.facts import times
from headrace.server.rules.deadlines import when_never_begun
from headrace.server.services.overdue import move_overdue, overdue
from headrace.server.services.service import Service
from headrace.server.store.tables import FLOW_RUN
from headrace.server.store.transaction import Store
from headrace.settings import Settings

NAME = "pending"
INTERVAL = 5.0


def service() -> Service:
    """The service that takes back runs which do not begin."""
    return Service(NAME, INTERVAL, run_once)


def run_once(store: Store, settings: Settings) -> int:
    """Take back what has not begun and return how many runs that were."""
    waiting = (StateType.PENDING, StateType.SCHEDULED)
    taken_on = or_(FLOW_RUN.c.state_type == StateType.PENDING.value, FLOW_RUN.c.state_name != "Scheduled")
    ids = store.read(lambda tx: overdue(tx, waiting, FLOW_RUN.c.lease_until.is_(None), taken_on))
    limits = times(settings)
    return move_overdue(store, NAME, ids, lambda run, now: when_never_begun(run, now, limits))
