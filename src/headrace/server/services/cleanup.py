"""Gives up clean-up that was handed to workers in vain, or that no worker wants."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select

from headrace.server.operations.cleanups import give_up, is_in_vain
from headrace.server.services.service import Service, each
from headrace.server.store.tables import CLEANUP_DELIVERY
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Settings, get_settings

NAME = "cleanup"
_ROW = CLEANUP_DELIVERY.c


def service() -> Service:
    """The service that gives clean-up up."""
    return Service(NAME, get_settings().server.services.cleanup_reconciler.loop_seconds, run_once)


def run_once(store: Store, settings: Settings) -> int:
    """Give up what is handed out in vain and return how much that was."""
    own, channel = settings.server.services.cleanup_reconciler, settings.server.worker_channel
    if not own.enabled:
        return 0

    def in_vain(tx: Tx) -> Sequence[UUID]:
        return tx.execute(select(_ROW.id).where(is_in_vain(tx, channel)).limit(own.batch_size)).scalars().all()

    def end(id: UUID) -> bool:
        return store.write(lambda tx: give_up(tx, channel, _ROW.id == id, is_in_vain(tx, channel)))

    return each(NAME, store.read(in_vain), end)
