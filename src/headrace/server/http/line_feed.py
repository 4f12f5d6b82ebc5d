"""The newest log lines for all who listen in this process, by whatever server process they were written."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from uuid import UUID

import msgspec

from headrace._internal.ids import uuid7
from headrace.schemas.logs import Log
from headrace.server.events import hints
from headrace.server.events.cursors import Place
from headrace.server.events.line_news import (
    CHANNEL,
    LEASE,
    LINES,
    clear,
    end_of_news,
    leave,
    listen,
    read_news,
    renew,
)
from headrace.server.http.feed import AT_ONCE, Batch, Feed, News
from headrace.server.operations.logs import read_line
from headrace.server.operations.paging import listed
from headrace.server.store.transaction import Store, Tx

logger = logging.getLogger("headrace.server.events")

RENEWED_EACH = LEASE.total_seconds() / 3
CLEARED_AT_ONCE = 1_000
HEARS_ON = 10.0
"""Seconds for which a connection goes on hearing, so that one who comes and goes does not open one each time.  # G14"""
_encode = msgspec.json.Encoder().encode


class LineFeed(Feed[Log]):
    """Follows the log lines, which are told of only while somebody listens.

    Args:
        store: the database.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store, LINES)
        self._id = UUID(int=0)
        self._renewed = 0.0
        self._stop_hearing: Callable[[], None] = lambda: None
        self._hushing: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None

    async def begin(self) -> Place:
        """Begin at the end of the news, and have lines told."""
        place = await self._enter()
        if self._hushing is not None:
            self._hushing.cancel()
            self._hushing = None
        else:
            self._stop_hearing = self._store.hear(CHANNEL, lambda: hints.publish_here(LINES, {}))
        return place

    async def _enter(self) -> Place:
        place = await self._store.read_soon(end_of_news)  # first: what is told from then on comes behind it
        self._id = id = uuid7()
        await self._store.write_soon(lambda tx: listen(tx, id))
        self._renewed = 0.0  # so that what is old is cleared soon
        return place

    def read(self, tx: Tx, place: Place) -> Batch[Log]:
        """Read the next lines."""
        rows = read_news(tx, place, AT_ONCE)
        lines = listed(rows, read_line, "log line")
        news = [News(one, b'{"type":"log","log":' + _encode(one) + b"}") for one in lines]
        return Batch((rows[-1].xid, rows[-1].seq) if rows else place, news, len(rows) == AT_ONCE)

    async def rest(self) -> None:
        """Go on listening: only now, when all has been read, as news are kept for little longer than that lasts."""
        if time.monotonic() - self._renewed < RENEWED_EACH:
            return
        id, moment = self._id, time.monotonic()
        if not await self._store.write_soon(lambda tx: renew(tx, id)):
            logger.warning("Log lines were not told for a while, and listeners are sent away so that they learn of it.")
            await self.lose(await self._enter())
        self._renewed = moment
        while await self._store.write_soon(lambda tx: clear(tx, CLEARED_AT_ONCE)) == CLEARED_AT_ONCE:
            pass

    def end(self) -> None:
        """Have lines told no longer."""
        self._hushing = asyncio.get_running_loop().call_later(HEARS_ON, self._hush)
        self._leaving = asyncio.create_task(self._leave(self._id))

    def _hush(self) -> None:
        self._hushing = None
        self._stop_hearing()

    async def _leave(self, id: UUID) -> None:
        with contextlib.suppress(Exception):  # it ends by itself
            await self._store.write_soon(lambda tx: leave(tx, id))
