"""Version 7 UUIDs: in order, unique, also among threads and after a fork."""

import os
import threading
import time
from uuid import UUID

import pytest

from headrace._internal import ids
from headrace._internal.ids import uuid7


def test_an_id_has_version_and_variant_of_rfc_9562() -> None:
    """Version 7, the variant of the RFC, and the present milliseconds in front."""
    before = time.time_ns() // 1_000_000
    made = uuid7()

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000 + 1


def test_ids_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each id is greater than the one before, within a millisecond and when the clock goes back."""
    moments = iter([*[5_000_000_000] * 5_000, 4_000_000_000, 3_000_000_000])
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr("time.time_ns", lambda: next(moments))

    made = [uuid7() for _ in range(5_002)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert [one.bytes for one in made] == sorted(one.bytes for one in made)


def test_threads_get_different_ids() -> None:
    """Many threads at once never get the same id, and each sees its own grow."""
    lists: list[list[UUID]] = [[] for _ in range(8)]

    def make(mine: list[UUID]) -> None:
        mine.extend(uuid7() for _ in range(2_000))

    threads = [threading.Thread(target=make, args=(mine,)) for mine in lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(mine == sorted(mine) for mine in lists)
    assert len({one for mine in lists for one in mine}) == 16_000


def _made_in_child() -> list[UUID]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, b"".join(uuid7().bytes for _ in range(200)))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return [UUID(bytes=data[place : place + 16]) for place in range(0, len(data), 16)]


def test_a_forked_child_makes_ids_of_its_own() -> None:
    """Parent and children go on from the same last id and still never make the same one."""
    uuid7()
    made = [*_made_in_child(), *_made_in_child(), *(uuid7() for _ in range(200))]

    assert len(set(made)) == 600


def test_a_child_forked_while_an_id_is_made_is_not_stuck() -> None:
    """A lock held by another thread at the moment of the fork does not hold up the child."""
    with ids._lock:
        made = _made_in_child()

    assert len(made) == 200
