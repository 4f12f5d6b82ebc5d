"""What pages of other origins try is refused: on every operation that changes something, and on every socket."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import product

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from headrace._internal.clock import ManualClock
from headrace.server.operations.registry import load_all
from headrace.server.store.transaction import Store
from headrace.settings import temporary_settings
from tests.security.test_s1_access import SOCKETS
from tests.support.logins import basic, serving_with_login
from tests.support.serving import ask, serving

FORGED = [
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://evil.example"},
    {"Origin": "https://localhost.evil.example"},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "file://"},
    {"Origin": "chrome-extension://abc"},
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "nonsense"},
]
KINDS = ["application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]


@pytest.fixture
def url(sqlite_store: Store) -> Iterator[str]:
    """The URL of a server without a login, as on a laptop: the browser's word is all there is."""
    with serving(sqlite_store) as served:
        yield served


def unsafe() -> list[tuple[str, str]]:
    """Method and some path of every operation that is not merely read by GET."""
    return [
        (one.method, one.path.replace("{", "").replace("}", ""))
        for one in load_all()
        if one.method not in ("GET", "HEAD")
    ]


@pytest.mark.parametrize("forged", FORGED, ids=str)
def test_s3_foreign_pages_change_nothing(url: str, forged: dict[str, str]) -> None:
    """Every unsafe operation is 403 for a page of another origin, whatever the body claims to be."""
    headers = {name.replace("-", "_"): value for name, value in forged.items()}
    statuses = {
        (method, path, kind): ask(url, method, path, "{}", **headers, Content_Type=kind).status
        for (method, path), kind in product(unsafe(), KINDS[:2])
    }

    assert {call: status for call, status in statuses.items() if status != 403} == {}


def test_s3_a_browser_must_say_json(url: str) -> None:
    """What a page may send without being asked before (forms, plain text) is 415, from our own pages too."""
    ours = {"Origin": url.removesuffix("/api"), "Sec_Fetch_Site": "same-origin"}
    statuses = {
        (method, path, kind): ask(url, method, path, "{}", **ours, Content_Type=kind).status
        for (method, path), kind in product(unsafe(), ["", *KINDS[1:]])
    }

    assert {call: status for call, status in statuses.items() if status != 415} == {}


@pytest.mark.parametrize("path", ["/flows/filter", "/health", "/nothing"])
def test_s3_nothing_is_shared_unless_configured(url: str, path: str) -> None:
    """No answer carries a CORS header, and a browser's question before a call is not answered with yes."""
    for method in ("OPTIONS", "GET", "POST"):
        answer = ask(url, method, path, Origin="http://evil.example", Access_Control_Request_Method="POST")
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert method != "OPTIONS" or answer.status >= 400


def test_s3_a_name_that_was_pointed_at_us_is_refused(url: str) -> None:
    """DNS rebinding: with a Host that is not ours not even reading is allowed, the pages included."""
    for path in ("/api/flows/filter", "/", "/docs", "/api/openapi.json", "/api/health"):
        for method in ("GET", "POST"):
            assert ask(url.removesuffix("/api"), method, path, Host="evil.example").status == 400


@pytest.mark.parametrize("forged", [*FORGED, {"Host": "evil.example"}], ids=str)
@pytest.mark.parametrize("path", [*SOCKETS, "/nothing"])
def test_s3_no_socket_opens_for_a_foreign_page(url: str, path: str, forged: dict[str, str]) -> None:
    """Browsers open websockets across origins without asking; the server says no."""

    async def scene() -> int:
        try:
            async with connect(
                url.replace("http", "ws", 1) + path,
                subprotocols=["prefect"],  # type: ignore[list-item]
                additional_headers=forged,
            ):
                return 101
        except InvalidStatus as refusal:
            return refusal.response.status_code

    assert asyncio.run(scene()) in (400, 403)


class Client:
    """A client of a server that asks for CSRF tokens."""

    def __init__(self, url: str, name: str = "one") -> None:
        self.url, self.name = url, name

    def token(self) -> str:
        """A fresh token."""
        answer = ask(self.url, "GET", f"/csrf-token?client={self.name}", Authorization=basic())
        assert answer.status == 200
        said = answer.json()
        assert (said["client"], set(said)) == (self.name, {"client", "token", "expiration", "id", "created", "updated"})
        return str(said["token"])

    def change(self, **headers: str) -> tuple[int, bytes]:
        """Create a flow; status and body."""
        answer = ask(self.url, "POST", "/flows/", '{"name": "f"}', Authorization=basic(), **headers)
        return answer.status, answer.body


@pytest.fixture
def asks_for_tokens(store: Store) -> Iterator[str]:
    """The URL of a server with CSRF protection, on each database."""
    with temporary_settings({"server.api.csrf_protection_enabled": True}), serving_with_login(store) as url:
        yield url


def test_s3_changes_take_a_csrf_token_when_the_setting_is_on(asks_for_tokens: str, clock: ManualClock) -> None:
    """The client's own token, until it expires; the refusal has the words that Prefect's clients look for."""
    client, other = Client(asks_for_tokens), Client(asks_for_tokens, "two")
    token = client.token()
    ours = {"Prefect_Csrf_Client": "one", "Prefect_Csrf_Token": token}

    assert client.change(**ours)[0] == 201
    for wrong in (
        {},
        {"Prefect_Csrf_Token": token},
        {"Prefect_Csrf_Client": "one"},
        ours | {"Prefect_Csrf_Client": "two"},
        ours | {"Prefect_Csrf_Token": other.token()},
        ours | {"Prefect_Csrf_Token": token[:-1] + ("0" if token[-1] != "0" else "1")},
        ours | {"Prefect_Csrf_Token": "9" + token},
        ours | {"Prefect_Csrf_Token": "99999999999." + token.partition(".")[2]},
        ours | {"Prefect_Csrf_Token": "\xff.\xff"},
    ):
        status, body = client.change(**wrong)
        assert (status, b"Invalid CSRF token" in body) == (403, True), wrong
    clock.advance(timedelta(hours=1).total_seconds())
    assert client.change(**ours)[0] == 403


def test_s3_every_change_takes_a_token(asks_for_tokens: str) -> None:
    """No unsafe operation is carried out without one; reading by GET is."""
    assert ask(asks_for_tokens, "GET", "/version", Authorization=basic()).status == 200
    served = []
    for method, path in unsafe():
        answer = ask(asks_for_tokens, method, path, "{}", Authorization=basic())
        if answer.status not in (403, 404, 422):  # no such path, or no such body: nothing was done
            served.append((method, path, answer.status))
    assert served == []


def test_without_the_setting_clients_are_told_that_no_token_is_needed(url: str) -> None:
    """422 with the words that switch it off in Prefect's clients."""
    answer = ask(url, "GET", "/csrf-token?client=one")

    assert (answer.status, answer.json()["detail"]) == (422, "CSRF protection is disabled.")
