"""The event log, in the order its rows were written, an index of all resources an event is about, and its readers.

The news of log lines are kept in the same way, for a minute.

On PostgreSQL the log and its index are kept in slices of time, see `headrace.server.store.slices`.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, PrimaryKeyConstraint, String, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from headrace.server.store.tables.metadata import METADATA
from headrace.server.store.tables.types import Id, Json, Moment

_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER is SQLite's own row number


class writer(FunctionElement[int]):
    """The number of the transaction that writes a row, by which readers know what may still be uncommitted.  # G8"""

    type = BigInteger()
    inherit_cache = True
    name = "writer"


@compiles(writer, "postgresql")
def _writer_postgresql(element: writer, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ARG001
    return "(pg_current_xact_id()::text::bigint)"


@compiles(writer, "sqlite")
def _writer_sqlite(element: writer, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ARG001
    return "0"  # one writer at a time: rows are numbered in the order of their commits


EVENT = Table(
    "event",
    METADATA,
    Column("seq", _SEQUENCE, Identity()),
    Column("xid", BigInteger, nullable=False, server_default=writer()),
    Column("id", Id, nullable=False),
    Column("occurred", Moment, nullable=False),
    Column("received", Moment, nullable=False),
    Column("event", String, nullable=False),
    Column("resource_id", String, nullable=False),
    Column("resource", Json, nullable=False),
    Column("related", Json, nullable=False),
    Column("payload", Json, nullable=False),
    Column("follows", Id),
    PrimaryKeyConstraint("seq").ddl_if("sqlite"),  # on PostgreSQL a key has to hold the moment that makes the slices
    Index(None, "id", "occurred", unique=True),  # G8: what comes again bears the same moment
    Index(None, "occurred", info={"only": "sqlite"}),  # whose indexes end with the row's number anyway
    Index(None, "occurred", "seq", info={"only": "postgresql"}),
    Index(None, "resource_id", "occurred"),
    Index(None, "event", "occurred"),
    Index(None, "xid", "seq", info={"only": "postgresql"}),  # SQLite's rows are in that order by themselves
)

EVENT_RELATED = Table(
    "event_related",
    METADATA,
    Column("resource_id", String, primary_key=True),
    Column("occurred", Moment, primary_key=True),
    Column("event_id", Id, primary_key=True),
    Column("role", String, primary_key=True),
    sqlite_with_rowid=False,
)

EVENT_CURSOR = Table(
    "event_cursor",
    METADATA,
    Column("name", String, primary_key=True),
    Column("xid", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
)

LOG_NEWS = Table(
    "log_news",
    METADATA,
    Column("seq", _SEQUENCE, Identity(), primary_key=True),
    Column("xid", BigInteger, nullable=False, server_default=writer()),
    Column("log_id", Id, nullable=False),
    Column("written", Moment, nullable=False),
    Index(None, "xid", "seq", info={"only": "postgresql"}),
    Index(None, "written"),
)
"""The log lines of the last minute, as they were written, while a server process listens to them."""

LOG_LISTENER = Table(
    "log_listener",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("until", Moment, nullable=False),
)
"""The server processes that listen to log lines, each until when it is believed to."""
