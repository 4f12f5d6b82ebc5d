"""Default deny: every operation and socket with every kind of login, against a table of expected answers.

The table does not read what operations declare: it says what each has to declare, by its method and path. An operation
added later is held to it, or stands in `EXCEPTIONS` with a reason.  # S1, S20
"""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from headrace.schemas.flows import FlowCreate
from headrace.server.http.app import create_app
from headrace.server.operations.flows import create_flow
from headrace.server.operations.registry import Operation, load_all
from headrace.server.store.transaction import Store
from headrace.settings import get_settings
from tests.support.logins import AUTH_STRING, basic, bearer, expire, make_key, serving_with_login
from tests.support.serving import ask

ANONYMOUS = {"/health", "/ready"}
READING = {
    "filter", "count", "paginate", "history", "lateness", "concurrency_status", "counts", "count-deployments",
    "next-runs", "count-task-runs", "count-by", "validate",
}  # fmt: skip
"""What the last segment of a POST that changes nothing may be."""
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("GET", "/csrf-token"): "none",
    ("POST", "/events/count-by/{countable}"): "read",
}
"""What an operation takes that its method and path do not tell; `none` is any login at all."""
CANARY = "the-canary-flow"


def level_of(operation: Operation) -> str:
    """What an operation has to ask for: `anonymous`, `none`, `read`, `write` or `admin`."""
    method, path = operation.endpoint.method, operation.endpoint.path
    if path in ANONYMOUS:
        return "anonymous"
    if (said := EXCEPTIONS.get((method, path))) is not None:
        return said
    reads = method == "GET" or (method == "POST" and READING & set(path.rsplit("/", 1)[1].split(":")))
    if path.startswith(("/api_keys", "/audit")) or (path.startswith("/admin") and not reads):
        return "admin"
    return "read" if reads else "write"


ENOUGH = {
    "reader": {"none", "read"},
    "key as auth string": {"none", "read"},
    "writer": {"none", "read", "write"},
    "admin key": {"none", "read", "write", "admin"},
    "auth string": {"none", "read", "write", "admin"},
}
"""What each login that is known is enough for."""


@pytest.fixture
def logins(sqlite_store: Store) -> dict[str, str | None]:
    """The Authorization header of each kind of login."""
    expired = make_key(sqlite_store, "expired", "admin")
    expire(sqlite_store, expired)
    return {
        "none": None,
        "empty": "",
        "wrong password": basic("user:wrong"),
        "wrong key": "Bearer hr_" + "A" * 43,
        "auth string as key": f"Bearer {AUTH_STRING.encode().decode('latin-1')}",
        "expired key as auth string": basic(expired.key),
        "no base64": "Basic hr_",
        "key as auth string": basic(make_key(sqlite_store, "other", "read").key),
        "expired": bearer(expired),
        "reader": bearer(make_key(sqlite_store, "reader", "read")),
        "writer": bearer(make_key(sqlite_store, "writer", "write")),
        "admin key": bearer(make_key(sqlite_store, "admin", "admin")),
        "auth string": basic(),
    }


@pytest.fixture
def url(sqlite_store: Store) -> Iterator[str]:
    """The URL of a server with a login."""
    with serving_with_login(sqlite_store) as served:
        yield served


def expected(login: str, level: str) -> str:
    """What becomes of a call."""
    if level == "anonymous":
        return "served"
    if login not in ENOUGH:
        return "unknown"
    return "served" if level in ENOUGH[login] else "forbidden"


def test_s1_every_operation_with_every_login(url: str, logins: dict[str, str | None]) -> None:
    """401 for who is not known, 403 for who may not, and anything else only for who may."""
    names = {401: "unknown", 403: "forbidden"}
    wrong = []
    for endpoint, operation in load_all().items():
        path = endpoint.path.replace("{", "").replace("}", "")
        for login, header in logins.items():
            if endpoint.method == "DELETE" and path.startswith("/api_keys"):
                path = "/api_keys/00000000-0000-0000-0000-000000000000"
            headers = {} if header is None else {"Authorization": header}
            status = ask(url, endpoint.method, path, **headers).status
            found = names.get(status, "served")
            if "{" in endpoint.path and status == 404 and found == "served":
                continue  # an id that is no UUID has no route, and nothing that could be told
            if found != expected(login, level_of(operation)):
                wrong.append((endpoint.method, endpoint.path, login, status))

    assert wrong == []


def test_s1_permissions_follow_the_table() -> None:
    """What each operation declares is what its method and path let one expect."""
    declared = {}
    for endpoint, operation in load_all().items():
        area, _, level = operation.access.partition(":")
        wanted = level_of(operation)
        fits = {
            "anonymous": area == "none" and level == "read",
            "none": area == "none",
            "read": level == "read" and area not in ("none", "keys", "audit"),
            "write": level == "write" and area not in ("none", "keys", "admin"),
            "admin": area in ("keys", "audit") or operation.access == "admin:write",
        }
        if not fits[wanted]:
            declared[endpoint.method, endpoint.path] = (operation.access, wanted)

    assert declared == {}


def test_s1_a_key_for_one_area_opens_no_other(url: str, sqlite_store: Store) -> None:
    """`runs:write` reads and writes runs, and nothing else."""
    header = bearer(make_key(sqlite_store, "runs", "runs:write"))

    def status(method: str, path: str, body: str = "{}") -> int:
        return ask(url, method, path, body, Authorization=header).status

    assert status("POST", "/flow_runs/filter") == 200
    assert status("POST", "/flow_runs/") == 422
    assert [status("POST", "/flows/filter"), status("POST", "/flows/"), status("GET", "/api_keys/")] == [403] * 3


MUTATIONS = (
    "/api//flows/filter", "//api/flows/filter", "/api/flows//filter", "/api/flows/filter/", "/api/flows/filter//",
    "/API/flows/filter", "/Api/flows/filter", "/api/FLOWS/filter", "/api/./flows/filter", "/./api/flows/filter",
    "/api/health/../flows/filter", "/api/ready/../flows/filter", "/health/../api/flows/filter", "/../api/flows/filter",
    "/api/health/..%2fflows/filter", "/api/health%2f..%2fflows%2ffilter", "/api/health/%2e%2e/flows/filter",
    "/%2e%2e/api/flows/filter", "/%61pi/flows/filter", "/api/%66lows/filter", "/api/flows%2ffilter",
    "/api%2fflows/filter",
    "/api%2Fhealth/flows/filter", "/api/flows/filter%00", "/api/flows/filter%20", "/api/flows/filter%0a",
    "/api/flows/filter;a=b", "/api/health;/flows/filter", "/api;/flows/filter", "/api/flows/filter.json",
    "/api/flows/filter?/api/health", "/api/flows/filter#/api/health", "/api/health?/../flows/filter",
    "/api\\flows\\filter", "/api/health\\..\\flows\\filter", "/api/flows/filter?next=/health",
    "/docs/../api/flows/filter",
    "http://localhost/api/flows/filter", "http://localhost/api/health/../flows/filter",
    "/api/flows/filter/openapi.json",
    "/api/api/flows/filter", "/ui/../api/flows/filter", "/api/%252e%252e/api/flows/filter", "/api/health/flows/filter",
)  # fmt: skip


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "HEAD", "post"])
def test_s1_no_spelling_of_a_path_gets_around_the_login(url: str, sqlite_store: Store, method: str) -> None:
    """Over forty spellings of a path: without a login none of them gives what is behind it."""
    sqlite_store.write(lambda tx: create_flow(tx, FlowCreate(name=CANARY)))
    root = url.removesuffix("/api")

    found = {path: ask(root, method, path, "{}") for path in MUTATIONS}

    assert len(MUTATIONS) >= 40
    assert ask(url, "POST", "/flows/filter", "{}", Authorization=basic()).json()[0]["name"] == CANARY
    assert {path: answer for path, answer in found.items() if CANARY.encode() in answer.body} == {}
    healthy = {"/api/health?/../flows/filter"}  # that one is /health with a query
    assert {path for path, answer in found.items() if answer.status < 300} - healthy == set()


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Forwarded_For": "127.0.0.1", "X_Real_IP": "127.0.0.1"},
        {"X_Original_URL": "/api/health", "X_Rewrite_URL": "/api/health"},
        {"X_HTTP_Method_Override": "OPTIONS"},
        {"X_Forwarded_User": "admin", "X_Remote_User": "admin"},
        {"Cookie": "session=admin; auth=" + AUTH_STRING.encode().decode("latin-1")},
        {"Proxy_Authorization": basic()},
        {"Upgrade": "websocket", "Connection": "Upgrade"},
    ],
)
def test_s1_no_other_header_is_a_login(url: str, headers: dict[str, str]) -> None:
    """What proxies and frameworks elsewhere believe is not believed here."""
    assert ask(url, "POST", "/flows/filter", "{}", **headers).status in (400, 401)


SOCKETS = {
    "/work_pools/p/runs": "read",
    "/work_pools/p/workers/connect": "write",
    "/events/in": "write",
    "/events/out": "read",
    "/logs/out": "read",
    "/task_runs/subscriptions/scheduled": "write",
}
"""The websockets, and what each takes."""


def test_s1_every_socket_is_known(sqlite_store: Store) -> None:
    """A websocket that is added has to be added to this table as well."""
    app = create_app(sqlite_store, get_settings())
    pages = app._app._pages  # type: ignore[attr-defined]
    sockets = {route.path for route in pages.routes if type(route).__name__ == "WebSocketRoute"}

    assert sockets == {"/api" + path.replace("/p/", "/{name}/") for path in SOCKETS}


async def outcome(url: str, token: str | None) -> str:
    """What becomes of a websocket whose first frame gives `token`."""
    frame = msgspec.json.encode({"type": "auth", "token": token}).decode()
    try:
        async with connect(url, subprotocols=["prefect"], open_timeout=30) as socket:  # type: ignore[list-item]
            await socket.send(frame)
            said = msgspec.json.decode(await asyncio.wait_for(socket.recv(), 30))
    except InvalidStatus as refusal:
        return f"refused {refusal.response.status_code}"
    except ConnectionClosed as end:
        reason = end.rcvd.reason if end.rcvd else ""
        return {"authentication_failed": "unknown", "authorization_failed": "forbidden"}.get(reason, reason)
    return "served" if said == {"type": "auth_success"} else repr(said)


@pytest.mark.parametrize("path", SOCKETS)
def test_s1_every_socket_with_every_login(url: str, logins: dict[str, str | None], path: str) -> None:
    """A websocket gives nothing before it knows who it is, and then what that login may have."""
    address = url.replace("http", "ws", 1) + path
    wrong = {}
    for login, header in logins.items():
        token = None if header is None else header.partition(" ")[2]
        token = AUTH_STRING if login == "auth string" else token
        if " as " in login:
            continue  # a frame has the bare token: there is no such mix-up
        found = asyncio.run(outcome(address, token))
        if found != expected(login, SOCKETS[path]):
            wrong[login] = found

    assert wrong == {}
