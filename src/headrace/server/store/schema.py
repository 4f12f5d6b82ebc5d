"""The schema of a database: which revision it has, making it, and bringing it up to date.

A database that has the present revision is taken as it is, and an empty one gets the tables as they stand in
`headrace.server.store.tables`; neither loads Alembic. Only an older one is upgraded by it.

Each store calls `prepare` in one transaction and under a lock of its own (the writers' turn on SQLite, an advisory lock
on PostgreSQL), so of two processes that start at once the second finds the work done, and what a killed one had begun
was never committed.  # G18
"""

import importlib

from sqlalchemy import Connection, Index, inspect, text
from sqlalchemy.schema import CreateIndex, CreateTable

from headrace.server.store import slices  # noqa: F401  how PostgreSQL makes the tables that it keeps in slices
from headrace.server.store.errors import StoreUnavailable
from headrace.server.store.tables import METADATA

HEAD = "0004"
"""The revision of the newest script in `migrations/versions`."""
_VERSIONS = "alembic_version"


def stored_revision(connection: Connection) -> str | None:
    """The revision a database says it has; None when it says nothing."""
    if connection.dialect.name == "sqlite":
        there = f"SELECT name FROM sqlite_master WHERE name = '{_VERSIONS}'"  # noqa: S608  a constant
    else:
        there = f"SELECT to_regclass('{_VERSIONS}')"
    if connection.exec_driver_sql(there).scalar() is None:
        return None
    revision = connection.exec_driver_sql(f"SELECT version_num FROM {_VERSIONS}").scalar()  # noqa: S608  a constant
    return None if revision is None else str(revision)


def prepare(connection: Connection, place: str) -> None:
    """Make the schema, or bring it up to date, inside the transaction of `connection`; it is the caller's to commit.

    Args:
        connection: inside a transaction, with the lock held.
        place: the file or URL of the database, for error messages.

    Raises:
        StoreUnavailable: the tables there are another program's, or those of a newer headrace.
    """
    revision = stored_revision(connection)
    if revision == HEAD:
        return
    if revision is None and not inspect(connection).get_table_names():
        _create(connection)
        return
    upgrading = importlib.import_module("headrace.server.store.upgrade")  # loads Alembic
    if revision not in upgrading.revisions():
        raise StoreUnavailable(
            f"The database {place} holds the tables of another program, or of a "
            f"newer headrace (revision {revision}). Give headrace a database of its own, or install the newer headrace."
        )
    upgrading.upgrade(connection)


def is_for(index: Index, dialect: str) -> bool:
    """Whether databases of a dialect have an index; one with `only` in its info is for one dialect."""
    return bool(index.info.get("only", dialect) == dialect)


def _create(connection: Connection) -> None:
    """Create the tables as they are now and note the newest revision."""
    for table in METADATA.sorted_tables:
        connection.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if is_for(index, connection.dialect.name):
                connection.execute(CreateIndex(index))
        for statement in table.info.get("also", {}).get(connection.dialect.name, ()):
            connection.exec_driver_sql(statement)
    connection.execute(text(f"CREATE TABLE {_VERSIONS} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text(f"INSERT INTO {_VERSIONS} VALUES (:head)"), {"head": HEAD})  # noqa: S608  a constant
