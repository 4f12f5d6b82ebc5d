"""Deletes events that are older than they are kept, and sees that restored ones can be read."""

from datetime import timedelta

from headrace.server.events.retention import adopt_restored, delete_old, give_back
from headrace.server.services.service import Service, each
from headrace.server.store.transaction import Store
from headrace.settings import Settings, get_settings

NAME = "event_retention"
AT_ONCE = 1_000
"""How many events one transaction deletes at least, and how many pages it gives back."""


def service() -> Service:
    """The service that deletes old events."""
    return Service(NAME, get_settings().server.services.db_vacuum.loop_seconds, run_once)


def run_once(store: Store, settings: Settings) -> int:
    """Delete what is too old and return how many events that were."""
    store.write(adopt_restored)
    said = settings.server.services.db_vacuum
    enabled = said.enabled if isinstance(said.enabled, list) else ["events"] if said.enabled else []
    if "events" not in enabled:
        return 0
    kept = settings.server.events.retention_period
    ages: list[tuple[str | None, timedelta]] = [(None, kept)]
    ages += [(name, age) for name, age in said.event_retention_overrides.items() if age < kept]
    most = max(said.batch_size, AT_ONCE)
    deleted = 0

    def delete(age: tuple[str | None, timedelta]) -> bool:
        nonlocal deleted
        while done := store.write(lambda tx: delete_old(tx, tx.now - age[1], most, age[0])):
            deleted += done
        return True

    each(NAME, ages, delete)
    while deleted and store.write(lambda tx: give_back(tx, AT_ONCE)):
        pass
    return deleted
