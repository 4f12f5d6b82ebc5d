"""Log lines: writing, finding, downloading."""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, select

from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectNotFound
from headrace.schemas.flow_runs import DOWNLOAD_LOGS
from headrace.schemas.logs import CREATE_LOGS, READ_LOGS, Log, LogCreate, ReadLogs
from headrace.server.events.line_news import tell_of_lines
from headrace.server.operations.paging import chosen_rows, listed, page_size
from headrace.server.operations.registry import Raw, implements
from headrace.server.operations.rows import values_of
from headrace.server.store.filters import where
from headrace.server.store.prepared import Prepared
from headrace.server.store.tables import FLOW_RUN, LOG
from headrace.server.store.transaction import Tx

_INSERT = Prepared(LOG.insert())
_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_HEAD = ("timestamp", "level", "flow_run_id", "task_run_id", "message")


@implements(CREATE_LOGS, access="logs:write")
def create_logs(tx: Tx, body: list[LogCreate]) -> Any:
    """Write log lines."""
    if body:
        rows = [msgspec.structs.asdict(line) | {"id": uuid7(), "created": tx.now} for line in body]
        tx.send(_INSERT, rows)
        tell_of_lines(tx, (row["id"] for row in rows))


def read_line(row: Row[Any]) -> Log:
    """A row of the log as what a client sees."""
    values = values_of(row)
    return msgspec.convert({**values, "updated": values["created"]}, Log)


@implements(READ_LOGS, access="logs:read")
def read_logs(tx: Tx, body: ReadLogs) -> list[Log]:
    """The log lines a filter finds."""
    limit = page_size(body.limit)
    rows = chosen_rows(tx, "log lines", lambda: select(LOG).where(where(LOG, body.logs)), LOG, body, limit, body.offset)
    return listed(rows, read_line, "log line")


@implements(DOWNLOAD_LOGS, access="logs:read")
def download_logs(tx: Tx, id: UUID) -> Raw:
    """The whole log of a flow run, as CSV."""
    name = tx.execute(select(FLOW_RUN.c.name).where(FLOW_RUN.c.id == id)).scalar_one_or_none()
    if name is None:
        raise ObjectNotFound("Flow run", id)
    chosen = select(*(LOG.c[column] for column in _HEAD)).where(LOG.c.flow_run_id == id)
    rows = tx.execute(chosen.order_by(LOG.c.timestamp, LOG.c.id))
    headers = {"Content-Disposition": f'attachment; filename="{_NOT_IN_FILE_NAMES.sub("-", name)}-logs.csv"'}
    return Raw("".join(_csv(rows)).encode(), "text/csv; charset=utf-8", headers)


def _csv(rows: Any) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_HEAD)
    for moment, *rest in rows:
        writer.writerow([str(moment), *(_cell(value) for value in rest)])
    yield text.getvalue()


def _cell(value: Any) -> Any:
    """A value for a cell; a text that a spreadsheet would run as a formula is kept from that by a quote."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return "" if value is None else value
