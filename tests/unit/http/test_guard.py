"""Who may come in."""

import base64
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from headrace.server.http.auth import Authenticator
from headrace.server.http.denials import Denials
from headrace.server.http.guard import Guard, UnsafeToServe, check_exposure
from headrace.server.http.process import serve
from headrace.server.store.transaction import Store
from headrace.settings import Secret, Settings, get_settings
from tests.support import shelf
from tests.support.serving import ask, serving

LOGIN = "user:p:ß"


def with_api(**changes: object) -> Settings:
    """The settings with others below `server.api`."""
    settings = get_settings()
    return replace(settings, server=replace(settings.server, api=replace(settings.server.api, **changes)))


def basic(login: str) -> str:
    """The Authorization header of a login."""
    return "Basic " + base64.b64encode(login.encode()).decode()


@pytest.fixture
def guarded(sqlite_store: Store) -> Iterator[str]:
    """An API with a login."""
    shelf.prepare(sqlite_store)
    with serving(sqlite_store, with_api(auth_string=Secret(LOGIN)), operations=shelf.operations()) as url:
        yield url


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Basic",
        "Basic ",
        basic("user:p"),
        basic(""),
        LOGIN,
        "Bearer " + LOGIN,
        basic(LOGIN)[:-1],
        "Basic \xff",
    ],
)
def test_s1_every_operation_asks_for_the_login(guarded: str, given: str | None) -> None:
    """Without the right login every path below /api is 401, whether it exists or not, but health and readiness."""
    headers = {} if given is None else {"Authorization": given}
    called = [(one.method, one.path) for one in shelf.operations() if one.path not in ("/health", "/ready")]

    for method, path in [
        *called,
        ("GET", "/nothing"),
        ("GET", "/openapi.json"),
        ("GET", "/health/"),
        ("GET", "//ready"),
    ]:
        answer = ask(guarded, method, path, **headers)
        assert (answer.status, answer.json()) == (401, {"exception_message": "Unauthorized"}), path
    assert [ask(guarded, "GET", path, **headers).status for path in ("/health", "/ready")] == [200, 200]
    assert ask(guarded.removesuffix("/api"), "GET", "/openapi.json", **headers).status == 401


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_the_right_login_is_let_in(guarded: str, scheme: str) -> None:
    """The login in base64, as Prefect's clients send it."""
    header = basic(LOGIN).replace("Basic", scheme)

    assert ask(guarded, "POST", "/books/", {"title": "A"}, Authorization=header).status == 201
    assert ask(guarded, "GET", "/openapi.json", Authorization=header).status == 200


def test_s3_the_host_must_be_known(api: str) -> None:
    """A name that is not ours is refused, as it may have been pointed at us; our names and addresses are served."""
    port = api.rpartition(":")[2].partition("/")[0]
    for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "", "127.0.0.1.evil.example"):
        assert ask(api, "GET", "/health", Host=host).status == 400, host
    for host in ("localhost", f"localhost:{port}", "127.0.0.1", f"[::1]:{port}", "LOCALHOST", "ui.localhost:80"):
        assert ask(api, "GET", "/health", Host=host).status == 200, host


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "file://localhost"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_s3_foreign_pages_change_nothing(api: str, headers: dict[str, str]) -> None:
    """A call from a page of another origin is 403 on every unsafe method of every operation; reading is not."""
    unsafe = [(one.method, one.path) for one in shelf.operations() if one.method != "GET"]

    answers = {ask(api, method, path, **headers, Content_Type="application/json").status for method, path in unsafe}

    assert answers == {403}
    assert ask(api, "GET", "/health", **headers).status == 200
    assert "access-control-allow-origin" not in ask(api, "GET", "/health", **headers).headers


def test_s3_our_own_pages_are_served(api: str) -> None:
    """A page of this server may call it, with JSON that says it is JSON."""
    origin = api.removesuffix("/api")
    sent = {"Origin": origin, "Host": origin.removeprefix("http://"), "Sec_Fetch_Site": "same-origin"}

    assert ask(api, "POST", "/books/", {"title": "A"}, **sent, Content_Type="application/json").status == 201
    assert ask(api, "POST", "/books/", {"title": "B"}, **sent, Content_Type="text/plain").status == 415


def test_pages_of_an_origin_that_is_named_are_served(sqlite_store: Store) -> None:
    """CORS is for the origins that are configured, and for no other."""
    shelf.prepare(sqlite_store)
    settings = with_api(cors_allowed_origins="https://a.example, https://b.example")
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type"}
    with serving(sqlite_store, settings, operations=shelf.operations()) as url:
        before = ask(url, "OPTIONS", "/books/", Origin="https://b.example", **asked)
        after = ask(url, "POST", "/books/", {"title": "A"}, Origin="https://b.example", Content_Type="application/json")
        foreign = ask(url, "POST", "/books/", {"title": "B"}, Origin="https://c.example")

    assert (before.status, before.headers["access-control-allow-origin"]) == (200, "https://b.example")
    assert (after.status, after.headers["access-control-allow-origin"]) == (201, "https://b.example")
    assert foreign.status == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "headrace.example"])
def test_s2_no_start_beyond_this_machine_without_a_login(host: str) -> None:
    """It takes a login, or a word, to be open to the network; the message says both."""
    with pytest.raises(UnsafeToServe, match=r"HEADRACE_SERVER_API_AUTH_STRING.*HEADRACE_SERVER_ALLOW_ANONYMOUS"):
        serve(with_api(host=host))

    settings = with_api(host=host)
    check_exposure(with_api(host=host, auth_string=Secret(LOGIN)))
    check_exposure(replace(settings, server=replace(settings.server, allow_anonymous=True)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_on_this_machine_no_login_is_needed(host: str) -> None:
    """Loopback addresses are this machine's alone."""
    check_exposure(with_api(host=host))


def test_any_name_will_do_where_a_login_guards(sqlite_store: Store) -> None:
    """Behind a proxy a server has names it does not know; a login makes that harmless. Without one it does not."""
    with_login = with_api(host="0.0.0.0", auth_string=Secret(LOGIN))

    def guard(settings: Settings) -> Guard:
        return Guard(lambda *_: None, settings, Authenticator(sqlite_store, settings), Denials(sqlite_store))  # type: ignore[arg-type]

    assert guard(with_login).knows("runs.example")
    assert not guard(with_api(host="0.0.0.0")).knows("runs.example")
