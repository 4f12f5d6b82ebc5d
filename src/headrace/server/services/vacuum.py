"""What the services share that delete what is old: which of them run, and giving its space back."""

from headrace.server.events.retention import give_back
from headrace.server.store.transaction import Store
from headrace.settings import Settings
from headrace.settings.services import Kind

AT_ONCE = 1_000
"""How many rows one transaction deletes at least, and how many pages it gives back."""


def is_deleted(settings: Settings, kind: Kind) -> bool:
    """Whether the settings say that what is old of a kind is deleted."""
    enabled = settings.server.services.db_vacuum.enabled
    return kind in enabled if isinstance(enabled, list) else bool(enabled)


def rows_at_once(settings: Settings) -> int:
    """How many rows one transaction deletes."""
    return max(settings.server.services.db_vacuum.batch_size, AT_ONCE)


def shrink(store: Store) -> None:
    """Give the space of what was deleted back to the disk, where the database does not do that by itself."""
    while store.write(lambda tx: give_back(tx, AT_ONCE)):
        pass
