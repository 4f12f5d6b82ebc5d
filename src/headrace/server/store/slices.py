"""The tables that PostgreSQL keeps in slices of time: to drop a slice frees its space at once, however much it holds.

The slices of a table are its partitions, and lie at the same times for each such table. What belongs to none lies in a
partition of its own, `event_default`, and is moved when a slice is made for it.

Slices are made and dropped under a lock of the whole tables, taken in the order in which events are written: a
statement that was planned before a slice was there would miss what was moved into it. Everybody waits behind whoever
waits for that lock, so it is not waited for long, and no step takes long. What does not succeed leaves all as it was:
rows without a slice are found and deleted as well, only not as cheaply.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.compiler import DDLCompiler

from headrace.server.store.tables import EVENT, EVENT_RELATED

SLICED: tuple[Table, ...] = (EVENT, EVENT_RELATED)
"""The tables in slices of `occurred`, in the order in which they are written."""
_KEY = 0x736C69636573  # "slices"
_LIMITS = "SELECT set_config('lock_timeout', '1s', true), set_config('statement_timeout', '2s', true)"
_UNLIMITED = "SET LOCAL statement_timeout = 0"
_TURN = f"SELECT pg_advisory_xact_lock({_KEY})"
_ALONE = f"LOCK TABLE {', '.join(table.name for table in SLICED)} IN ACCESS EXCLUSIVE MODE"
_SLICES = """
    SELECT bounds[1]::timestamptz AS since, bounds[2]::timestamptz AS until
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid,
    LATERAL regexp_match(pg_get_expr(relpartbound, pg_class.oid), 'FROM \\(''(.+)''\\) TO \\(''(.+)''\\)') AS bounds
    WHERE inhparent = 'event'::regclass AND bounds IS NOT NULL
    ORDER BY since
"""


class Slice(NamedTuple):
    """A slice of the tables: from when, at midnight UTC, and until when it reaches, the latter not included."""

    since: datetime
    until: datetime


@compiles(CreateTable, "postgresql")
def _create_sliced(element: CreateTable, compiler: DDLCompiler, **options: object) -> str:
    table = element.element
    made: str = compiler.visit_create_table(element, **options)  # type: ignore[no-untyped-call]
    if table not in SLICED:
        return made
    return f"{made.rstrip()} PARTITION BY RANGE (occurred); CREATE TABLE {table}_default PARTITION OF {table} DEFAULT"


def slices(connection: Connection) -> list[Slice]:
    """The slices there are, the oldest first; none on SQLite."""
    if connection.dialect.name != "postgresql":
        return []
    return [Slice(*row) for row in connection.exec_driver_sql(_SLICES)]


def make_slice(connection: Connection, new: Slice) -> bool:
    """Make a slice, and move what belongs into it; False if another process was quicker.

    Args:
        connection: in a transaction of PostgreSQL that does nothing else.
        new: the slice.
    """
    connection.exec_driver_sql(_LIMITS)
    connection.exec_driver_sql(_TURN)
    if any(one.since < new.until and new.since < one.until for one in slices(connection)):
        return False
    since, until = (f"'{moment.isoformat()}'" for moment in new)
    within = f"occurred >= {since} AND occurred < {until}"
    connection.exec_driver_sql(_ALONE)
    for table in SLICED:
        name = _part(table, new)
        moved = f"WITH moved AS (DELETE FROM {table}_default WHERE {within} RETURNING *)"  # noqa: S608  names of ours
        connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE {table})")
        connection.exec_driver_sql(f"{moved} INSERT INTO {name} SELECT * FROM moved")  # noqa: S608
        bounds = f"FOR VALUES FROM ({since}) TO ({until})"
        connection.exec_driver_sql(f"ALTER TABLE {table} ATTACH PARTITION {name} {bounds}")
    return True


def drop_slice(connection: Connection, old: Slice) -> bool:
    """Drop a slice with all it holds; False if another process was quicker.

    Args:
        connection: in a transaction of PostgreSQL that does nothing else.
        old: the slice.
    """
    connection.exec_driver_sql(_LIMITS)
    connection.exec_driver_sql(_TURN)
    if old not in slices(connection):
        return False
    connection.exec_driver_sql(_ALONE)
    for table in SLICED:
        connection.exec_driver_sql(f"DROP TABLE {_part(table, old)}")
    connection.exec_driver_sql(_UNLIMITED)  # the commit deletes the files, when nobody waits for the lock any more
    return True


def _part(table: Table, one: Slice) -> str:
    return f"{table}_{one.since:%Y%m%d}"
