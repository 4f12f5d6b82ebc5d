"""Log lines of flow runs and task runs, and how to write and find them."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from headrace.schemas.endpoint import Endpoint
from headrace.schemas.filters import LogFilter, LogSort


class LogCreate(Struct, kw_only=True):
    """A log line as a client sends it; `level` is a number of Python's `logging` (20 is INFO)."""

    flow_run_id: UUID | None = None
    level: int
    message: str
    name: str
    task_run_id: UUID | None = None
    timestamp: datetime


class Log(Struct, kw_only=True):
    """A log line as it is stored."""

    created: datetime | None
    flow_run_id: UUID | None = None
    id: UUID
    level: int
    message: str
    name: str
    task_run_id: UUID | None = None
    timestamp: datetime
    updated: datetime | None


class ReadLogs(Struct, kw_only=True):
    """Which log lines to list, and in what order."""

    limit: int | None = None
    logs: LogFilter | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    sort: LogSort = LogSort.TIMESTAMP_ASC


CREATE_LOGS = Endpoint("POST", "/logs/", body=list[LogCreate], returns=Any, status=201)
READ_LOGS = Endpoint("POST", "/logs/filter", body=ReadLogs, returns=list[Log])
