"""Too much at once slows the server down and breaks nothing."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from headrace.schemas.endpoint import Endpoint
from headrace.server.http import api as module
from headrace.server.http import protocol
from headrace.server.operations.registry import Operation
from headrace.server.store.transaction import Store, Tx
from tests.support import shelf
from tests.support.serving import ask, serving

SLOW = Endpoint("GET", "/slow", returns=str)


def test_g14_the_excess_is_told_to_wait(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many calls at once, further ones are 503 with Retry-After; health is answered meanwhile."""
    monkeypatch.setattr(module, "IN_FLIGHT", 2)
    begun, release = threading.Semaphore(0), threading.Event()

    def slow(_: Tx) -> str:
        begun.release()
        return f"done {release.wait(60)}"

    table: dict[Endpoint[Any], Operation] = shelf.operations() | {SLOW: Operation(SLOW, slow, "slow:read", True)}
    with serving(sqlite_store, operations=table) as url, ThreadPoolExecutor(2) as threads:
        under_way = [threads.submit(ask, url, "GET", "/slow") for _ in range(2)]
        assert all(begun.acquire(timeout=30) for _ in under_way)

        refused = ask(url, "GET", "/slow")
        health = ask(url, "GET", "/health")
        release.set()
        finished = [one.result().json() for one in under_way]
        after = ask(url, "GET", "/slow")

    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert health.status == 200
    assert finished == ["done True"] * 2
    assert after.status == 200


def test_g14_idle_connections_harm_nobody(api: str) -> None:
    """Hundreds of connections that say nothing, or half a request, do not keep others from being served."""
    parts = urlsplit(api)
    with ExitStack() as stack:
        for number in range(300):
            idle = stack.enter_context(closing(socket.create_connection((parts.hostname or "", parts.port or 0))))
            if number % 2:
                idle.sendall(b"POST /api/books/ HTTP/1.1\r\nHost: localhost\r\nContent-Le")

        assert ask(api, "GET", "/health").status == 200
        assert ask(api, "POST", "/books/", {"title": "A"}).status == 201


def raw_connection(api: str) -> socket.socket:
    """A connection to the server, without HTTP."""
    parts = urlsplit(api)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)


@pytest.mark.parametrize(
    "said", [b"", b"GET /api/health HTTP/1.1\r\nHost:", b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /"]
)
def test_g14_a_head_must_come_in_time(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    """A connection that does not complete a request is closed, the first request as well as a later one."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    with serving(sqlite_store, operations=shelf.operations()) as url, closing(raw_connection(url)) as slow:
        slow.sendall(said)
        while slow.recv(4096):
            pass  # the answer to the request that was complete

        assert ask(url, "GET", "/health").status == 200


def test_g14_a_head_has_a_size(api: str) -> None:
    """Headers without end are refused."""
    with closing(raw_connection(api)) as endless:
        endless.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nX-Much: ")
        answer = b""
        try:
            for _ in range(100):
                endless.sendall(b"x" * 4096)
            answer = endless.recv(100)
        except (BrokenPipeError, ConnectionResetError):  # it was closed while we still sent
            answer = answer or b"HTTP/1.1 400"

    assert answer.startswith(b"HTTP/1.1 400")
    assert ask(api, "POST", "/books/", b'{"title": "A"}', X_Large="x" * 30_000).status == 201


def test_g14_connections_are_bounded(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a connection is closed at once; when others have left there is room again."""
    monkeypatch.setattr(protocol, "CONNECTIONS", 3)
    with serving(sqlite_store, operations=shelf.operations()) as url:
        with ExitStack() as stack:
            for _ in range(3):
                one = stack.enter_context(closing(raw_connection(url)))
                one.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert one.recv(12) == b"HTTP/1.1 200"
            with pytest.raises(ConnectionError):
                ask(url, "GET", "/health")

        assert wait_for_room(url) == 200


def wait_for_room(url: str) -> int:
    """The status of a call, as soon as the server has noticed that connections were closed."""
    for _ in range(1000):
        try:
            return ask(url, "GET", "/health").status
        except ConnectionError:
            threading.Event().wait(0.01)
    return 0
