"""The newest events for all who listen in this process: the log is read once, however many they are.

The log itself is followed, not what is told about it: a hint only says that it is worth looking, and one looks now and
then anyway, as other server processes write to it too. So a listener misses nothing (G17).

What was read stays in a window for a while, in which each listener has a place of its own. A listener that falls out
of it is too slow; its socket is closed, and it comes back and asks for what it missed.  # G14
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator
from itertools import islice
from typing import NamedTuple

import msgspec

from headrace.schemas.events import ReceivedEvent
from headrace.server.events import hints
from headrace.server.events.cursors import Place, end_of_log, read_behind
from headrace.server.events.log import NEWS
from headrace.server.operations.events import read_event_row
from headrace.server.operations.paging import listed
from headrace.server.store.transaction import Store, Tx

logger = logging.getLogger("headrace.server.events")

LOOK_AGAIN = 1.0
"""Seconds after which the log is looked at without a hint."""
AT_ONCE = 500
WINDOW, WINDOW_BYTES = 5_000, 16 << 20
"""Events that are kept for listeners, and the most bytes of them."""
_encode = msgspec.json.Encoder().encode


class News(NamedTuple):
    """An event, and the frame that tells it."""

    event: ReceivedEvent
    frame: bytes


def frame_of(event: ReceivedEvent) -> bytes:
    """The frame that tells an event."""
    return b'{"type":"event","event":' + _encode(event) + b"}"


class EventFeed:
    """Follows the log while anybody listens.

    Args:
        store: the database.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._starting = asyncio.Lock()
        self._grown = asyncio.Condition()
        self._window: deque[News] = deque()
        self._bytes = 0
        self._end = 0
        self._place: Place = (0, 0)
        self._listeners = 0
        self._following: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Listener"]:
        """Listen from now on."""
        async with self._starting:
            self._listeners += 1
            if self._following is None:
                self._place = await self._store.read_soon(end_of_log)
                self._following = asyncio.create_task(self._follow())
        try:
            yield Listener(self, self._end, self._place)
        finally:
            self._listeners -= 1
            if self._listeners == 0 and self._following is not None:
                self._following.cancel()
                self._following = None
                self._window.clear()
                self._bytes = 0

    async def behind(self, at: int) -> list[News]:
        """What has come since the listener was at `at`; waits until there is something.

        Raises:
            TimeoutError: the listener is so slow that some of it is gone.
        """
        async with self._grown:
            await self._grown.wait_for(lambda: self._end > at)
        first = self._end - len(self._window)
        if at < first:
            raise TimeoutError
        return list(islice(self._window, at - first, None))

    async def _follow(self) -> None:
        with hints.subscribe(NEWS, capacity=1) as news:
            while True:
                try:
                    while await self._read_on():
                        pass
                except Exception:
                    logger.exception("The log of events could not be read. It is tried again in a second.")
                    await asyncio.sleep(LOOK_AGAIN)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN):
                        await anext(news)

    async def _read_on(self) -> bool:
        """Take in the next events; says whether there may be more."""

        def read(tx: Tx) -> tuple[Place, list[News], bool]:
            rows = read_behind(tx, self._place, AT_ONCE)
            if not rows:
                return self._place, [], False
            events = listed(rows, read_event_row, "event")
            return (rows[-1].xid, rows[-1].seq), [News(one, frame_of(one)) for one in events], len(rows) == AT_ONCE

        place, news, has_more = await self._store.read_soon(read)
        async with self._grown:
            self._place = place
            self._end += len(news)
            self._window.extend(news)
            self._bytes += sum(len(one.frame) for one in news)
            while len(self._window) > WINDOW or self._bytes > WINDOW_BYTES:
                self._bytes -= len(self._window.popleft().frame)
            self._grown.notify_all()
        return has_more


class Listener:
    """One who listens.

    Args:
        feed: to what.
        at: where in the feed.
        place: the place in the log where the feed was when the listener came.
    """

    def __init__(self, feed: EventFeed, at: int, place: Place) -> None:
        self._feed, self._at, self._place = feed, at, place

    def will_hear(self, place: Place) -> bool:
        """Whether the event at a place in the log is still to come."""
        return place > self._place

    async def next_ones(self) -> list[News]:
        """The next events, at least one.

        Raises:
            TimeoutError: the listener is so slow that some of them are gone.
        """
        news = await self._feed.behind(self._at)
        self._at += len(news)
        return news
