"""The servers of background tasks that are connected, to whatever process of whatever server of this database.

Each has a row while its socket is open. What a process that dies leaves of them lapses with its lease.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, delete, select

from headrace.schemas.task_workers import READ_TASK_WORKERS, ReadTaskWorkers, TaskWorkerResponse
from headrace.server.operations.paging import listed
from headrace.server.operations.registry import implements
from headrace.server.store.statements import upsert
from headrace.server.store.tables import TASK_SERVER
from headrace.server.store.transaction import Tx

LEASE = timedelta(seconds=30)
_ROW = TASK_SERVER.c


def note(tx: Tx, id: UUID, identifier: str, task_keys: Sequence[str]) -> None:
    """Remember for `LEASE` that a server of tasks is connected, and forget those of which that has passed.

    Args:
        tx: a writing transaction.
        id: of its connection.
        identifier: what it calls itself.
        task_keys: the tasks it serves.
    """
    tx.execute(delete(TASK_SERVER).where(_ROW.until < tx.now))
    names = {"id": id, "identifier": identifier, "task_keys": list(task_keys)}
    row = names | {"timestamp": tx.now, "until": tx.now + LEASE}
    upsert(tx, TASK_SERVER, [row], index=["id"], update=["timestamp", "until"])


def forget(tx: Tx, id: UUID) -> None:
    """Forget the server of tasks of a connection that has ended."""
    tx.execute(delete(TASK_SERVER).where(_ROW.id == id))


@implements(READ_TASK_WORKERS, access="runs:read")
def read_task_workers(tx: Tx, body: ReadTaskWorkers) -> list[TaskWorkerResponse]:
    """The servers of background tasks that are connected."""
    chosen = body.task_worker_filter
    wanted = frozenset(chosen.task_keys if chosen else ())
    rows = tx.execute(select(TASK_SERVER).where(_ROW.until > tx.now).order_by(_ROW.id))
    found = listed(rows, _read, "server of tasks")
    return [one for one in found if not wanted or not wanted.isdisjoint(one.task_keys)]


def _read(row: Row[Any]) -> TaskWorkerResponse:
    return msgspec.convert(
        {"identifier": row.identifier, "task_keys": row.task_keys, "timestamp": row.timestamp}, TaskWorkerResponse
    )
