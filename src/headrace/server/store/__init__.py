"""The store: one interface to the database, carried out by SQLite and by PostgreSQL."""

from pathlib import Path

from sqlalchemy import make_url

from headrace._internal.clock import Clock, SystemClock
from headrace.server.store.transaction import Store


def open_store(url: str, clock: Clock | None = None) -> Store:
    """Open a database and bring its schema up to date.

    Args:
        url: `sqlite:///path/of/file` or `postgresql://user@host/database`; a driver named in it is ignored.
        clock: tells each transaction its time; the clock of the database's host when absent.

    Raises:
        ValueError: the URL names no database that headrace knows.
        StoreUnavailable: the database does not answer.
    """
    parsed = make_url(url)
    kind = parsed.get_backend_name()
    if kind == "sqlite" and parsed.database and ":memory:" not in parsed.database:
        from headrace.server.store.sqlite import SqliteStore  # who uses one database need not import the other's

        return SqliteStore(Path(parsed.database).expanduser(), clock or SystemClock())
    if kind == "postgresql":
        from headrace.server.store.postgresql import PostgresStore

        return PostgresStore(parsed.set(drivername="postgresql+psycopg"), clock)
    raise ValueError(
        f"Cannot open a database at {parsed.render_as_string()}. "
        "Use sqlite:///path/of/file or postgresql://user@host/database."
    )
