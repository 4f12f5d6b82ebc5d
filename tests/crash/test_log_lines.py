"""Log lines told over websockets by several server processes on one PostgreSQL."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from websockets.asyncio.client import ClientConnection

from headrace._internal.ids import uuid7
from tests.crash.conftest import free_port
from tests.crash.processes import HEADRACE, Installation, installation, wait_for
from tests.support import postgresql
from tests.support.talking import entered, heard

STREAMING = {
    "HEADRACE_SERVER_LOGS_STREAM_OUT_ENABLED": "true",
    "HEADRACE_SERVER_LOGS_STREAM_PUBLISHING_ENABLED": "true",
}
NOTICES = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'LISTEN%'
"""
LISTENERS = "SELECT count(*) FROM log_listener WHERE until > now()"


@pytest.fixture
def database() -> Iterator[str]:
    """A database of the test's own."""
    with postgresql.new_database() as url:
        yield url


@pytest.fixture
def servers(tmp_path: Path, database: str) -> Iterator[list[Installation]]:
    """Two server processes on one database."""
    with ExitStack() as stack:
        made = []
        for name in ("one", "other"):
            home = tmp_path / name
            home.mkdir()
            server = stack.enter_context(installation(home, free_port()))
            server.environment |= STREAMING | {"HEADRACE_SERVER_DATABASE_CONNECTION_URL": database}
            server.start_server()
            made.append(server)
        yield made


def write(server: Installation, *messages: str) -> None:
    """Write log lines through a server."""
    line = {"name": "n", "level": 20, "timestamp": "2026-01-01T00:00:00Z", "flow_run_id": str(uuid7())}
    server.call("POST", "/logs/", [{**line, "message": message} for message in messages])


async def until_listening(database: str, count: int) -> None:
    """Wait until so many server processes listen."""
    with psycopg.connect(database, autocommit=True) as connection:
        while connection.execute(LISTENERS).fetchone() != (count,):
            await asyncio.sleep(0.02)


async def messages(connection: ClientConnection, count: int) -> list[str]:
    """What the next so many lines say."""
    found: list[Any] = [await heard(connection) for _ in range(count)]
    return [frame["log"]["message"] for frame in found]


@pytest.mark.slow
def test_g17_lines_come_from_every_server_process(servers: list[Installation], database: str) -> None:
    """Each once, whichever process takes it in; also when the connection for notices is lost all the while."""
    numbers = itertools.count()
    everything: list[str] = []

    async def scene() -> list[list[str]]:
        sockets = [await entered(server.url + "/logs/out", {"type": "filter", "filter": {}}) for server in servers]
        await asyncio.wait_for(until_listening(database, 2), 30)
        with psycopg.connect(database, autocommit=True) as admin:
            for turn in range(20):
                batch = [f"{next(numbers)}" for _ in range(3)]
                everything.extend(batch)
                await asyncio.to_thread(write, servers[turn % 2], *batch)
                if turn % 5 == 0:
                    admin.execute(NOTICES)
        return [await messages(socket, len(everything)) for socket in sockets]

    for told in asyncio.run(scene()):
        assert told == everything


@pytest.mark.slow
def test_who_is_killed_while_it_listens_leaves_nothing(servers: list[Installation], database: str) -> None:
    """The other process goes on, and a server that takes its place tells what comes from then on."""
    one, other = servers

    async def scene() -> tuple[list[str], list[str]]:
        lost = await entered(one.url + "/logs/out", {"type": "filter", "filter": {}})
        kept = await entered(other.url + "/logs/out", {"type": "filter", "filter": {}})
        await asyncio.wait_for(until_listening(database, 2), 30)
        one.processes[0].kill()
        await asyncio.to_thread(one.processes[0].wait)
        await lost.wait_closed()
        await asyncio.to_thread(write, other, "a")
        one.start(*HEADRACE, "server", "start", "--port", str(one.port), name="again")
        await asyncio.to_thread(wait_for, lambda: one.call("GET", "/health"))
        again = await entered(one.url + "/logs/out", {"type": "filter", "filter": {}})
        await asyncio.wait_for(until_listening(database, 3), 30)  # the row of the dead one is there until it expires
        await asyncio.to_thread(write, other, "b")
        return await messages(kept, 2), await messages(again, 1)

    assert asyncio.run(scene()) == (["a", "b"], ["b"])
