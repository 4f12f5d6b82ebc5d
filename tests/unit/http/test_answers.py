"""The shapes of answers and errors, as Prefect's clients know them."""

import logging

import pytest

from headrace.server.http.answers import answer_to
from headrace.server.operations.block_vault import KeyMissing
from headrace.server.store.errors import StoreUnavailable
from headrace.server.store.transaction import Store
from tests.support import shelf
from tests.support.serving import ask, serving

NOBODY = "00000000-0000-0000-0000-000000000000"


def test_new_and_existing_have_their_own_status(api: str) -> None:
    """What was made is answered with 201, what was there already with 200."""
    first = ask(api, "POST", "/books/", {"title": "A"})
    second = ask(api, "POST", "/books/", {"title": "A"})

    assert (first.status, second.status) == (201, 200)
    assert first.json() == second.json()
    assert first.headers["content-type"] == "application/json"


def test_an_empty_answer_has_no_body(api: str) -> None:
    """204 comes without a body, and without a length or type of one."""
    made = ask(api, "POST", "/books/", {"title": "A"}).json()

    answer = ask(api, "DELETE", f"/books/{made['id']}")

    assert (answer.status, answer.body) == (204, b"")
    assert not {"content-type", "content-length"} & answer.headers.keys()


def test_a_file_has_its_own_type(api: str) -> None:
    """A result that is no JSON is sent as it is, with its headers."""
    made = ask(api, "POST", "/books/", {"title": "A"}).json()

    answer = ask(api, "GET", f"/books/{made['id']}/print")

    assert (answer.body, answer.headers["content-type"]) == (b"A\n", "text/plain")
    assert answer.headers["content-disposition"] == "attachment"


@pytest.mark.parametrize("path", ["/nothing", "/books/not-an-id", "/books/a/b/c", "/", "", "/books/%ff"])
def test_what_no_route_answers_is_not_found(api: str, path: str) -> None:
    """A path without a route, and an id that is none, are a 404 and never a 422."""
    answer = ask(api, "GET", path)

    assert (answer.status, answer.json()) == (404, {"detail": "Not Found"})


def test_a_missing_object_is_told_in_words(api: str) -> None:
    """404 of an operation has `detail`."""
    answer = ask(api, "GET", f"/books/{NOBODY}")

    assert (answer.status, answer.json()) == (404, {"detail": f"Book '{NOBODY}' not found"})


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/books/", "POST"), ("GET", "/books/filter", "POST"), ("POST", f"/books/{NOBODY}", "DELETE, GET, PATCH")],
)
def test_another_method_is_not_allowed(api: str, method: str, path: str, allowed: str) -> None:
    """405 names the methods there are."""
    answer = ask(api, method, path)

    assert (answer.status, answer.json(), answer.headers["allow"]) == (405, {"detail": "Method Not Allowed"}, allowed)


@pytest.mark.parametrize(
    ("sent", "goes_to"), [("/books", "/api/books/"), ("/books/filter/?a=b&c", "/api/books/filter?a=b&c")]
)
def test_a_missing_or_extra_slash_is_redirected(api: str, sent: str, goes_to: str) -> None:
    """307 keeps method, body and query."""
    answer = ask(api, "POST", sent, {"title": "A"})

    assert (answer.status, answer.headers["location"], answer.body) == (307, goes_to, b"")


@pytest.mark.parametrize(
    ("body", "place", "kind"),
    [
        (b'{"pages": 1}', ["body", "title"], "missing"),
        (b'{"title": 3}', ["body", "title"], "string_type"),
        (b'{"title": "A", "pages": "x"}', ["body", "pages"], "int_type"),
        (b'{"title": "A", "pages": 0}', ["body", "pages"], "greater_than_equal"),
        (b'{"title": "a/b"}', ["body", "title"], "string_pattern_mismatch"),
        (b'{"title": "A", "read_at": "noon"}', ["body", "read_at"], "datetime_parsing"),
        (b'{"title": "A", "notes": [1]}', ["body", "notes"], "dict_type"),
        (b'{"title": "A", "notes": {"n": [1, 99999999999999999999]}}', ["body", "notes", "n", 1], "int_too_large"),
        (b'{"title": "A', ["body"], "json_invalid"),
        (b"{bad", ["body"], "json_invalid"),
        (b'{"title": "\xff"}', ["body"], "json_invalid"),
        (b'{"title": "\\ud800"}', ["body"], "json_invalid"),
        (b'{"title": "A", "notes": {"n": NaN}}', ["body"], "json_invalid"),
        (b'{"title": "A", "notes": {"n": 1e999}}', ["body", "notes", "..."], "value_error"),
        (b'{"title": "A\\u0000"}', ["body"], "nul_character"),
        (b'{"title": "A", "notes": {"n": ' + b"[" * 2000 + b"]" * 2000 + b"}}", ["body"], "too_deep"),
        (b"[1]", ["body"], "dict_type"),
        (b'"x"', ["body"], "dict_type"),
        (b"", ["body"], "missing"),
        (b"null", ["body"], "missing"),
    ],
)
def test_a_bad_body_names_the_field(api: str, body: bytes, place: list[str | int], kind: str) -> None:
    """422 has the shape of a validation error, and the place of the fault; the body is not sent back."""
    answer = ask(api, "POST", "/books/", body)

    said = answer.json()
    assert answer.status == 422
    assert (said["exception_message"], said["request_body"]) == ("Invalid request received.", None)
    assert [(one["loc"], one["type"]) for one in said["exception_detail"]] == [(place, kind)]


@pytest.mark.parametrize(
    ("query", "place"),
    [("", ["query", "least"]), ("?least=x", ["query", "least"]), ("?least=1&after=x", ["query", "after"])],
)
def test_a_bad_query_names_the_argument(api: str, query: str, place: list[str]) -> None:
    """422 for the query, likewise."""
    answer = ask(api, "GET", f"/books/pages{query}")

    assert (answer.status, answer.json()["exception_detail"][0]["loc"]) == (422, place)


def test_s16_an_unknown_error_tells_an_id_and_nothing_else(api: str, caplog: pytest.LogCaptureFixture) -> None:
    """500 has an id, under which the log tells what happened; the caller sees neither text nor trace."""
    with caplog.at_level(logging.ERROR):
        answer = ask(api, "POST", "/fail/somehow")

    said = answer.json()
    assert answer.status == 500
    assert said == {"exception_message": "Internal Server Error", "error_id": said["error_id"]}
    assert b"4711" not in answer.body
    assert said["error_id"] in caplog.text
    assert "the secret is 4711" in caplog.text


def test_g13_what_cannot_be_encoded_is_not_stored(api: str) -> None:
    """An answer is encoded before the commit: when that fails, nothing was done."""
    answer = ask(api, "POST", "/fail/unencodable")

    assert answer.status == 500
    assert ask(api, "POST", "/books/filter").json() == []


def test_g16_a_lost_database_is_a_503(api: str, sqlite_store: Store) -> None:
    """While the store cannot serve, callers are told to come again, and `/health` is still answered."""
    sqlite_store.close()

    answer = ask(api, "POST", "/books/filter")

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert ask(api, "GET", "/health").status == 200


def test_being_busy_tells_how_long_to_wait(api: str) -> None:
    """429 carries Retry-After."""
    answer = ask(api, "POST", "/fail/busy")

    assert (answer.status, answer.headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize(("asked", "status"), [("0.8.4", 200), ("0.8.0", 200), ("0.7.9", 400), ("new", 400)])
def test_the_version_of_the_api_is_checked(api: str, asked: str, status: int) -> None:
    """A client of an API no longer spoken is told so."""
    answer = ask(api, "POST", "/books/filter", X_PREFECT_API_VERSION=asked)

    assert answer.status == status


def test_no_csrf_token_is_needed(api: str) -> None:
    """Clients look for these words to learn that tokens are off."""
    answer = ask(api, "GET", "/csrf-token?client=me")

    assert (answer.status, answer.json()) == (422, {"detail": "CSRF protection is disabled."})
    assert ask(api, "GET", "/csrf-token").json()["exception_detail"][0]["loc"] == ["query", "client"]


def test_g15_a_sick_service_makes_the_server_unready(sqlite_store: Store) -> None:
    """`/ready` is 503 while there are problems, and names them; `/health` only says that the process answers."""
    problems = ["service scheduler has had no success for 200 s"]
    with serving(sqlite_store, operations=shelf.operations(), problems=lambda: problems) as url:
        red, alive = ask(url, "GET", "/ready"), ask(url, "GET", "/health")
        problems.clear()
        green = ask(url, "GET", "/ready")

    assert (red.status, "scheduler" in red.json()["exception_message"]) == (503, True)
    assert (alive.status, alive.json()) == (200, True)
    assert (green.status, green.json()) == (200, {"message": "OK"})


def test_pages_for_people(api: str) -> None:
    """A person who opens the address in a browser is told what it is; no script may run there."""
    for path, words in (("/", b"headrace"), ("/docs", b"Put a book on the shelf")):
        answer = ask(api.removesuffix("/api"), "GET", path)

        assert (answer.status, words in answer.body) == (200, True)
        assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyMissing(), "HEADRACE_SERVER_ENCRYPTION_KEY"),
        (StoreUnavailable("could not connect to 10.0.0.7 as admin"), "Try again."),
    ],
)
def test_what_an_operator_mends_is_told_and_what_the_database_says_is_not(error: Exception, told: str) -> None:
    """503 names the setting that is missing; the words of the database stay in the log."""  # S16
    answer = answer_to(error, "POST /api/block_documents/")

    assert answer.status == 503
    assert told in answer.body.decode()
    assert "10.0.0.7" not in answer.body.decode()
