"""Deletes log lines and artifacts of flow runs that are gone, and sees that each key has its latest artifact."""

from collections.abc import Callable, Iterator
from typing import Any

from headrace.server.operations.artifacts import settle_latest
from headrace.server.operations.orphans import (
    Page,
    delete_left_artifacts,
    delete_lines,
    keys_without_latest,
    vanished_runs,
)
from headrace.server.services.service import Service, each
from headrace.server.services.vacuum import AT_ONCE, is_deleted, rows_at_once, shrink
from headrace.server.store.tables import ARTIFACT, LOG
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Settings, get_settings

NAME = "orphans"


def service() -> Service:
    """The service that deletes what nothing refers to any more."""
    return Service(NAME, get_settings().server.services.db_vacuum.orphan_cleanup_loop_seconds, run_once)


def run_once(store: Store, settings: Settings) -> int:
    """Delete orphans and return of how many flow runs they were, and how many keys were put right."""
    if not is_deleted(settings, "orphans"):
        return 0
    limit = rows_at_once(settings)

    def piecewise(delete: Callable[[Tx, Any, int], int], run_id: Any) -> bool:
        while deleted := store.write(lambda tx: delete(tx, run_id, limit)):
            if deleted < limit:
                break
        return True

    lines = _pages(store, None, lambda tx, after: vanished_runs(tx, LOG, after, AT_ONCE))
    done = each(NAME, lines, lambda run_id: piecewise(delete_lines, run_id))
    artifacts = _pages(store, None, lambda tx, after: vanished_runs(tx, ARTIFACT, after, AT_ONCE))
    done += each(NAME, artifacts, lambda run_id: piecewise(delete_left_artifacts, run_id))
    keys = _pages(store, "", lambda tx, after: keys_without_latest(tx, after, AT_ONCE))
    done += each(NAME, keys, lambda key: store.write(lambda tx: settle_latest(tx, [key])) is None)
    if done:
        shrink(store)
    return done


def _pages(store: Store, after: Any, look: Callable[[Tx, Any], Page]) -> Iterator[Any]:
    while (page := store.read(lambda tx: look(tx, after))).last is not None:  # noqa: B023  run at once
        yield from page.found
        after = page.last
