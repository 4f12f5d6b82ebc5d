"""The newest rows of a log for all who listen in this process: the log is read once, however many they are.

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
from typing import Generic, NamedTuple, TypeVar

from headrace.server.events import hints
from headrace.server.events.cursors import Place
from headrace.server.store.transaction import Store, Tx

logger = logging.getLogger("headrace.server.events")

LOOK_AGAIN = 1.0
"""Seconds after which the log is looked at without a hint."""
SOON = 0.05
"""After a hint it is looked at again in so many seconds, and then in ever more: a transaction of somebody else that is
open may keep the news from being read at once."""
AT_ONCE = 500
WINDOW, WINDOW_BYTES = 5_000, 16 << 20
"""Rows that are kept for listeners, and the most bytes of them."""
RowT = TypeVar("RowT")


class News(NamedTuple, Generic[RowT]):
    """What was read of a row, and the frame that tells it."""

    row: RowT
    frame: bytes


class Batch(NamedTuple, Generic[RowT]):
    """The next rows, where the last of them is, and whether there may be more."""

    place: Place
    news: list[News[RowT]]
    has_more: bool


class Feed(Generic[RowT]):
    """Follows a log while anybody listens.

    Args:
        store: the database.
        topic: on which hints tell that the log has grown.
    """

    def __init__(self, store: Store, topic: str) -> None:
        self._store, self._topic = store, topic
        self._starting = asyncio.Lock()
        self._grown = asyncio.Condition()
        self._window: deque[News[RowT]] = deque()
        self._bytes = 0
        self._end = 0
        self._place: Place = (0, 0)
        self._listeners = 0
        self._following: asyncio.Task[None] | None = None

    async def begin(self) -> Place:
        """Begin to follow; returns the place from which the log is read."""
        raise NotImplementedError

    def read(self, tx: Tx, place: Place) -> Batch[RowT]:
        """Read the next rows behind a place."""
        raise NotImplementedError

    async def rest(self) -> None:
        """Do what else there is to do, each time when all has been read."""

    def end(self) -> None:
        """Do what is to be done when nobody listens any more."""

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Listener[RowT]"]:
        """Listen from now on."""
        async with self._starting:
            self._listeners += 1
            try:
                if self._following is None:
                    self._place = await self.begin()
                    self._following = asyncio.create_task(self._follow())
            except BaseException:
                self._listeners -= 1
                raise
        try:
            yield Listener(self, self._end, self._place)
        finally:
            self._listeners -= 1
            if self._listeners == 0 and self._following is not None:
                self._following.cancel()
                self._following = None
                self._window.clear()
                self._bytes = 0
                self.end()

    async def behind(self, at: int) -> list[News[RowT]]:
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

    async def lose(self, place: Place) -> None:
        """Go on from another place, and have all who listen learn that they missed something."""
        async with self._grown:
            self._place = place
            self._end += 1
            self._window.clear()
            self._bytes = 0
            self._grown.notify_all()

    async def _follow(self) -> None:
        pause = LOOK_AGAIN
        with hints.subscribe(self._topic, capacity=1) as news:
            while True:
                try:
                    while await self._read_on():
                        pass
                    await self.rest()
                except Exception:
                    logger.exception("The log behind %r could not be read. It is tried again soon.", self._topic)
                    await asyncio.sleep(LOOK_AGAIN)
                try:
                    async with asyncio.timeout(pause):
                        await anext(news)
                    pause = SOON
                except TimeoutError:
                    pause = min(2 * pause, LOOK_AGAIN)

    async def _read_on(self) -> bool:
        """Take in the next rows; says whether there may be more."""
        batch = await self._store.read_soon(lambda tx: self.read(tx, self._place))
        async with self._grown:
            self._place = batch.place
            self._end += len(batch.news)
            self._window.extend(batch.news)
            self._bytes += sum(len(one.frame) for one in batch.news)
            while len(self._window) > WINDOW or self._bytes > WINDOW_BYTES:
                self._bytes -= len(self._window.popleft().frame)
            self._grown.notify_all()
        return batch.has_more


class Listener(Generic[RowT]):
    """One who listens.

    Args:
        feed: to what.
        at: where in the feed.
        place: the place in the log where the feed was when the listener came.
    """

    def __init__(self, feed: Feed[RowT], at: int, place: Place) -> None:
        self._feed, self._at, self._place = feed, at, place

    def will_hear(self, place: Place) -> bool:
        """Whether the row at a place in the log is still to come."""
        return place > self._place

    async def next_ones(self) -> list[News[RowT]]:
        """The next rows, at least one.

        Raises:
            TimeoutError: the listener is so slow that some of them are gone.
        """
        news = await self._feed.behind(self._at)
        self._at += len(news)
        return news
