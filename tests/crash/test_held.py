"""Calls that are held, with real server processes.  # G7, G17"""

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.crash.processes import Installation, installation, kill, wait_for
from tests.support import postgresql
from tests.support.serving import Answer, ask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
LIMITS = "/v2/concurrency_limits"
SLOT = {"names": ["db"], "slots": 1, "lease_duration": 60}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def database() -> Iterator[str]:
    """A PostgreSQL database of the test's own."""
    with postgresql.new_database() as url:
        yield url


@pytest.fixture
def two(tmp_path: Path, database: str) -> Iterator[list[Installation]]:
    """Two server processes of one PostgreSQL."""
    homes = [tmp_path / name for name in ("one", "other")]
    for home in homes:
        home.mkdir()
    with installation(homes[0], free_port()) as one, installation(homes[1], free_port()) as other:
        for server in (one, other):
            server.environment["HEADRACE_SERVER_DATABASE_CONNECTION_URL"] = database
            server.start_server()
        yield [one, other]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Where callers wait."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


def take(threads: ThreadPoolExecutor, server: Installation, seconds: int = 25) -> Future[Answer]:
    """Ask a server for a slot, and to be held until there is one."""
    path = f"{LIMITS}/increment-with-lease"
    return threads.submit(ask, server.url, "POST", path, SLOT, prefer=f"wait={seconds}")


def take_in_line(threads: ThreadPoolExecutor, server: Installation, database: str, number: int) -> Future[Answer]:
    """The same, once there is a line of so many."""
    asked = take(threads, server)

    def is_long_enough() -> bool:
        with psycopg.connect(database) as connection:
            return connection.execute("SELECT count(*) FROM slot_waiter").fetchone() == (number,)

    wait_for(is_long_enough)
    return asked


def free(server: Installation, answer: Answer) -> None:
    """Give a slot back."""
    assert answer.status == 200, answer
    server.call("POST", f"{LIMITS}/decrement-with-lease", {"lease_id": answer.json()["lease_id"]})


def test_g7_who_is_held_by_one_server_gets_the_slot_that_another_one_freed(
    two: list[Installation], database: str, threads: ThreadPoolExecutor
) -> None:
    """In the order they came, whichever server holds them and whichever is told of the release."""
    two[0].call("POST", f"{LIMITS}/", {"name": "db", "limit": 1})
    held = take(threads, two[0]).result()
    waiting = [take_in_line(threads, two[number % 2], database, number + 1) for number in range(6)]

    for number, caller in enumerate(waiting):
        free(two[(number + 1) % 2], held)
        held = caller.result(20)
        assert [one.done() for one in waiting] == [True] * (number + 1) + [False] * (5 - number)
    free(two[0], held)


def test_g7_who_was_held_by_a_server_that_died_holds_up_nobody(
    two: list[Installation], database: str, threads: ThreadPoolExecutor
) -> None:
    """The place in line lapses by itself within seconds, and the next one is served."""
    two[0].call("POST", f"{LIMITS}/", {"name": "db", "limit": 1})
    held = take(threads, two[1]).result()
    lost = take_in_line(threads, two[0], database, 1)
    second = take_in_line(threads, two[1], database, 2)

    kill(two[0].processes[0])
    free(two[1], held)

    assert second.result(20).status == 200
    assert lost.exception(20) is not None


def test_a_server_that_is_stopped_answers_who_is_held(
    two: list[Installation], database: str, threads: ThreadPoolExecutor
) -> None:
    """At once, as if it had not been asked to hold them."""
    two[0].call("POST", f"{LIMITS}/", {"name": "db", "limit": 1})
    assert take(threads, two[0]).result().status == 200
    waiting = take_in_line(threads, two[0], database, 1)

    two[0].processes[0].send_signal(signal.SIGTERM)

    assert waiting.result(8).status == 423
    assert two[0].processes[0].wait(8) == 0
