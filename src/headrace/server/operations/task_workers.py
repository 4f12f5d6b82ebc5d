"""The servers of background tasks that are connected to this process.

They are what a socket is: gone with it, and so kept in memory. Another server process of the database has its own.
"""

from datetime import datetime
from uuid import UUID

from headrace.schemas.task_workers import READ_TASK_WORKERS, ReadTaskWorkers, TaskWorkerResponse
from headrace.server.operations.registry import implements
from headrace.server.store.transaction import Tx

_connected: dict[UUID, TaskWorkerResponse] = {}


def note(id: UUID, identifier: str, task_keys: list[str], now: datetime) -> None:
    """Remember that a server of tasks lives.

    Args:
        id: of its connection.
        identifier: what it calls itself.
        task_keys: the tasks it serves.
        now: the present moment.
    """
    _connected[id] = TaskWorkerResponse(identifier=identifier, task_keys=task_keys, timestamp=now)


def forget(id: UUID) -> None:
    """Forget the server of tasks of a connection that has ended."""
    _connected.pop(id, None)


@implements(READ_TASK_WORKERS, access="runs:read")
def read_task_workers(tx: Tx, body: ReadTaskWorkers) -> list[TaskWorkerResponse]:  # noqa: ARG001
    """The servers of background tasks that are connected."""
    chosen = body.task_worker_filter
    wanted = frozenset(chosen.task_keys if chosen else ())
    return [one for one in _connected.copy().values() if not wanted or not wanted.isdisjoint(one.task_keys)]
