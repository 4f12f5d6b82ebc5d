"""Gives up clean-up that was handed to workers in vain, or that no worker wants."""

from headrace.server.operations.cleanups import give_up, in_vain
from headrace.server.services.service import Service, each
from headrace.server.store.transaction import Store
from headrace.settings import Settings, get_settings

NAME = "cleanup"


def service() -> Service:
    """The service that gives clean-up up."""
    return Service(NAME, get_settings().server.services.cleanup_reconciler.loop_seconds, run_once)


def run_once(store: Store, settings: Settings) -> int:
    """Give up what is handed out in vain and return how much that was."""
    own, channel = settings.server.services.cleanup_reconciler, settings.server.worker_channel
    if not own.enabled:
        return 0
    ids = store.read(lambda tx: in_vain(tx, channel, own.batch_size))
    return each(NAME, ids, lambda id: store.write(lambda tx: give_up(tx, id, channel)))
