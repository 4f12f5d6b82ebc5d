"""Marks runs late that nobody has taken on in time.  # G2"""

from headrace.schemas.states import StateType
from headrace.server.operations.facts import times
from headrace.server.rules.deadlines import when_late
from headrace.server.rules.flow_runs import LATE_FLOW_RUN_RULES
from headrace.server.services.overdue import move_overdue, overdue
from headrace.server.services.service import Service
from headrace.server.store.tables import FLOW_RUN
from headrace.server.store.transaction import Store
from headrace.settings import Settings, get_settings

NAME = "late_runs"


def service() -> Service:
    """The service that marks runs late."""
    return Service(NAME, get_settings().server.services.late_runs.loop_seconds, run_once)


def run_once(store: Store, settings: Settings) -> int:
    """Mark what is late and return how many runs that were.

    A deployment whose limit is full, and which asks for it, has its late runs cancelled instead.
    """
    if not settings.server.services.late_runs.enabled:
        return 0
    ids = store.read(lambda tx: overdue(tx, [StateType.SCHEDULED], FLOW_RUN.c.state_name == "Scheduled"))
    limits = times(settings)
    return move_overdue(store, NAME, ids, lambda run, now: when_late(run, now, limits), LATE_FLOW_RUN_RULES)
