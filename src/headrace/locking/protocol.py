"""What a lock manager is."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class LockManager(Protocol):
    """Locks keys for holders. A holder is a name: of a thread, a process, a run.

    Whoever holds a lock may acquire it again. Locks are for cooperation: nothing keeps others from the key itself.
    """

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Lock a key.

        Args:
            key: what to lock.
            holder: for whom.
            acquire_timeout: seconds to wait for it at most; None for as long as it takes.
            hold_timeout: seconds after which the lock counts no more; None for never.

        Returns:
            Whether `holder` has the lock now.
        """
        ...

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """The same as `acquire_lock`, for coroutines."""
        ...

    def release_lock(self, key: str, holder: str) -> None:
        """Let go of a lock.

        Raises:
            ValueError: `holder` does not hold it.
        """
        ...

    def is_locked(self, key: str) -> bool:
        """Whether anybody holds the lock of a key."""
        ...

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether `holder` holds the lock of a key."""
        ...

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds the lock of a key; False when that took longer than `timeout` seconds."""
        ...

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """The same as `wait_for_lock`, for coroutines."""
        ...
