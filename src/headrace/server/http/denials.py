"""Calls that were denied, for the audit log.  # S18

A call that is denied does nothing in the database, so it may not be made to do much there by asking often. The first
one of a kind in a minute is written at once, the others are summed up at the end of the minute; a kind is who was
denied what from where. Beyond so many kinds a minute the rest is one row.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from headrace.server.operations.auditing import note_denials
from headrace.server.store.transaction import Store

MINUTE = 60.0
MOST = 50
"""How many kinds of denials are told apart in one minute: at most twice as many rows, and one."""
NOBODY_KNOWN = "Nobody known"

logger = logging.getLogger("headrace.server")


class Kind(NamedTuple):
    """Who was denied what from where."""

    actor: str
    operation: str
    address: str | None


OTHERS = Kind("Several", "several", None)


class Denials:
    """The denials of one server process.

    Args:
        store: the database.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._more: dict[Kind, int] = {}
        """How many there were of each kind in this minute, but for those that are written already."""
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, actor: str, operation: str, address: str) -> None:
        """Note that a call was denied; called in the event loop."""
        if not self._more:
            asyncio.get_running_loop().call_later(MINUTE, self._end_minute)
        kind = Kind(actor, operation, address)
        if kind not in self._more and len(self._more) >= MOST:
            kind = OTHERS
        elif kind not in self._more:
            self._more[kind] = 0
            return self._write({kind: 1})
        self._more[kind] = self._more.get(kind, 0) + 1
        return None

    def _end_minute(self) -> None:
        sums = {kind: times for kind, times in self._more.items() if times}
        self._more.clear()
        if sums:
            self._write(sums)

    def _write(self, sums: Mapping[Kind, int]) -> None:
        task = asyncio.ensure_future(self._written([{**kind._asdict(), "times": sums[kind]} for kind in sums]))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _written(self, rows: Iterable[Mapping[str, object]]) -> None:
        try:
            await self._store.write_soon(lambda tx: note_denials(tx, rows))
        except Exception as error:  # noqa: BLE001  the caller was answered; without the database nothing else goes on
            logger.warning("Denied calls could not be written into the audit log: %s", error)
