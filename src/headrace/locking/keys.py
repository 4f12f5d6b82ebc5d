"""Locks of the keys of a store."""

import os
import threading
from typing import Any

from headrace._internal.threads import in_thread
from headrace.exceptions import ConfigurationError
from headrace.locking.protocol import LockManager


def _host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


class KeyLocks:
    """What a store offers about locks; it needs a `lock_manager`."""

    __slots__ = ()
    lock_manager: LockManager | None

    def full_key(self, key: str) -> str:
        """A key as it is stored and locked."""
        return key

    @staticmethod
    def generate_default_holder() -> str:
        """The name under which this thread holds locks."""
        thread = threading.current_thread()
        return f"{_host()}:{os.getpid()}:{thread.ident}:{thread.name}"

    def supports_isolation_level(self, level: Any) -> bool:
        """Whether a transaction of that isolation level can use this store."""
        return getattr(level, "name", level) != "SERIALIZABLE" or self.lock_manager is not None

    def acquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        """Lock a key; False when that took longer than `timeout` seconds."""
        return self._locks().acquire_lock(self.full_key(key), holder or self.generate_default_holder(), timeout)

    def release_lock(self, key: str, holder: str | None = None) -> None:
        """Let go of the lock of a key."""
        self._locks().release_lock(self.full_key(key), holder or self.generate_default_holder())

    def is_locked(self, key: str) -> bool:
        """Whether anybody holds the lock of a key."""
        return self._locks().is_locked(self.full_key(key))

    def is_lock_holder(self, key: str, holder: str | None = None) -> bool:
        """Whether `holder` (this thread when absent) holds the lock of a key."""
        return self._locks().is_lock_holder(self.full_key(key), holder or self.generate_default_holder())

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds the lock of a key; False when that took longer than `timeout` seconds."""
        return self._locks().wait_for_lock(self.full_key(key), timeout)

    async def aacquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        """The same as `acquire_lock`, for coroutines."""
        return await in_thread(self.acquire_lock, key, holder or self.generate_default_holder(), timeout)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """The same as `wait_for_lock`, for coroutines."""
        return await in_thread(self.wait_for_lock, key, timeout)

    def _locks(self) -> LockManager:
        if self.lock_manager is None:
            raise ConfigurationError(
                "This result store has no lock manager, which locking needs. Give it one: `ResultStore("
                "lock_manager=...)`, or in a task `cache_policy=INPUTS.configure(lock_manager=...)`."
            )
        return self.lock_manager
