"""Work pools: where runs wait for workers of one kind, with their queues and workers, and the calls about them."""

from datetime import datetime
from enum import StrEnum
from types import NoneType
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

from headrace.schemas.endpoint import Endpoint
from headrace.schemas.filters import QueueFilter, WorkerFilter, WorkerStatus, WorkPoolFilter, WorkQueueFilter
from headrace.schemas.flow_runs import FlowRun
from headrace.schemas.states import StateType

Name = Annotated[str, Meta(pattern="^[^/%&><]+$")]
Slots = Annotated[int, Meta(ge=0)]


class WorkPoolStorageConfiguration(Struct, kw_only=True):
    """How workers of a pool get at code and results."""

    bundle_execution_step: dict[str, Any] | None = None
    bundle_upload_step: dict[str, Any] | None = None
    default_result_storage_block_id: UUID | None = None


class WorkPoolCreate(Struct, kw_only=True):
    """A work pool to be created."""

    base_job_template: dict[str, Any] = {}
    concurrency_limit: Slots | None = None
    description: str | None = None
    is_paused: bool = False
    name: Name
    storage_configuration: WorkPoolStorageConfiguration = field(default_factory=WorkPoolStorageConfiguration)
    type: str = "prefect-agent"


class WorkPoolStatus(StrEnum):
    """Whether a work pool has a worker."""

    READY = "READY"
    NOT_READY = "NOT_READY"
    PAUSED = "PAUSED"


class WorkPool(Struct, kw_only=True):
    """A work pool as it is stored."""

    active_slots: int | None = None
    base_job_template: dict[str, Any] = {}
    concurrency_limit: Slots | None = None
    created: datetime | None
    default_queue_id: UUID | None = None
    description: str | None = None
    id: UUID
    is_paused: bool = False
    name: Name
    status: WorkPoolStatus | None = None
    storage_configuration: WorkPoolStorageConfiguration = field(default_factory=WorkPoolStorageConfiguration)
    type: str
    updated: datetime | None


class CountWorkPools(Struct, kw_only=True):
    """Which work pools to count."""

    work_pools: WorkPoolFilter | None = None


class ReadWorkPools(Struct, kw_only=True):
    """Which work pools to list, and which part of the list."""

    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    work_pools: WorkPoolFilter | None = None


class WorkPoolUpdate(Struct, kw_only=True):
    """What to change of a work pool; what is left out stays."""

    base_job_template: dict[str, Any] | UnsetType | None = UNSET
    concurrency_limit: Slots | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    is_paused: bool | UnsetType | None = UNSET
    storage_configuration: WorkPoolStorageConfiguration | UnsetType | None = UNSET


class ReadWorkPoolConcurrencyStatus(Struct, kw_only=True):
    """Which page of a pool's queues to show, with how many runs of each."""

    flow_run_limit: Annotated[int, Meta(le=200, ge=0)] = 10
    limit: int | None = None
    page: Annotated[int, Meta(ge=1)] = 1


class FlowRunSlotSummary(Struct, kw_only=True):
    """A run that holds a slot."""

    id: UUID
    name: str
    start_time: datetime | None = None
    state_name: str | None = None
    state_timestamp: datetime | None = None
    state_type: StateType | None = None
    time_in_current_state: float | None = None


class WorkQueueConcurrencyStatusDetail(Struct, kw_only=True):
    """A queue of a pool, and the runs that hold its slots."""

    active_slots: int
    concurrency_limit: int | None = None
    flow_run_count: int | None = None
    flow_runs: list[FlowRunSlotSummary] = []
    queue_id: UUID
    queue_name: str


class WorkPoolConcurrencyStatus(Struct, kw_only=True):
    """The slots of a pool, and a page of its queues."""

    active_slots: int
    concurrency_limit: int | None = None
    count: int
    limit: int
    page: int
    pages: int
    queues: list[WorkQueueConcurrencyStatusDetail] = []


class GetScheduledFlowRuns(Struct, kw_only=True):
    """Of which queues (all when empty) to take runs, and due when."""

    limit: int | None = None
    scheduled_after: datetime | None = None
    scheduled_before: datetime | None = None
    work_queue_names: list[str] = []


class WorkerFlowRun(Struct, kw_only=True):
    """A run that a worker may take, and where it waits."""

    flow_run: FlowRun
    work_pool_id: UUID
    work_queue_id: UUID


class WorkQueueCreate(Struct, kw_only=True):
    """A work queue to be created; its priority is the first free one unless it is said."""

    concurrency_limit: Slots | None = None
    description: str | None = ""
    filter: QueueFilter | None = None
    is_paused: bool = False
    name: Name
    priority: Annotated[int, Meta(gt=0)] | None = None


class WorkQueueStatus(StrEnum):
    """Whether a work queue is asked for runs."""

    READY = "READY"
    NOT_READY = "NOT_READY"
    PAUSED = "PAUSED"


class WorkQueueWithStatus(Struct, kw_only=True):
    """A work queue as it is stored."""

    active_slots: int | None = None
    concurrency_limit: Slots | None = None
    created: datetime | None
    description: str | None = ""
    filter: QueueFilter | None = None
    id: UUID
    is_paused: bool = False
    last_polled: datetime | None = None
    name: Name
    priority: Annotated[int, Meta(gt=0)] = 1
    status: WorkQueueStatus | None = None
    updated: datetime | None
    work_pool_id: UUID | None = None
    work_pool_name: str | None = None


class ReadWorkQueues(Struct, kw_only=True):
    """Which work queues to list, and which part of the list."""

    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    work_queues: WorkQueueFilter = field(default_factory=WorkQueueFilter)


class WorkQueueUpdate(Struct, kw_only=True):
    """What to change of a work queue; what is left out stays."""

    concurrency_limit: Slots | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    filter: QueueFilter | UnsetType | None = UNSET
    is_paused: bool | UnsetType = UNSET
    last_polled: datetime | UnsetType | None = UNSET
    name: Name | UnsetType | None = UNSET
    priority: Annotated[int, Meta(gt=0)] | UnsetType | None = UNSET


class ReadWorkers(Struct, kw_only=True):
    """Which workers to list, and which part of the list."""

    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    workers: WorkerFilter | None = None


class Worker(Struct, kw_only=True):
    """A worker that was seen."""

    created: datetime | None
    heartbeat_interval_seconds: int | None = None
    id: UUID
    last_heartbeat_time: datetime | None = None
    name: str
    status: WorkerStatus = WorkerStatus.OFFLINE
    updated: datetime | None
    work_pool_id: UUID


class WorkerHeartbeat(Struct, kw_only=True):
    """A worker's sign of life, and how many seconds lie between two of them."""

    heartbeat_interval_seconds: int | None = None
    name: str


CREATE_WORK_POOL = Endpoint("POST", "/work_pools/", body=WorkPoolCreate, returns=WorkPool, status=201)
COUNT_WORK_POOLS = Endpoint("POST", "/work_pools/count", body=CountWorkPools, returns=int)
READ_WORK_POOLS = Endpoint("POST", "/work_pools/filter", body=ReadWorkPools, returns=list[WorkPool])
DELETE_WORK_POOL = Endpoint("DELETE", "/work_pools/{name}", returns=NoneType, status=204)
READ_WORK_POOL = Endpoint("GET", "/work_pools/{name}", returns=WorkPool)
UPDATE_WORK_POOL = Endpoint("PATCH", "/work_pools/{name}", body=WorkPoolUpdate, returns=NoneType, status=204)
READ_WORK_POOL_CONCURRENCY_STATUS = Endpoint(
    "POST",
    "/work_pools/{name}/concurrency_status",
    body=ReadWorkPoolConcurrencyStatus,
    returns=WorkPoolConcurrencyStatus,
)
GET_SCHEDULED_FLOW_RUNS = Endpoint(
    "POST", "/work_pools/{name}/get_scheduled_flow_runs", body=GetScheduledFlowRuns, returns=list[WorkerFlowRun]
)
CREATE_WORK_QUEUE = Endpoint(
    "POST", "/work_pools/{work_pool_name}/queues", body=WorkQueueCreate, returns=WorkQueueWithStatus, status=201
)
READ_WORK_QUEUES = Endpoint(
    "POST", "/work_pools/{work_pool_name}/queues/filter", body=ReadWorkQueues, returns=list[WorkQueueWithStatus]
)
DELETE_WORK_QUEUE = Endpoint("DELETE", "/work_pools/{work_pool_name}/queues/{name}", returns=NoneType, status=204)
READ_WORK_QUEUE = Endpoint("GET", "/work_pools/{work_pool_name}/queues/{name}", returns=WorkQueueWithStatus)
UPDATE_WORK_QUEUE = Endpoint(
    "PATCH", "/work_pools/{work_pool_name}/queues/{name}", body=WorkQueueUpdate, returns=NoneType, status=204
)
READ_WORKERS = Endpoint("POST", "/work_pools/{work_pool_name}/workers/filter", body=ReadWorkers, returns=list[Worker])
WORKER_HEARTBEAT = Endpoint(
    "POST", "/work_pools/{work_pool_name}/workers/heartbeat", body=WorkerHeartbeat, returns=NoneType, status=204
)
DELETE_WORKER = Endpoint("DELETE", "/work_pools/{work_pool_name}/workers/{name}", returns=NoneType, status=204)
