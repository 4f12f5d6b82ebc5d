"""The HTTP client with servers that are busy, broken, or gone."""

import http.server
import os
import socket
import threading
from contextlib import closing
from typing import Any

import pytest
from msgspec.structs import replace

from headrace._internal.ids import uuid7
from headrace.client import http as transport
from headrace.client.errors import error_of
from headrace.client.http import HttpClient
from headrace.exceptions import ApiError, ApiUnreachable, Forbidden, ObjectNotFound, RateLimited, Unauthorized
from headrace.settings import Secret, Settings, get_settings
from tests.support.shelf import COUNT_PAGES, LEND_BOOK, READ_BOOK

Said = tuple[int, dict[str, str], bytes] | None


class Stub:
    """A server that gives the answers it was told to, one after the other; None closes the connection instead."""

    def __init__(self, *answers: Said) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        waiting = list(answers)
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                stub.asked.append((self.command, self.path, dict(self.headers.items()), body))
                said = waiting.pop(0)
                if said is None:
                    self.close_connection = True
                    return
                status, headers, raw = said
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = answer

            def log_message(self, *_: Any) -> None:
                """Be silent."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/api"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop it."""
        self.server.shutdown()
        self.server.server_close()


class Waits(list[float]):
    """Waits between two tries: noted, not waited for."""

    def __call__(self, seconds: float) -> bool:
        self.append(seconds)
        return False


def client_of(stub: Stub, settings: Settings | None = None) -> HttpClient:
    """A client of a stub that does not wait between two tries."""
    return HttpClient(stub.url, settings or get_settings(), Waits())


def with_api(**changes: Any) -> Settings:
    """The settings with others below `api`."""
    settings = get_settings()
    return replace(settings, api=replace(settings.api, **changes))


OK: Said = (200, {}, b"7")


@pytest.mark.parametrize("status", [408, 429, 502, 503])
def test_a_busy_server_is_asked_again(status: int) -> None:
    """Answers that mean "later" are tried again, after the time they ask for."""
    with closing(Stub((status, {"Retry-After": "2"}, b"{}"), (status, {}, b""), OK)) as stub:
        waits = Waits()

        assert HttpClient(stub.url, get_settings(), waits).call(COUNT_PAGES, least=1) == 7

    assert 2 <= waits[0] <= 2 + transport.FIRST_WAIT
    assert 0 <= waits[1] <= 2 * transport.FIRST_WAIT


def test_a_lost_connection_is_tried_again() -> None:
    """A connection that breaks before the answer is opened anew."""
    with closing(Stub(None, OK)) as stub:
        assert client_of(stub).call(COUNT_PAGES, least=1) == 7


def test_patience_ends() -> None:
    """After the retries the last answer is the error."""
    settings = replace(get_settings(), client=replace(get_settings().client, max_retries=2))
    with closing(Stub(*[(429, {"Retry-After": "3"}, b'{"detail": "Wait."}')] * 3)) as stub:
        with pytest.raises(RateLimited, match=r"Wait\.") as caught:
            client_of(stub, settings).call(COUNT_PAGES, least=1)

        assert len(stub.asked) == 3
    assert caught.value.retry_after == 3.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500])
def test_a_refusal_is_not_tried_again(status: int) -> None:
    """What would be answered the same again is not asked again."""
    with closing(Stub((status, {}, b'{"detail": "No."}'))) as stub:
        with pytest.raises(ApiError) as caught:
            client_of(stub).call(COUNT_PAGES, least=1)

        assert len(stub.asked) == 1
    assert caught.value.status == status


def test_further_statuses_can_be_tried_again() -> None:
    """A setting names them."""
    settings = replace(get_settings(), client=replace(get_settings().client, retry_extra_codes=[500]))
    with closing(Stub((500, {}, b""), OK)) as stub:
        assert client_of(stub, settings).call(COUNT_PAGES, least=1) == 7


def test_nobody_there() -> None:
    """When nothing listens the error names the URL, the reason, and what to do."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/api"

        with pytest.raises(
            ApiUnreachable, match=r"did not answer \(connection refused\).*headrace server start"
        ) as error:
            HttpClient(url, get_settings(), Waits()).call(COUNT_PAGES, least=1)

    assert url in str(error.value)


def test_the_login_and_the_version_travel_with_each_call() -> None:
    """Basic login, API version, and headers of the settings."""
    settings = with_api(auth_string=Secret("user:pass"))
    settings = replace(settings, client=replace(settings.client, custom_headers={"X-Team": "a"}))
    with closing(Stub(OK)) as stub:
        client_of(stub, settings).call(COUNT_PAGES, least=1, after=None, empty=True)
        method, path, headers, body = stub.asked[0]

    assert (method, path, body) == ("GET", "/api/books/pages?least=1&empty=true", b"")
    sent = {name.lower(): value for name, value in headers.items()}
    assert sent["authorization"] == "Basic dXNlcjpwYXNz"
    assert (sent["x-prefect-api-version"], sent["x-team"]) == ("0.8.4", "a")


def test_a_key_travels_as_bearer() -> None:
    """A token of the settings, where there is no login."""
    with closing(Stub(OK)) as stub:
        client_of(stub, with_api(key=Secret("k"))).call(COUNT_PAGES, least=1)

        assert {name.lower(): value for name, value in stub.asked[0][2].items()}["authorization"] == "Bearer k"


def test_a_call_without_its_argument_is_a_mistake_of_the_caller() -> None:
    """An argument of the path that is missing is not sent as something else."""
    with pytest.raises(TypeError, match="needs the argument 'id'"):
        HttpClient("http://127.0.0.1:1/api", get_settings()).call(READ_BOOK)


def test_a_forked_child_has_connections_of_its_own() -> None:
    """After a fork the child opens its own connection, and the parent goes on with its own."""
    with closing(Stub((200, {}, b'"a"'), (200, {}, b'"b"'), (200, {}, b'"c"'))) as stub:
        client = client_of(stub)
        book = uuid7()
        client.call(LEND_BOOK, id=book)
        pool = client._pool

        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if client.call(LEND_BOOK, id=book) == "b" and client._pool is not pool else 1
            finally:
                os._exit(code)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.call(LEND_BOOK, id=book) == "c"
        assert client._pool is pool


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (404, b'{"detail": "Flow run not found"}', ObjectNotFound, "Flow run not found"),
        (404, b'{"exception_message": "Object not found"}', ObjectNotFound, "Object not found"),
        (401, b"{}", Unauthorized, "The API asks for a login. Set HEADRACE_API_AUTH_STRING or HEADRACE_API_KEY."),
        (403, b'{"detail": "No."}', Forbidden, "No."),
        (500, b'{"exception_message": "Internal Server Error", "error_id": "e1"}', ApiError,
         "Internal Server Error (error id e1)"),
        (418, b"<html>", ApiError, "The API answered with status 418."),
        (418, b"[1]", ApiError, "The API answered with status 418."),
        (503, b"\xff", ApiUnreachable, "The API answered with status 503."),
    ],
)  # fmt: skip
def test_answers_become_errors(status: int, body: bytes, kind: type[ApiError], message: str) -> None:
    """Each refusal has its exception, with the words of the server, whatever stands in between."""
    error = error_of(status, body, 0.0)

    assert (type(error), str(error), error.status) == (kind, message, status)
