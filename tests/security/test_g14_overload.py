"""Five hundred idle sockets and more calls than there is room for: health is answered, acknowledged work is done."""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import pytest

from headrace.server.http import api as module
from headrace.server.http import bodies
from headrace.server.store.transaction import Store
from tests.support.serving import ask, serving

IDLE = 500
OPENING = (
    b"GET /api/work_pools/p/runs HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: prefect\r\n\r\n"
)
SAID = [
    b"",
    b"GET /api/health HTTP/1.1\r\nHost: loc",
    b"POST /api/flows/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{",
    OPENING,
    OPENING.replace(b"GET", b"POST"),
]
"""What idle connections have said before they fell silent."""


@pytest.fixture
def url(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server that has room for eight calls."""
    monkeypatch.setattr(module, "IN_FLIGHT", 8)
    with serving(sqlite_store) as served:
        yield served


def test_g14_health_has_its_own_lane(url: str) -> None:
    """Behind 500 connections of every idle kind and many calls at once, /health is 200, and so is what is let in."""
    parts = urlsplit(url)
    with ExitStack() as stack:
        for number in range(IDLE):
            one = stack.enter_context(closing(socket.create_connection((parts.hostname or "", parts.port or 0))))
            one.sendall(SAID[number % len(SAID)])
        with ThreadPoolExecutor(64) as threads:
            created = [threads.submit(ask, url, "POST", "/flows/", {"name": f"f{number}"}) for number in range(600)]
            healthy = [ask(url, "GET", "/health").status for _ in range(100)]
            answers = [one.result() for one in created]

    assert healthy == [200] * 100
    statuses = Counter(one.status for one in answers)
    assert set(statuses) <= {201, 503}
    assert all(one.headers.get("retry-after") == "1" for one in answers if one.status == 503)
    made = {one.json()["name"] for one in answers if one.status == 201}
    assert ask(url, "POST", "/flows/count", "{}").json() == len(made) > 0


def test_g14_bodies_in_memory_are_bounded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When large bodies take all the room there is, further ones are told to wait, and small calls go on."""
    monkeypatch.setattr(bodies, "MOST_HELD", 300_000)
    parts = urlsplit(url)
    head = b"POST /api/flows/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(4):
            one = stack.enter_context(closing(socket.create_connection((parts.hostname or "", parts.port or 0))))
            one.sendall(head + b" " * 200_000)
        refused = ask(url, "POST", "/flows/", b" " * 900_000)
        small = ask(url, "POST", "/flows/", {"name": "f"})

    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert small.status == 201


def test_g14_idle_websockets_leave_room(url: str) -> None:
    """No more than 32 websockets wait for their login; further ones are told to come again."""

    async def scene() -> list[bytes]:
        parts = urlsplit(url)
        opened = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(40)]
        for _, writer in opened:
            writer.write(OPENING)
        heads = [await asyncio.wait_for(reader.read(12), 30) for reader, _ in opened]
        for _, writer in opened:
            writer.close()
        return heads

    heads = Counter(asyncio.run(scene()))

    assert heads == {b"HTTP/1.1 101": 32, b"HTTP/1.1 503": 8}
    assert ask(url, "GET", "/health").status == 200
