"""A small API of its own for tests of the transports: books on a shelf, with every shape of call there is."""

from datetime import datetime
from types import NoneType
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import text

from headrace._internal.ids import uuid7
from headrace.exceptions import Forbidden, ObjectAlreadyExists, ObjectNotFound, RateLimited, ValidationFailed
from headrace.schemas.admin import HEALTH_CHECK, PERFORM_READINESS_CHECK
from headrace.schemas.csrf import CREATE_CSRF_TOKEN
from headrace.schemas.endpoint import Endpoint
from headrace.server.operations import registry
from headrace.server.operations.csrf import create_csrf_token
from headrace.server.operations.registry import Existing, Operation, Raw, implements
from headrace.server.store.transaction import Store, Tx


class Book(Struct, kw_only=True):
    """A book."""

    id: UUID
    title: str
    pages: int
    notes: dict[str, Any] = {}
    read_at: datetime | None = None


class NewBook(Struct, kw_only=True):
    """What makes a book."""

    title: Annotated[str, Meta(min_length=1, max_length=100, pattern="^[^/]+$")]
    pages: Annotated[int, Meta(ge=1)] = 1
    notes: dict[str, Any] = {}
    read_at: datetime | None = None


class ChangedBook(Struct, kw_only=True):
    """What to change: fields that are left out stay as they are."""

    pages: int | UnsetType = UNSET
    read_at: datetime | UnsetType | None = UNSET


class FindBooks(Struct, kw_only=True):
    """Which books to list."""

    titles: list[str] | None = None
    limit: Annotated[int, Meta(ge=0, le=200)] = 200


CREATE_BOOK = Endpoint("POST", "/books/", body=NewBook, returns=Book, status=201, existing=200)
READ_BOOK = Endpoint("GET", "/books/{id}", returns=Book)
READ_BOOK_BY_TITLE = Endpoint("GET", "/books/title/{title}", returns=Book)
UPDATE_BOOK = Endpoint("PATCH", "/books/{id}", body=ChangedBook, returns=NoneType, status=204)
DELETE_BOOK = Endpoint("DELETE", "/books/{id}", returns=NoneType, status=204)
READ_BOOKS = Endpoint("POST", "/books/filter", body=FindBooks, returns=list[Book])
COUNT_PAGES = Endpoint("GET", "/books/pages", returns=int)
LEND_BOOK = Endpoint("POST", "/books/{id}/lend", returns=str)
PRINT_BOOK = Endpoint("GET", "/books/{id}/print", returns=Any)
FAIL = Endpoint("POST", "/fail/{how}", returns=Any)

_TABLE = "create table if not exists book (id text primary key, title text unique, pages bigint, rest text)"


def prepare(store: Store) -> None:
    """Make the shelf, empty."""

    def make(tx: Tx) -> None:
        tx.execute(text(_TABLE))
        tx.execute(text("delete from book"))

    store.write(make)


def _book(tx: Tx, column: str, key: str) -> Book | None:
    import msgspec

    row = tx.execute(text(f"select rest from book where {column} = :key"), {"key": key}).first()
    return None if row is None else msgspec.json.decode(row[0], type=Book)


def _keep(tx: Tx, book: Book) -> Book:
    import msgspec

    values = {
        "id": str(book.id),
        "title": book.title,
        "pages": book.pages,
        "rest": msgspec.json.encode(book).decode(),
    }
    tx.execute(text("delete from book where id = :id"), values)
    tx.execute(text("insert into book (id, title, pages, rest) values (:id, :title, :pages, :rest)"), values)
    return book


def create_book(tx: Tx, body: NewBook) -> Book | Existing:
    """Put a book on the shelf, or find the one of that title there."""
    if known := _book(tx, "title", body.title):
        return Existing(known)
    return _keep(tx, Book(id=uuid7(), title=body.title, pages=body.pages, notes=body.notes, read_at=body.read_at))


def read_book(tx: Tx, id: UUID) -> Book:
    """One book."""
    if known := _book(tx, "id", str(id)):
        return known
    raise ObjectNotFound("Book", id)


def read_book_by_title(tx: Tx, title: str) -> Book:
    """One book, by its title."""
    if known := _book(tx, "title", title):
        return known
    raise ObjectNotFound("Book", title)


def update_book(tx: Tx, id: UUID, body: ChangedBook) -> None:
    """Change a book."""
    book = read_book(tx, id)
    if body.pages is not UNSET:
        book.pages = body.pages
    if body.read_at is not UNSET:
        book.read_at = body.read_at
    _keep(tx, book)


def delete_book(tx: Tx, id: UUID) -> None:
    """Take a book away."""
    read_book(tx, id)
    tx.execute(text("delete from book where id = :id"), {"id": str(id)})


def read_books(tx: Tx, body: FindBooks) -> list[Book]:
    """Books by title."""
    rows = tx.execute(text("select title from book order by title")).scalars()
    titles = [title for title in rows if body.titles is None or title in body.titles]
    return [read_book_by_title(tx, title) for title in titles[: body.limit]]


def count_pages(tx: Tx, least: int, after: datetime | None = None, empty: bool = False) -> int:
    """How many pages there are in books of at least so many."""
    statement = "select coalesce(sum(pages), 0) from book where pages >= :least"
    pages = int(tx.execute(text(statement), {"least": least}).scalar_one())
    return pages + (1000 if after else 0) + (10 if empty else 0)


def lend_book(tx: Tx, id: UUID) -> str:
    """A call without a body."""
    return f"lent {read_book(tx, id).title}"


def print_book(tx: Tx, id: UUID) -> Raw:
    """A book as a file."""
    return Raw(f"{read_book(tx, id).title}\n".encode(), "text/plain", {"Content-Disposition": "attachment"})


def fail(tx: Tx, how: str) -> Any:
    """Fail in the way that is asked for, after having written something."""
    _keep(tx, Book(id=uuid7(), title=f"half done {how}", pages=1))
    match how:
        case "exists":
            raise ObjectAlreadyExists("A book of that name is there already.")
        case "invalid":
            raise ValidationFailed("The shelf is not valid.")
        case "forbidden":
            raise Forbidden("Not yours.")
        case "busy":
            raise RateLimited("Come again.", 1)
        case "twice":
            _keep(tx, Book(id=uuid7(), title="half done twice", pages=1))
        case "huge":
            tx.execute(text("insert into book (id, pages) values ('x', :pages)"), {"pages": 2**70})
        case "unencodable":
            return {"a": object()}
    raise RuntimeError("the secret is 4711")


def operations() -> dict[Endpoint[Any], Operation]:
    """The table of these operations, with health and readiness, apart from headrace's own."""
    own = (
        (CREATE_BOOK, create_book, "books:write"),
        (READ_BOOK, read_book, "books:read"),
        (READ_BOOK_BY_TITLE, read_book_by_title, "books:read"),
        (UPDATE_BOOK, update_book, "books:write"),
        (DELETE_BOOK, delete_book, "books:write"),
        (READ_BOOKS, read_books, "books:read"),
        (COUNT_PAGES, count_pages, "books:read"),
        (LEND_BOOK, lend_book, "books:read"),
        (PRINT_BOOK, print_book, "books:read"),
        (FAIL, fail, "books:write"),
        (CREATE_CSRF_TOKEN, create_csrf_token, "none"),
    )
    table = {}
    for endpoint, function, access in own:
        known = registry.OPERATIONS.pop(endpoint, None)
        implements(endpoint, access=access)(function)
        table[endpoint] = registry.OPERATIONS.pop(endpoint)
        if known is not None:
            registry.OPERATIONS[endpoint] = known
    for endpoint, answer in ((HEALTH_CHECK, True), (PERFORM_READINESS_CHECK, {"message": "OK"})):
        table[endpoint] = Operation(endpoint, lambda _, answer=answer: answer, "none", True)
    return table
