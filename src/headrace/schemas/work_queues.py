"""Work queues by id, as agents knew them, and the calls about them; a queue itself is in `work_pools`."""

from datetime import datetime
from types import NoneType
from typing import Annotated

from msgspec import Meta, Struct

from headrace.schemas.endpoint import Endpoint
from headrace.schemas.flow_runs import FlowRun
from headrace.schemas.work_pools import (
    FlowRunSlotSummary,
    ReadWorkQueues,
    WorkQueueCreate,
    WorkQueueUpdate,
    WorkQueueWithStatus,
)


class ReadWorkQueueConcurrencyStatus(Struct, kw_only=True):
    """Which page of the runs that hold a queue's slots to show."""

    limit: int | None = None
    page: Annotated[int, Meta(ge=1)] = 1


class WorkQueueConcurrencyStatus(Struct, kw_only=True):
    """The slots of a queue, and a page of the runs that hold them."""

    active_slots: int
    concurrency_limit: int | None = None
    count: int
    flow_runs: list[FlowRunSlotSummary] = []
    limit: int
    page: int
    pages: int


class ReadWorkQueueRuns(Struct, kw_only=True):
    """How many runs to take, and those due before which moment."""

    limit: int | None = None
    scheduled_before: datetime | None = None


class WorkQueueHealthPolicy(Struct, kw_only=True):
    """When a queue counts as healthy."""

    maximum_late_runs: int | None = 0
    maximum_seconds_since_last_polled: int | None = 60


class WorkQueueStatusDetail(Struct, kw_only=True):
    """Whether a queue is asked for runs, and keeps up."""

    health_check_policy: WorkQueueHealthPolicy
    healthy: bool
    last_polled: datetime | None = None
    late_runs_count: int = 0


CREATE_WORK_QUEUE = Endpoint("POST", "/work_queues/", body=WorkQueueCreate, returns=WorkQueueWithStatus, status=201)
READ_WORK_QUEUES = Endpoint("POST", "/work_queues/filter", body=ReadWorkQueues, returns=list[WorkQueueWithStatus])
READ_WORK_QUEUE_BY_NAME = Endpoint("GET", "/work_queues/name/{name}", returns=WorkQueueWithStatus)
DELETE_WORK_QUEUE = Endpoint("DELETE", "/work_queues/{id}", returns=NoneType, status=204)
READ_WORK_QUEUE = Endpoint("GET", "/work_queues/{id}", returns=WorkQueueWithStatus)
UPDATE_WORK_QUEUE = Endpoint("PATCH", "/work_queues/{id}", body=WorkQueueUpdate, returns=NoneType, status=204)
READ_WORK_QUEUE_CONCURRENCY_STATUS = Endpoint(
    "POST",
    "/work_queues/{id}/concurrency_status",
    body=ReadWorkQueueConcurrencyStatus,
    returns=WorkQueueConcurrencyStatus,
)
READ_WORK_QUEUE_RUNS = Endpoint("POST", "/work_queues/{id}/get_runs", body=ReadWorkQueueRuns, returns=list[FlowRun])
READ_WORK_QUEUE_STATUS = Endpoint("GET", "/work_queues/{id}/status", returns=WorkQueueStatusDetail)
