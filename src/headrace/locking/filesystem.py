"""Locks among the processes of one machine, or of several that share a folder.

A lock is a file in that folder, named for its key, that its holder keeps open and locked with the operating system; it
says who holds it and until when. The system lets go when the process dies, so no lock outlives its holder. A file that
is there and not locked is nobody's, and the next one takes it.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from headrace._internal.file_locks import try_lock
from headrace._internal.threads import in_thread

SHORTEST_WAIT, LONGEST_WAIT = 0.005, 0.1  # seconds between two looks at a lock that somebody else holds


class _Holding(Struct):
    """What stands in a lock's file."""

    holder: str
    ends: float | None = None
    """By the clock on the wall: it is read by other processes."""


class FileSystemLockManager:
    """Locks keys by files in a folder.

    Args:
        lock_files_directory: the folder; it is made when the first lock is taken.
    """

    def __init__(self, lock_files_directory: str | os.PathLike[str]) -> None:
        self.lock_files_directory = Path(lock_files_directory).expanduser().resolve()
        self._files: dict[str, int] = {}  # the open file of each key that this manager holds for somebody
        self._guard = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"lock_files_directory": self.lock_files_directory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["lock_files_directory"])  # type: ignore[misc]  # the locks stay with the process

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """See `LockManager.acquire_lock`."""
        deadline = None if acquire_timeout is None else time.monotonic() + acquire_timeout
        ends = None if hold_timeout is None else time.time() + hold_timeout
        if self.is_lock_holder(key, holder):
            return True
        return _poll(lambda: self._take(key, _Holding(holder, ends)), deadline)

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """See `LockManager.aacquire_lock`."""
        return await in_thread(self.acquire_lock, key, holder, acquire_timeout, hold_timeout)

    def release_lock(self, key: str, holder: str) -> None:
        """See `LockManager.release_lock`."""
        with self._changing():
            holding = self._holding(key)
            if holding is None or holding.holder != holder:
                raise ValueError(f"The lock of {key!r} is not held by {holder!r}, so it cannot be released for it.")
            self._path(key).unlink(missing_ok=True)
            self._forget(key)

    def is_locked(self, key: str, use_cache: bool = False) -> bool:
        """See `LockManager.is_locked`; `use_cache` is accepted and has no effect, as nothing is cached."""
        del use_cache
        return self._holding(key) is not None

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """See `LockManager.is_lock_holder`."""
        holding = self._holding(key)
        return holding is not None and holding.holder == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """See `LockManager.wait_for_lock`."""
        return _poll(lambda: not self.is_locked(key), None if timeout is None else time.monotonic() + timeout)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """See `LockManager.await_for_lock`."""
        return await in_thread(self.wait_for_lock, key, timeout)

    def _path(self, key: str) -> Path:
        return self.lock_files_directory / f"{blake2b(key.encode(), digest_size=16).hexdigest()}.lock"

    def _take(self, key: str, holding: _Holding) -> bool:
        """Take the lock if nobody has it."""
        path = self._path(key)
        with self._changing():
            if self._holding(key) is not None:
                return False
            path.unlink(missing_ok=True)  # of a holder that died, or whose time is over
            self._forget(key)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            _lock(file)
            os.write(file, msgspec.json.encode(holding))
            self._files[key] = file
            return True

    def _forget(self, key: str) -> None:
        file = self._files.pop(key, None)
        if file is not None:
            os.close(file)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """While inside, no other thread or process takes or releases a lock of this folder."""
        with self._guard:
            self.lock_files_directory.mkdir(parents=True, exist_ok=True)
            file = os.open(self.lock_files_directory / "guard", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                _lock(file)
                yield
            finally:
                os.close(file)

    def _holding(self, key: str) -> _Holding | None:
        """Who holds the lock of a key, if anybody does."""
        try:
            file = os.open(self._path(key), os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            if try_lock(file):
                return None
            with suppress(msgspec.DecodeError):  # it is being written at this moment
                holding = msgspec.json.decode(os.read(file, 65536), type=_Holding)
                return holding if holding.ends is None or holding.ends > time.time() else None
            return _Holding("")
        finally:
            os.close(file)


def _lock(file: int) -> None:
    """Lock a file that others hold for moments only."""
    while not try_lock(file):
        time.sleep(0.001)


def _poll(condition: Any, deadline: float | None) -> bool:
    """Look until `condition` holds, ever less often; False when the deadline passes before."""
    wait = SHORTEST_WAIT
    while not condition():
        if deadline is not None and time.monotonic() >= deadline:
            return False
        time.sleep(wait if deadline is None else max(0.0, min(wait, deadline - time.monotonic())))
        wait = min(2 * wait, LONGEST_WAIT)
    return True
