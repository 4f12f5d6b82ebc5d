"""Websockets of those who log in: closed when their key is revoked, open by the hundred, and safe from any bytes."""

import asyncio
import logging
import random
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from headrace.client.local import LocalClient
from headrace.schemas.api_keys import DELETE_API_KEY, NewApiKey
from headrace.schemas.work_pools import CREATE_WORK_POOL, WorkPoolCreate
from headrace.server.http import auth
from headrace.server.http.auth import Authenticator
from headrace.server.http.process import bind
from headrace.server.operations.api_keys import delete_api_key
from headrace.server.store import open_store
from headrace.server.store.errors import StoreUnavailable
from headrace.server.store.transaction import Store
from headrace.settings import Secret
from tests.crash.processes import installation
from tests.security.test_s1_access import SOCKETS
from tests.support import postgresql
from tests.support.logins import AUTH_STRING, make_key, serving_with_login, settings_with
from tests.support.serving import ask, serving
from tests.support.talking import entered, heard, opened, say

IDLE = 500
TO_STAY: dict[str, list[dict[str, Any]]] = {
    "/events/in": [],
    "/events/out": [{"type": "filter", "filter": {}}],
    "/logs/out": [{"type": "filter", "filter": {}}],
    "/task_runs/subscriptions/scheduled": [{"type": "subscribe", "keys": ["t"], "client_id": "c"}],
    "/work_pools/p/runs": [],
    "/work_pools/p/workers/connect": [],
}
"""What a client says after its login so that its socket stays open and idle."""


def token_of(key: NewApiKey) -> str:
    """The first frame of a key."""
    return f'{{"type": "auth", "token": "{key.key}"}}'


async def entered_as(url: str, path: str, key: NewApiKey) -> ClientConnection:
    """A socket that is open for a key."""
    connection = await opened(url + path, token_of(key))
    assert await heard(connection) == {"type": "auth_success"}
    for frame in TO_STAY[path]:
        await say(connection, frame)
    return connection


async def end_of(connection: ClientConnection) -> tuple[int, str]:
    """With what the server closes a socket, whatever it says before."""
    try:
        async with asyncio.timeout(30):
            while True:
                await connection.recv()
    except ConnectionClosed as end:
        return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")


def make_pool(store: Store) -> None:
    """The work pool `p`."""
    LocalClient(store).call(CREATE_WORK_POOL, body=WorkPoolCreate(name="p", type="process"))


def test_s4_every_socket_is_tried_here() -> None:
    """A websocket that is added has to be added to these tests."""
    assert set(TO_STAY) == set(SOCKETS)


def test_s4_a_revoked_key_loses_its_sockets(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of websocket is closed on each server of the database; those of another key stay open."""
    monkeypatch.setattr(auth, "TRUST_SECONDS", 0.2)
    make_pool(store)
    key, other = make_key(store, "worker", "write"), make_key(store, "other", "write")

    async def scene(urls: list[str]) -> tuple[list[Any], list[Any]]:
        pairs = [(url, path) for url in urls for path in TO_STAY]
        theirs = [await entered_as(url, path, key) for url, path in pairs]
        others = [await entered_as(url, path, other) for url, path in pairs if not path.endswith("connect")]
        await asyncio.to_thread(LocalClient(store).call, DELETE_API_KEY, id=key.id)
        ends = [await end_of(one) for one in theirs]
        return ends, [one.close_code for one in others]

    with ExitStack() as stack:
        urls = [stack.enter_context(serving_with_login(store)) for _ in range(2)]
        ends, others = asyncio.run(scene(urls))

    assert set(ends) == {(1008, "authentication_failed")}
    assert set(others) == {None}


def test_s4_the_last_use_of_a_key_does_not_keep_its_socket_open(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a key is used beside its socket, the socket ends when the trust in the key does."""
    key = make_key(sqlite_store, "ci", "read")
    now, slept = [1000.0], list[float]()
    monkeypatch.setattr(auth, "monotonic", lambda: now[0])

    async def scene() -> float:
        authenticator = Authenticator(sqlite_store, settings_with(auth_string=Secret(AUTH_STRING)))

        async def sleep(seconds: float) -> None:
            """Time passes; the key is used as late as it is taken for good, and revoked right after."""
            slept.append(seconds)
            now[0] += seconds
            if len(slept) == 1:
                await authenticator.knows(key.key, "somewhere")
                await sqlite_store.write_soon(lambda tx: delete_api_key(tx, key.id))

        await authenticator.knows(key.key, "somewhere")
        now[0] += 1.0
        monkeypatch.setattr(auth.asyncio, "sleep", sleep)
        await authenticator.until_revoked(key.key, "somewhere")
        return sum(slept[1:])

    assert asyncio.run(scene()) < 5
    assert slept[0] == pytest.approx(auth.TRUST_SECONDS - 1.0)


def test_g16_a_database_that_is_away_revokes_no_socket(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets outlast an outage of the database: their clients would take its end for a wrong login, for good."""
    monkeypatch.setattr(auth, "TRUST_SECONDS", 0.05)
    monkeypatch.setattr(auth, "LOOK_AGAIN", 0.05)
    key = make_key(sqlite_store, "ci", "write")
    asked, away = [0], [False]
    find = auth.find_key

    def find_key(*arguments: Any) -> Any:
        asked[0] += 1
        if away[0]:
            raise StoreUnavailable("The database is away.")
        return find(*arguments)

    async def scene(url: str) -> tuple[int, str]:
        connection = await entered_as(url, "/events/in", key)
        away[0], asked[0] = True, 0
        while asked[0] < 5:
            await asyncio.sleep(0.02)
        assert connection.close_code is None
        away[0] = False
        await asyncio.to_thread(LocalClient(sqlite_store).call, DELETE_API_KEY, id=key.id)
        return await end_of(connection)

    monkeypatch.setattr(auth, "find_key", find_key)
    with serving_with_login(sqlite_store) as url:
        assert asyncio.run(scene(url)) == (1008, "authentication_failed")


def test_s4_five_hundred_idle_sockets(sqlite_store: Store) -> None:
    """They may all be open at once, of every kind; calls are answered beside them, and their room comes back."""
    make_pool(sqlite_store)
    paths = [path for path in TO_STAY if not path.endswith("connect")]

    async def scene(url: str) -> tuple[list[int], list[Any]]:
        sockets = [
            await entered(url + paths[number % len(paths)], *TO_STAY[paths[number % len(paths)]])
            for number in range(IDLE)
        ]
        statuses = [
            (await asyncio.to_thread(ask, url, method, path, "{}" if method == "POST" else None)).status
            for method, path in [("GET", "/health"), ("POST", "/flows/filter")] * 20
        ]
        codes = [one.close_code for one in sockets]
        await asyncio.gather(*(one.close() for one in sockets))
        await (await entered(url + "/events/in")).close()
        return statuses, codes

    with serving(sqlite_store) as url:
        statuses, codes = asyncio.run(scene(url))

    assert set(statuses) == {200}
    assert set(codes) == {None}


HANDSHAKE = (
    "GET /api{path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: prefect\r\n\r\n"
)
MASK = b"\0\0\0\0"
LOGIN = b'{"type": "auth", "token": null}'
MALFORMED = [
    b"\x81\x05hello",  # not masked
    b"\xc1\x80" + MASK,  # says it is packed, which was not agreed upon
    b"\xf1\x80" + MASK,  # all reserved bits
    b"\x83\x80" + MASK,  # no such kind of frame
    b"\x8f\x80" + MASK,
    b"\x80\x80" + MASK,  # goes on with what never began
    b"\x01\x81" + MASK + b"a" + b"\x81\x81" + MASK + b"b",  # begins anew in the midst
    b"\x09\x80" + MASK,  # a ping in pieces
    b"\x89\xfe\x00\x7e" + MASK + b"a" * 126,  # a ping that is too long
    b"\x88\x81" + MASK + b"a",  # an end with half a code
    b"\x88\x82" + MASK + b"\x03\xed",  # an end with a code that nobody may send
    b"\x88\x84" + MASK + b"\x03\xe8\xff\xfe",  # an end whose reason is no text
    b"\x81\x82" + MASK + b"\xff\xfe",  # text that is none
    b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + MASK,  # longer than any memory
    b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff" + MASK,  # longer than a length can be
    b"\x81\xfe\xff\xff" + MASK,  # longer than a frame may be, and then nothing
]


async def answer_to_bytes(url: str, path: str, sent: bytes, when: str) -> bytes:
    """What the server says, until it closes, to bytes on a websocket: before the login, with it, or after it."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(HANDSHAKE.format(path=path).encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert b" 101 " in head.partition(b"\r\n")[0]
    login = bytes([0x81, 0x80 | len(LOGIN)]) + MASK + LOGIN
    writer.write({"before": b"", "with": login, "after": login}[when])
    if when == "after":
        await asyncio.wait_for(reader.readuntil(b'{"type":"auth_success"}'), 30)
    writer.write(sent)
    writer.write_eof()
    said = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return said


@pytest.mark.parametrize("when", ["before", "with", "after"])
@pytest.mark.parametrize("path", SOCKETS)
def test_s4_malformed_frames_close_cleanly(
    sqlite_store: Store, path: str, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes that are no websocket, and bytes at random, end the connection; the server takes no harm and is silent."""
    make_pool(sqlite_store)
    source = random.Random(path)
    sent = [*MALFORMED, *(source.randbytes(source.randrange(1, 200)) for _ in range(30))]

    async def scene(url: str) -> list[bytes]:
        return [await answer_to_bytes(url, path, one, when) for one in sent]

    with serving(sqlite_store) as url, caplog.at_level(logging.WARNING):
        answers = asyncio.run(scene(url))
        assert ask(url, "GET", "/health").status == 200

    assert len(answers) == len(sent)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.slow
def test_s4_a_revoked_key_loses_its_sockets_on_all_replicas(postgres_url: str, tmp_path: Path) -> None:
    """Two server processes on one PostgreSQL: five seconds after the key is revoked its sockets are closed on both."""
    store = open_store(postgres_url)
    key = make_key(store, "worker", "write")

    async def scene(urls: list[str]) -> list[tuple[tuple[int, str], float]]:
        sockets = [await entered_as(url, path, key) for url in urls for path in ("/events/in", "/events/out")]
        await asyncio.to_thread(LocalClient(store).call, DELETE_API_KEY, id=key.id)
        revoked = time.monotonic()

        async def ended(connection: ClientConnection) -> tuple[tuple[int, str], float]:
            return await end_of(connection), time.monotonic() - revoked

        return await asyncio.gather(*map(ended, sockets))

    with ExitStack() as stack:
        stack.callback(postgresql.empty, postgres_url)
        stack.callback(store.close)
        urls = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            made = stack.enter_context(installation(tmp_path / name, free_port()))
            made.environment["HEADRACE_SERVER_DATABASE_CONNECTION_URL"] = postgres_url
            made.environment["HEADRACE_SERVER_API_AUTH_STRING"] = AUTH_STRING
            made.start_server()
            urls.append(made.url)
        ends = asyncio.run(scene(urls))

    assert {end for end, _ in ends} == {(1008, "authentication_failed")}
    assert max(seconds for _, seconds in ends) < 5


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(bind("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])
