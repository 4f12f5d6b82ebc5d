"""The processes that serve background tasks, as far as they are connected."""

from datetime import datetime

from msgspec import Struct

from headrace.schemas.endpoint import Endpoint


class TaskWorkerFilter(Struct, kw_only=True):
    """Those that serve any of these tasks; all of them when no task is named."""

    task_keys: list[str]


class ReadTaskWorkers(Struct, kw_only=True):
    """Which servers of tasks to list."""

    task_worker_filter: TaskWorkerFilter | None = None


class TaskWorkerResponse(Struct, kw_only=True):
    """A server of tasks: what it calls itself, the tasks it serves, and when it was last known to be there."""

    identifier: str
    task_keys: list[str]
    timestamp: datetime


READ_TASK_WORKERS = Endpoint("POST", "/task_workers/filter", body=ReadTaskWorkers, returns=list[TaskWorkerResponse])
