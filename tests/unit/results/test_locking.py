"""Lock managers: one suite for locks in memory and locks by files."""

import asyncio
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from headrace._internal.ids import uuid7
from headrace.locking.filesystem import FileSystemLockManager
from headrace.locking.memory import MemoryLockManager
from headrace.locking.protocol import LockManager

HOLD = """
import sys, signal
from headrace.locking.filesystem import FileSystemLockManager
assert FileSystemLockManager(sys.argv[1]).acquire_lock("k", "other", acquire_timeout=0)
print("held", flush=True)
signal.pause()
"""


@pytest.fixture(params=["memory", "files"])
def locks(request: pytest.FixtureRequest, tmp_path: Path) -> LockManager:
    """A lock manager of each kind."""
    return MemoryLockManager() if request.param == "memory" else FileSystemLockManager(tmp_path / "locks")


@pytest.fixture
def key() -> str:
    """A key that no other test locks: locks in memory are shared by the whole process."""
    return f"a/key with spaces/{uuid7()}"


def test_a_lock_has_one_holder(locks: LockManager, key: str) -> None:
    """Only one holder at a time; another one gets it after the release."""
    assert locks.acquire_lock(key, "a")
    assert locks.is_locked(key)
    assert locks.is_lock_holder(key, "a")
    assert not locks.is_lock_holder(key, "b")
    assert not locks.acquire_lock(key, "b", acquire_timeout=0.01)

    locks.release_lock(key, "a")

    assert not locks.is_locked(key)
    assert locks.acquire_lock(key, "b", acquire_timeout=0)
    locks.release_lock(key, "b")


def test_a_holder_may_acquire_again(locks: LockManager, key: str) -> None:
    """Whoever holds a lock gets it again at once; one release lets go of it."""
    assert locks.acquire_lock(key, "a")
    assert locks.acquire_lock(key, "a", acquire_timeout=0)
    locks.release_lock(key, "a")

    assert not locks.is_locked(key)


def test_only_the_holder_releases(locks: LockManager, key: str) -> None:
    """Releasing what somebody else, or nobody, holds is an error that names the key."""
    with pytest.raises(ValueError, match="a/key"):
        locks.release_lock(key, "a")
    locks.acquire_lock(key, "a")
    with pytest.raises(ValueError, match="'b'"):
        locks.release_lock(key, "b")

    assert locks.is_lock_holder(key, "a")
    locks.release_lock(key, "a")


def test_a_lock_ends_with_its_time(locks: LockManager, key: str) -> None:
    """After its hold time-out a lock counts no more, though it was not released."""
    assert locks.acquire_lock(key, "a", hold_timeout=0.05)
    assert locks.wait_for_lock(key, timeout=20)

    assert not locks.is_locked(key)
    assert locks.acquire_lock(key, "b", acquire_timeout=0)
    assert locks.is_lock_holder(key, "b")
    locks.release_lock(key, "b")


def test_waiters_go_on_after_the_release(locks: LockManager, key: str) -> None:
    """Waiting for a lock, and for its release, ends when the holder lets go; for coroutines too."""
    locks.acquire_lock(key, "a")
    assert not locks.wait_for_lock(key, timeout=0.01)

    async def wait() -> tuple[bool, bool]:
        waiting = asyncio.create_task(locks.await_for_lock(key, 20))
        taking = asyncio.create_task(locks.aacquire_lock(key, "b", 20))
        await asyncio.sleep(0)
        locks.release_lock(key, "a")
        taken = await taking
        locks.release_lock(key, "b")
        return await waiting, taken

    assert asyncio.run(wait()) == (True, True)


def test_never_two_at_once(locks: LockManager, key: str) -> None:
    """Many threads that take and release a lock are never inside together."""
    inside, most, rounds = 0, 0, 0

    def work(name: str) -> None:
        nonlocal inside, most, rounds
        for _ in range(20):
            assert locks.acquire_lock(key, name)
            inside += 1
            most, rounds = max(most, inside), rounds + 1
            inside -= 1
            locks.release_lock(key, name)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (most, rounds) == (1, 120)


def test_a_lock_by_file_ends_with_its_process(tmp_path: Path) -> None:
    """Another process sees the lock; when its holder is killed, it is free."""
    locks = FileSystemLockManager(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert locks.is_lock_holder("k", "other")
    assert not locks.acquire_lock("k", "me", acquire_timeout=0.05)

    process.send_signal(signal.SIGKILL)
    process.wait()

    assert not locks.is_locked("k")
    assert locks.acquire_lock("k", "me", acquire_timeout=0)
    locks.release_lock("k", "me")


def test_a_manager_of_files_can_be_sent_to_another_process(tmp_path: Path) -> None:
    """Its copy manages the same locks, and holds none of them itself."""
    locks = FileSystemLockManager(tmp_path)
    locks.acquire_lock("k", "me")
    sent = pickle.loads(pickle.dumps(locks))

    assert sent.is_lock_holder("k", "me")
    locks.release_lock("k", "me")
    assert not sent.is_locked("k")
