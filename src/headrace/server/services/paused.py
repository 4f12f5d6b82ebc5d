"""Ends pauses whose time-out has passed.  # G12"""

from headrace.schemas.states import StateType
from headrace.server.rules.deadlines import when_pause_lasts
from headrace.server.services.overdue import move_overdue, overdue
from headrace.server.services.service import Service
from headrace.server.store.transaction import Store
from headrace.settings import Settings, get_settings

NAME = "paused"


def service() -> Service:
    """The service that ends pauses."""
    return Service(NAME, get_settings().server.services.pause_expirations.loop_seconds, run_once)


def run_once(store: Store, settings: Settings) -> int:
    """Fail what was paused for too long and return how many runs that were."""
    if not settings.server.services.pause_expirations.enabled:
        return 0
    ids = store.read(lambda tx: overdue(tx, [StateType.PAUSED]))
    return move_overdue(store, NAME, ids, when_pause_lasts)
