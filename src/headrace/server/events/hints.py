"""Hints: one part of this server tells another that it may be worth looking.

An operation publishes after its commit; whoever holds a websocket subscribes and passes the news on. A hint carries
no truth: it may be lost when its reader is slow, when several servers share a database, or when a process dies, and
then a poll finds the same news later. The processes of one server tell each other, see `exchange`.  # G17

`publish` may be called from any thread and costs one dictionary look-up when nobody listens. A subscription belongs to
the event loop it was made in.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

CAPACITY = 256
"""Hints that wait in one subscription; the oldest gives way to a newer one."""

_subscriptions: dict[str, tuple["Subscription", ...]] = {}
_changing = threading.Lock()

Tell = Callable[[str, dict[str, Any]], None]
"""Takes a hint: its topic and its payload; never blocks and never raises."""
_elsewhere: Tell | None = None


def publish(topic: str, payload: dict[str, Any]) -> None:
    """Tell all who subscribe to `topic`; never blocks and never raises.

    Args:
        topic: what it is about, such as `work-pool:<id>`.
        payload: the news, plain JSON values; nobody may change it afterwards.
    """
    publish_here(topic, payload)
    if _elsewhere is not None:
        _elsewhere(topic, payload)


def publish_here(topic: str, payload: dict[str, Any]) -> None:
    """Tell those who subscribe to `topic` in this process alone."""
    for subscription in _subscriptions.get(topic, ()):
        subscription.put(payload)


def pass_on(elsewhere: Tell | None) -> None:
    """Tell other processes too, from now on; None tells them no more."""
    global _elsewhere
    _elsewhere = elsewhere


def is_heard(topic: str) -> bool:
    """Whether anybody may subscribe to `topic`: whoever has to make the news first may spare it."""
    return topic in _subscriptions or _elsewhere is not None


def subscribe(topic: str, capacity: int = CAPACITY) -> "Subscription":
    """Listen to `topic` from now on, in the running event loop.

    Args:
        topic: what to hear of.
        capacity: how many hints may wait; the oldest is dropped for a newer one.  # G14

    Returns:
        An asynchronous iterator of payloads. Close it, or use it as a context manager, so that it is forgotten.
    """
    return Subscription(topic, capacity)


class Subscription:
    """The hints of one topic, in the order they were published; see `subscribe`."""

    def __init__(self, topic: str, capacity: int) -> None:
        self.topic = topic
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[dict[str, Any]] = deque(maxlen=capacity)
        self._news = asyncio.Event()
        self._woken = False
        self._closed = False
        with _changing:
            _subscriptions[topic] = (*_subscriptions.get(topic, ()), self)

    def put(self, payload: dict[str, Any]) -> None:
        """Add a hint, from any thread."""
        self._waiting.append(payload)
        if not self._woken:  # one wake-up serves all hints that came before the reader runs
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._news.set)
            except RuntimeError:  # the loop is closed: so is its reader
                self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            await self._news.wait()
            self._news.clear()
            self._woken = False  # before looking: what is put from here on wakes us again
        return self._waiting.popleft()

    def take_all(self) -> list[dict[str, Any]]:
        """What waits already, without waiting for more."""
        taken = []
        while self._waiting:
            taken.append(self._waiting.popleft())
        return taken

    def close(self) -> None:
        """Hear nothing more; a reader that waits is let go."""
        with _changing:
            left = tuple(other for other in _subscriptions.get(self.topic, ()) if other is not self)
            if left:
                _subscriptions[self.topic] = left
            else:
                _subscriptions.pop(self.topic, None)
        if not self._closed:
            self._closed = True
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._news.set)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
