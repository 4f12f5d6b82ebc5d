"""Logins and bulk calls are limited per address and login; the table that counts them is bounded."""

import asyncio

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from headrace.server.http import auth
from headrace.server.http.rate_limits import RateLimit
from headrace.server.store.transaction import Store
from tests.support.logins import AUTH_STRING, basic, bearer, make_key, serving_with_login
from tests.support.serving import ask

FEW = {"wrong_logins_per_minute": 10}


def test_s17_a_thousand_wrong_logins(sqlite_store: Store) -> None:
    """A few are 401, the rest 429 with Retry-After; even the right one is then not taken from a newcomer."""
    key = make_key(sqlite_store, "ci", "read")
    with serving_with_login(sqlite_store, FEW) as url:
        assert ask(url, "GET", "/version", Authorization=bearer(key)).status == 200
        answers = [ask(url, "GET", "/version", Authorization=basic(f"user:{number}")) for number in range(1000)]
        right = ask(url, "GET", "/version", Authorization=basic())
        known = ask(url, "GET", "/version", Authorization=bearer(key))
        healthy = ask(url, "GET", "/health")

    statuses = [one.status for one in answers]
    assert set(statuses) == {401, 429}
    assert statuses[:10] == [401] * 10
    assert statuses.count(401) < 30
    assert all(1 <= int(one.headers["retry-after"]) <= 60 for one in answers if one.status == 429)
    assert (right.status, known.status, healthy.status) == (429, 200, 200)


def test_s17_wrong_logins_of_websockets_count_too(sqlite_store: Store) -> None:
    """A websocket is no way around the limit of calls."""

    async def knock(address: str, token: str) -> str:
        async with connect(address, subprotocols=["prefect"]) as socket:  # type: ignore[list-item]
            await socket.send(msgspec.json.encode({"type": "auth", "token": token}).decode())
            try:
                return str(msgspec.json.decode(await asyncio.wait_for(socket.recv(), 30))["type"])
            except ConnectionClosed as end:
                return end.rcvd.reason if end.rcvd else ""

    with serving_with_login(sqlite_store, FEW) as url:
        address = url.replace("http", "ws", 1) + "/work_pools/p/runs"
        refused = [asyncio.run(knock(address, f"user:{number}")) for number in range(12)]
        right = asyncio.run(knock(address, AUTH_STRING))
        call = ask(url, "GET", "/version", Authorization=basic()).status

    assert {*refused, right} == {"authentication_failed"}
    assert call == 429


def test_s17_bulk_calls_are_limited_for_each_login(sqlite_store: Store) -> None:
    """Who makes too many is told when to come again; others, and other calls, go on."""
    first, second = (bearer(make_key(sqlite_store, name, "write")) for name in ("a", "b"))
    with serving_with_login(sqlite_store, {"bulk_calls_per_minute": 5}) as url:
        answers = [ask(url, "POST", "/flows/bulk_delete", "{}", Authorization=first) for _ in range(8)]
        other = ask(url, "POST", "/flows/bulk_delete", "{}", Authorization=second)
        reading = ask(url, "POST", "/flows/filter", "{}", Authorization=first)

    assert [one.status for one in answers[:5]] == [200] * 5
    assert {one.status for one in answers[6:]} == {429}
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert (other.status, reading.status) == (200, 200)


def test_a_rate_is_paid_off_with_time() -> None:
    """So many at once, and then one for each share of the minute."""
    now = [0.0]
    limit = RateLimit(6, clock=lambda: now[0])

    assert [limit.take("a") > 0 for _ in range(7)] == [False] * 6 + [True]
    assert limit.take("a") == pytest.approx(10)
    assert limit.take("b") == 0
    now[0] = 10.0
    assert [limit.take("a") > 0 for _ in range(2)] == [False, True]
    now[0] = 1000.0
    assert [limit.take("a") > 0 for _ in range(7)] == [False] * 6 + [True]


def test_g14_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch, sqlite_store: Store) -> None:
    """However many addresses and logins there are, old ones are forgotten."""
    limit = RateLimit(6, keys=100)
    for number in range(1000):
        limit.take(number)
    assert len(limit._paid) == 100

    monkeypatch.setattr(auth, "REMEMBERED", 3)
    keys = [bearer(make_key(sqlite_store, str(number), "read")) for number in range(6)]
    with serving_with_login(sqlite_store) as url:
        statuses = {ask(url, "GET", "/version", Authorization=key).status for key in [*keys, *keys]}

    assert statuses == {200}
