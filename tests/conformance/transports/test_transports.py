"""One suite for both transports: a call has the same result and raises the same error, over HTTP and in process."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace

from headrace.client import AsyncClient, Client
from headrace.client.http import HttpClient
from headrace.client.local import LocalClient
from headrace.exceptions import (
    ApiError,
    Forbidden,
    ObjectAlreadyExists,
    ObjectNotFound,
    RateLimited,
    ValidationFailed,
)
from headrace.server.store.transaction import Store
from headrace.settings import get_settings
from tests.support import shelf
from tests.support.serving import serving
from tests.support.shelf import (
    COUNT_PAGES,
    CREATE_BOOK,
    DELETE_BOOK,
    FAIL,
    LEND_BOOK,
    PRINT_BOOK,
    READ_BOOK,
    READ_BOOK_BY_TITLE,
    READ_BOOKS,
    UPDATE_BOOK,
    ChangedBook,
    FindBooks,
    NewBook,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["local", "http"])
def client(request: pytest.FixtureRequest, store: Store) -> Iterator[Client]:
    """A client of an empty shelf, on each database."""
    shelf.prepare(store)
    operations = shelf.operations()
    if request.param == "local":
        yield LocalClient(store, operations.__getitem__)
        return
    settings = get_settings()
    settings = replace(settings, client=replace(settings.client, max_retries=0))
    with serving(store, operations=operations) as url, HttpClient(url, settings) as over_http:
        yield over_http


def test_what_is_created_can_be_read(client: Client) -> None:
    """A body reaches the operation, and a result the caller, with every kind of value."""
    body = NewBook(title="Ship's log", pages=300, notes={"a": [1, 2.5, None, {"ü": "€"}]}, read_at=NOON)

    made = client.call(CREATE_BOOK, body=body)

    assert client.call(READ_BOOK, id=made.id) == made
    assert (made.title, made.pages, made.notes, made.read_at) == ("Ship's log", 300, body.notes, NOON)


def test_an_id_may_be_given_as_text(client: Client) -> None:
    """Arguments of the path are read as the types the operation declares."""
    made = client.call(CREATE_BOOK, body=NewBook(title="Atlas"))

    assert client.call(READ_BOOK, id=str(made.id)) == made


@pytest.mark.parametrize("title", ["a b", "50%", "ü&?#=+", "a%2Fb", "title", "..."])
def test_names_in_the_path_may_hold_anything(client: Client, title: str) -> None:
    """A name in the path is quoted on the way."""
    made = client.call(CREATE_BOOK, body=NewBook(title=title))

    assert client.call(READ_BOOK_BY_TITLE, title=title) == made


def test_something_that_exists_is_returned_as_it_is(client: Client) -> None:
    """`Existing` gives the caller the same kind of result as a new one."""
    first = client.call(CREATE_BOOK, body=NewBook(title="Atlas", pages=2))

    assert client.call(CREATE_BOOK, body=NewBook(title="Atlas", pages=9)) == first


def test_fields_left_out_stay_as_they_are(client: Client) -> None:
    """A field that is not set does not travel; one that is set to None does."""
    made = client.call(CREATE_BOOK, body=NewBook(title="Atlas", pages=2, read_at=NOON))

    assert client.call(UPDATE_BOOK, id=made.id, body=ChangedBook(pages=7)) is None
    assert client.call(READ_BOOK, id=made.id) == replace(made, pages=7)
    client.call(UPDATE_BOOK, id=made.id, body=ChangedBook(read_at=None))
    assert client.call(READ_BOOK, id=made.id) == replace(made, pages=7, read_at=None)


def test_an_absent_body_is_an_empty_one(client: Client) -> None:
    """A call whose body has defaults for everything needs none."""
    for title in ("B", "A"):
        client.call(CREATE_BOOK, body=NewBook(title=title))

    assert [book.title for book in client.call(READ_BOOKS)] == ["A", "B"]
    assert [book.title for book in client.call(READ_BOOKS, body=FindBooks(titles=["B", "C"]))] == ["B"]


def test_arguments_of_the_query(client: Client) -> None:
    """They are read by their types; one that is None, or absent, has its default."""
    client.call(CREATE_BOOK, body=NewBook(title="A", pages=5))
    client.call(CREATE_BOOK, body=NewBook(title="B", pages=50))

    assert client.call(COUNT_PAGES, least=10) == 50
    assert client.call(COUNT_PAGES, least=1, after=None, empty=False) == 55
    assert client.call(COUNT_PAGES, least=1, after=NOON, empty=True) == 1065


def test_a_call_without_a_body(client: Client) -> None:
    """An operation that takes no body is called without one."""
    made = client.call(CREATE_BOOK, body=NewBook(title="Atlas"))

    assert client.call(LEND_BOOK, id=made.id) == "lent Atlas"
    assert client.call(DELETE_BOOK, id=made.id) is None
    assert client.call(READ_BOOKS) == []


def test_a_result_may_be_a_file(client: Client) -> None:
    """What is no JSON reaches the caller as its bytes."""
    made = client.call(CREATE_BOOK, body=NewBook(title="Atlas"))

    assert client.call(PRINT_BOOK, id=made.id) == b"Atlas\n"


def test_what_is_not_there(client: Client) -> None:
    """The error names what was looked for, in the same words."""
    missing = uuid4()

    with pytest.raises(ObjectNotFound) as caught:
        client.call(READ_BOOK, id=missing)

    assert str(caught.value) == f"Book '{missing}' not found"
    assert (caught.value.kind, str(caught.value.key), caught.value.status) == ("Book", str(missing), 404)


def test_an_id_that_is_none_is_not_found(client: Client) -> None:
    """An id that cannot be read is as good as one that is not there."""
    with pytest.raises(ObjectNotFound, match="Not Found"):
        client.call(READ_BOOK, id="not-an-id")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (NewBook(title=""), ["body", "title"]),
        (NewBook(title="x" * 101), ["body", "title"]),
        (NewBook(title="a/b"), ["body", "title"]),
        (NewBook(title="A", pages=0), ["body", "pages"]),
        (NewBook(title="A", pages="many"), ["body", "pages"]),  # type: ignore[arg-type]
        (NewBook(title=["A"]), ["body", "title"]),  # type: ignore[arg-type]
        (NewBook(title="A", notes={"n": 2**63}), ["body", "notes", "n"]),
        ({"pages": 3}, ["body", "title"]),
        (None, ["body"]),
    ],
)
def test_a_body_that_is_not_valid(client: Client, body: NewBook, place: list[str]) -> None:
    """The error names the field."""
    with pytest.raises(ValidationFailed) as caught:
        client.call(CREATE_BOOK, body=body)

    assert caught.value.details is not None
    assert [one["loc"] for one in caught.value.details] == [place]
    assert ".".join(place) in str(caught.value)
    assert client.call(READ_BOOKS) == []


def test_s6_text_that_no_database_keeps(client: Client) -> None:
    """NUL in a body is refused, wherever it stands; an escaped backslash before `u0000` is no NUL."""
    with pytest.raises(ValidationFailed, match="NUL"):
        client.call(CREATE_BOOK, body=NewBook(title="A", notes={"n": "a\0b"}))

    assert client.call(CREATE_BOOK, body=NewBook(title="B", notes={"n": "a\\u0000b"})).notes == {"n": "a\\u0000b"}


def test_s6_nesting_has_an_end(client: Client) -> None:
    """A body may be nested 64 levels deep, brackets in texts not counted, and no deeper."""
    deep: object = "[[[{{{" * 20
    for _ in range(62):
        deep = [deep]
    assert client.call(CREATE_BOOK, body=NewBook(title="A", notes={"n": deep})).notes == {"n": deep}

    with pytest.raises(ValidationFailed, match="deeper than 64"):
        client.call(CREATE_BOOK, body=NewBook(title="B", notes={"n": [deep]}))


def test_a_query_that_is_not_valid(client: Client) -> None:
    """A query argument that is missing or cannot be read is named."""
    with pytest.raises(ValidationFailed) as missing:
        client.call(COUNT_PAGES)
    with pytest.raises(ValidationFailed) as unreadable:
        client.call(COUNT_PAGES, least="few")

    assert missing.value.details is not None
    assert missing.value.details[0] == {"type": "missing", "loc": ["query", "least"], "msg": "Field required"}
    assert unreadable.value.details is not None
    assert unreadable.value.details[0]["loc"] == ["query", "least"]


@pytest.mark.parametrize(
    ("how", "kind", "status", "message"),
    [
        ("exists", ObjectAlreadyExists, 409, "A book of that name is there already."),
        ("invalid", ValidationFailed, 422, "The shelf is not valid."),
        ("forbidden", Forbidden, 403, "Not yours."),
        ("busy", RateLimited, 429, "Come again."),
        (
            "twice",
            ObjectAlreadyExists,
            409,
            "Another call has just made the same thing. Read it, or choose another name.",
        ),
    ],
)
def test_errors_of_operations(client: Client, how: str, kind: type[ApiError], status: int, message: str) -> None:
    """What an operation raises reaches the caller as the same exception, and nothing of it is stored."""
    with pytest.raises(kind) as caught:
        client.call(FAIL, how=how)

    assert (str(caught.value), caught.value.status) == (message, status)
    assert client.call(READ_BOOKS) == []


def test_a_value_that_does_not_fit_the_database(client: Client) -> None:
    """A number that no column holds is a fault of the caller's, on both databases."""
    with pytest.raises(ValidationFailed, match="cannot be stored"):
        client.call(FAIL, how="huge")

    assert client.call(READ_BOOKS) == []


def test_what_prefect_takes_is_taken(client: Client) -> None:
    """Where a body fails as it is, text is taken for numbers, and null for a field that was left out."""
    made = client.call(CREATE_BOOK, body={"title": "A", "pages": "12", "unknown": 1})
    plain = client.call(CREATE_BOOK, body={"title": "B", "pages": None, "notes": None})

    assert (made.pages, plain.pages, plain.notes) == (12, 1, {})


def test_times_keep_their_moment(client: Client) -> None:
    """A time of another zone is the same moment when it comes back."""
    elsewhere = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))

    made = client.call(CREATE_BOOK, body=NewBook(title="A", read_at=elsewhere))

    assert client.call(READ_BOOK, id=made.id).read_at == NOON


def test_results_share_nothing_with_the_caller(client: Client) -> None:
    """Changing what was sent or received changes nothing that is stored."""
    body = NewBook(title="A", notes={"list": [1]})
    made = client.call(CREATE_BOOK, body=body)

    body.notes["list"].append(2)
    made.notes["list"].append(3)
    again = client.call(READ_BOOK, id=made.id)
    again.notes["list"].append(4)

    assert client.call(READ_BOOK, id=made.id).notes == {"list": [1]}


async def call_in_loop(client: Client, id: UUID) -> str:
    """Call from a coroutine."""
    return (await AsyncClient(client).call(READ_BOOK, id=id)).title


def test_coroutines_call_by_threads(client: Client) -> None:
    """The asynchronous client has the same results."""
    import asyncio

    made = client.call(CREATE_BOOK, body=NewBook(title="A"))

    assert asyncio.run(call_in_loop(client, made.id)) == "A"
    assert AsyncClient(client).local == client.local
