"""Hearing at once that there may be work: the websocket of a work pool, read by a thread with an event loop.

Only hints come this way: while nobody answers, the supervisor's polls find the same a few seconds later.  # G17
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from uuid import UUID

from headrace.client.subscriptions import work_pool_hints
from headrace.exceptions import ApiError

logger = logging.getLogger("headrace.runner")


class Hints:
    """The thread that listens.

    Args:
        pool: name of the work pool.
        runs: told that there may be runs to claim.
        cancel: told of a run that is to be cancelled.
    """

    def __init__(self, pool: str, *, runs: Callable[[], None], cancel: Callable[[UUID], None]) -> None:
        self._pool, self._runs, self._cancel = pool, runs, cancel
        self._loop = asyncio.new_event_loop()
        self._listening: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._work, name="headrace-hints", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(RuntimeError):  # the thread has ended by itself, and closed its loop
            self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(2)

    def _stop(self) -> None:
        if self._listening is not None:
            self._listening.cancel()

    def _work(self) -> None:
        self._listening = self._loop.create_task(self._listen())
        try:
            self._loop.run_until_complete(self._listening)
        except asyncio.CancelledError:
            logger.debug("No longer listening for hints of pool %r.", self._pool)
        except ApiError as error:
            logger.warning("No hints from the server: %s Runs are found by asking every few seconds.", error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _listen(self) -> None:
        async for hint in work_pool_hints(self._pool):
            if hint.get("type") == "runs":
                self._runs()
            elif hint.get("type") == "cancel":
                self._cancel(UUID(hint["flow_run_id"]))
