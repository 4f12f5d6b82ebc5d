"""Locks among the threads of one process."""

import threading
import time
from typing import ClassVar

from headrace._internal.threads import in_thread


class MemoryLockManager:
    """Locks keys among the threads and coroutines of this process; every instance shares the same locks."""

    _changed: ClassVar[threading.Condition] = threading.Condition()
    _held: ClassVar[dict[str, tuple[str, float]]] = {}  # key -> holder, and when the lock ends

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """See `LockManager.acquire_lock`."""
        deadline = None if acquire_timeout is None else time.monotonic() + acquire_timeout
        with self._changed:
            while (held := self._live(key)) is not None and held[0] != holder:
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                self._changed.wait(_least(deadline, held[1]))
            self._held[key] = (holder, float("inf") if hold_timeout is None else time.monotonic() + hold_timeout)
            return True

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """See `LockManager.aacquire_lock`."""
        return await in_thread(self.acquire_lock, key, holder, acquire_timeout, hold_timeout)

    def release_lock(self, key: str, holder: str) -> None:
        """See `LockManager.release_lock`."""
        with self._changed:
            held = self._live(key)
            if held is None or held[0] != holder:
                raise ValueError(f"The lock of {key!r} is not held by {holder!r}, so it cannot be released for it.")
            del self._held[key]
            self._changed.notify_all()

    def is_locked(self, key: str) -> bool:
        """See `LockManager.is_locked`."""
        with self._changed:
            return self._live(key) is not None

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """See `LockManager.is_lock_holder`."""
        with self._changed:
            held = self._live(key)
            return held is not None and held[0] == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """See `LockManager.wait_for_lock`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while (held := self._live(key)) is not None:
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                self._changed.wait(_least(deadline, held[1]))
            return True

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """See `LockManager.await_for_lock`."""
        return await in_thread(self.wait_for_lock, key, timeout)

    def _live(self, key: str) -> tuple[str, float] | None:
        held = self._held.get(key)
        if held is not None and held[1] <= time.monotonic():
            del self._held[key]
            return None
        return held


def _least(deadline: float | None, ends: float) -> float | None:
    """Seconds until the first of the two; None when neither ever comes."""
    first = ends if deadline is None else min(deadline, ends)
    return None if first == float("inf") else max(0.0, first - time.monotonic())
