"""Flow runs: creating, reading and changing them, what is handed to them, and figures about many of them."""

from datetime import datetime
from types import NoneType
from typing import Annotated, Any, Literal, cast
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

from headrace.schemas.endpoint import Endpoint
from headrace.schemas.filters import FlowRunFilter, FlowRunSort, WorkQueueFilter
from headrace.schemas.history import HistoryResponse
from headrace.schemas.origin import CreatedBy
from headrace.schemas.scopes import PoolScope, QueueScope
from headrace.schemas.states import (
    OrchestrationResult,
    SetStateStatus,
    State,
    StateAbortDetails,
    StateAcceptDetails,
    StateCreate,
    StateRejectDetails,
    StateType,
    StateWaitDetails,
)
from headrace.schemas.task_runs import TaskRunResult


class FlowRunPolicy(Struct, kw_only=True):
    """How a flow run is tried again and paused; `max_retries` and `retry_delay_seconds` are names of old clients."""

    max_retries: int = 0
    pause_keys: list[str] | None = field(default_factory=list)
    resuming: bool | None = False
    retries: int | None = None
    retry_delay: int | None = None
    retry_delay_seconds: float = 0.0
    retry_type: Literal["in_process", "reschedule"] | None = None


class FlowRun(Struct, kw_only=True):
    """A flow run with its state, and where it runs."""

    auto_scheduled: bool = False
    context: dict[str, Any] = {}
    created: datetime | None
    created_by: CreatedBy | None = None
    deployment_id: UUID | None = None
    deployment_version: str | None = None
    empirical_policy: FlowRunPolicy = field(default_factory=FlowRunPolicy)
    end_time: datetime | None = None
    epoch: int = 0
    """The number of its attempt; headrace's own.  # G4"""
    estimated_run_time: float = 0.0
    estimated_start_time_delta: float = 0.0
    expected_start_time: datetime | None = None
    flow_id: UUID
    flow_version: str | None = None
    id: UUID
    idempotency_key: str | None = None
    infrastructure_document_id: UUID | None = None
    infrastructure_pid: str | None = None
    job_variables: dict[str, Any] | None = None
    labels: dict[str, bool | int | float | str] = {}
    name: str | None = None
    next_scheduled_start_time: datetime | None = None
    parameters: dict[str, Any] = {}
    parent_task_run_id: UUID | None = None
    run_count: int = 0
    start_time: datetime | None = None
    state: State | None = None
    state_id: UUID | None = None
    state_name: str | None = None
    state_type: StateType | None = None
    tags: list[str] = []
    total_run_time: float = 0.0
    updated: datetime | None
    work_pool_id: UUID | None = None
    work_pool_name: str | None = None
    work_queue_id: UUID | None = None
    work_queue_name: str | None = None


class FlowRunCreateResult(Struct, kw_only=True):
    """What became of one of several flow runs that were to be created."""

    error: str | None = None
    flow_run_id: UUID | None = None
    status: Literal["CREATED", "FAILED"]


class FlowRunCreate(Struct, kw_only=True):
    """A flow run to be created; its state is Pending unless one is given."""

    context: dict[str, Any] = {}
    deployment_id: UUID | None = None
    empirical_policy: FlowRunPolicy = field(default_factory=FlowRunPolicy)
    flow_id: UUID
    flow_version: str | None = None
    idempotency_key: str | None = None
    infrastructure_document_id: UUID | None = None
    job_variables: dict[str, Any] | None = None
    labels: dict[str, bool | int | float | str] | None = None
    name: str | None = None
    parameters: dict[str, Any] = {}
    parent_task_run_id: UUID | None = None
    state: StateCreate | None = None
    tags: list[str] = []
    work_pool_name: str | None = None
    work_queue_name: str | None = None


class BulkDeleteFlowRuns(Struct, kw_only=True):
    """Which flow runs to delete, and how many at most."""

    flow_runs: FlowRunFilter | None = None
    limit: Annotated[int, Meta(le=50, ge=1)] = 50


class FlowRunBulkDeleteResponse(Struct, kw_only=True):
    """The ids of the flow runs that were deleted."""

    deleted: list[UUID] = []


class BulkSetFlowRunState(Struct, kw_only=True):
    """A state to propose for each of the flow runs a filter finds, and for how many at most."""

    flow_runs: FlowRunFilter | None = None
    force: bool = False
    limit: Annotated[int, Meta(le=50, ge=1)] = 50
    state: StateCreate


class FlowRunOrchestrationResult(Struct, kw_only=True):
    """The answer to the proposal for one of several flow runs."""

    details: StateAcceptDetails | StateWaitDetails | StateRejectDetails | StateAbortDetails
    flow_run_id: UUID
    state: State | None = None
    status: SetStateStatus


class FlowRunBulkSetStateResponse(Struct, kw_only=True):
    """The answers, one for each flow run."""

    results: list[FlowRunOrchestrationResult] = []


class CountFlowRuns(QueueScope, kw_only=True):
    """Which flow runs to count."""


class ReadFlowRuns(QueueScope, kw_only=True):
    """Which flow runs to list, in what order, and which part of the list."""

    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    sort: FlowRunSort = FlowRunSort.ID_DESC


class FlowRunHistory(PoolScope, kw_only=True):
    """Which flow runs to count by state, over which span of time, in buckets of how many seconds."""

    history_end: datetime
    history_interval_seconds: float
    history_start: datetime
    work_queues: WorkQueueFilter | None = None


class AverageFlowRunLateness(QueueScope, kw_only=True):
    """The flow runs whose lateness is asked for."""


class PaginateFlowRuns(QueueScope, kw_only=True):
    """Which flow runs to list, in what order, and which page of the list; pages count from 1."""

    limit: int | None = None
    page: Annotated[int, Meta(ge=1)] = 1
    sort: FlowRunSort = FlowRunSort.ID_DESC


class FlowRunPaginationResponse(Struct, kw_only=True):
    """A page of flow runs; `count` is how many there are on all `pages`."""

    count: int
    limit: int
    page: int
    pages: int
    results: list[FlowRun]


class FlowRunUpdate(Struct, kw_only=True):
    """What to change of a flow run; what is left out stays."""

    empirical_policy: FlowRunPolicy | UnsetType = UNSET
    flow_version: str | UnsetType | None = UNSET
    infrastructure_pid: str | UnsetType | None = UNSET
    job_variables: dict[str, Any] | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET


class CreateFlowRunInput(Struct, kw_only=True):
    """A value for a flow run, as JSON, under a key."""

    key: str
    sender: str | None = None
    value: str


class FilterFlowRunInput(Struct, kw_only=True):
    """Which of a flow run's inputs to read: those whose keys begin with `prefix`."""

    exclude_keys: list[str] = []
    limit: int = 1
    prefix: str


class FlowRunInput(Struct, kw_only=True):
    """A value that was handed to a flow run."""

    created: datetime | None
    flow_run_id: UUID
    id: UUID
    key: str
    sender: str | None = None
    updated: datetime | None
    value: str


class ResumeFlowRun(Struct, kw_only=True):
    """What a paused flow run is given when it goes on."""

    run_input: dict[str, Any] | None = None


class SetFlowRunState(Struct, kw_only=True):
    """A state to propose for a flow run."""

    force: bool = False
    state: StateCreate
    epoch: int | None = None
    """The attempt the caller writes for; headrace's own.  # G4"""
    lease_seconds: Annotated[float, Meta(gt=0, le=86400)] | None = None
    """Ask for a lease of that length; with PENDING, or with RUNNING and no epoch, it is a claim. headrace's own."""


class DependencyResult(Struct, kw_only=True):
    """A task run, and the task runs it took something from."""

    end_time: datetime | None
    estimated_run_time: float | None
    expected_start_time: datetime | None
    id: UUID
    name: str
    start_time: datetime | None
    state: State | None
    total_run_time: float | None
    untrackable_result: bool
    upstream_dependencies: list[TaskRunResult]


class GraphArtifact(Struct, kw_only=True):
    """An artifact in the graph of a flow run."""

    created: datetime
    data: Any
    id: UUID
    is_latest: bool
    key: str | None
    type: str | None


class GraphState(Struct, kw_only=True):
    """A state of the flow run, to be drawn along its graph."""

    id: UUID
    name: str
    timestamp: datetime
    type: StateType


class GraphEdge(Struct, kw_only=True):
    """The other end of a connection."""

    id: UUID


class GraphNode(Struct, kw_only=True):
    """A task run or a child flow run in the graph."""

    kind: Literal["flow-run", "task-run"]
    id: UUID
    label: str
    state_type: StateType
    start_time: datetime
    end_time: datetime | None
    parents: list[GraphEdge]
    children: list[GraphEdge]
    encapsulating: list[GraphEdge]
    artifacts: list[GraphArtifact]


class Graph(Struct, kw_only=True):
    """The task runs and child flow runs of a flow run, and what each took from which."""

    artifacts: list[GraphArtifact]
    end_time: datetime | None
    nodes: list[tuple[UUID, GraphNode]]
    root_node_ids: list[UUID]
    start_time: datetime | None
    states: list[GraphState]


class CountTaskRunsByFlowRun(Struct, kw_only=True):
    """The flow runs whose task runs to count."""

    flow_run_ids: list[UUID]


class ReadFlowRunHistory(PoolScope, kw_only=True):
    """Which flow runs a page draws as points."""

    limit: Annotated[int, Meta(le=1000)] = 1000
    offset: Annotated[int, Meta(ge=0)] = 0
    sort: FlowRunSort = FlowRunSort.EXPECTED_START_TIME_DESC


class SimpleFlowRun(Struct, kw_only=True):
    """A flow run as a point: when, how long and how late in seconds, in which state."""

    duration: float
    id: UUID
    lateness: float
    state_type: StateType
    timestamp: datetime


CREATE_FLOW_RUN = Endpoint("POST", "/flow_runs/", body=FlowRunCreate, returns=FlowRun, status=201, existing=200)
BULK_DELETE_FLOW_RUNS = Endpoint(
    "POST", "/flow_runs/bulk_delete", body=BulkDeleteFlowRuns, returns=FlowRunBulkDeleteResponse
)
BULK_SET_FLOW_RUN_STATE = Endpoint(
    "POST", "/flow_runs/bulk_set_state", body=BulkSetFlowRunState, returns=FlowRunBulkSetStateResponse
)
COUNT_FLOW_RUNS = Endpoint("POST", "/flow_runs/count", body=CountFlowRuns, returns=int)
READ_FLOW_RUNS = Endpoint("POST", "/flow_runs/filter", body=ReadFlowRuns, returns=list[FlowRun])
FLOW_RUN_HISTORY = Endpoint("POST", "/flow_runs/history", body=FlowRunHistory, returns=list[HistoryResponse])
AVERAGE_FLOW_RUN_LATENESS: Endpoint[float | None] = Endpoint(
    "POST", "/flow_runs/lateness", body=AverageFlowRunLateness, returns=cast("Any", float | None)
)
PAGINATE_FLOW_RUNS = Endpoint("POST", "/flow_runs/paginate", body=PaginateFlowRuns, returns=FlowRunPaginationResponse)
DELETE_FLOW_RUN = Endpoint("DELETE", "/flow_runs/{id}", returns=NoneType, status=204)
READ_FLOW_RUN = Endpoint("GET", "/flow_runs/{id}", returns=FlowRun)
UPDATE_FLOW_RUN = Endpoint("PATCH", "/flow_runs/{id}", body=FlowRunUpdate, returns=NoneType, status=204)
CREATE_FLOW_RUN_INPUT = Endpoint("POST", "/flow_runs/{id}/input", body=CreateFlowRunInput, returns=Any, status=201)
FILTER_FLOW_RUN_INPUT = Endpoint(
    "POST", "/flow_runs/{id}/input/filter", body=FilterFlowRunInput, returns=list[FlowRunInput]
)
DELETE_FLOW_RUN_INPUT = Endpoint("DELETE", "/flow_runs/{id}/input/{key}", returns=NoneType, status=204)
READ_FLOW_RUN_INPUT = Endpoint("GET", "/flow_runs/{id}/input/{key}", returns=Any)
UPDATE_FLOW_RUN_LABELS = Endpoint("PATCH", "/flow_runs/{id}/labels", body=dict[str, Any], returns=NoneType, status=204)
DOWNLOAD_LOGS = Endpoint("GET", "/flow_runs/{id}/logs/download", returns=Any)
RESUME_FLOW_RUN = Endpoint(
    "POST", "/flow_runs/{id}/resume", body=ResumeFlowRun, returns=OrchestrationResult, status=201, existing=200
)
SET_FLOW_RUN_STATE = Endpoint(
    "POST",
    "/flow_runs/{id}/set_state",
    body=SetFlowRunState,
    returns=OrchestrationResult,
    status=201,
    existing=200,
    waits=True,
)
READ_FLOW_RUN_GRAPH_V1 = Endpoint("GET", "/flow_runs/{id}/graph", returns=list[DependencyResult])
READ_FLOW_RUN_GRAPH_V2 = Endpoint("GET", "/flow_runs/{id}/graph-v2", returns=Graph)
COUNT_TASK_RUNS_BY_FLOW_RUN = Endpoint(
    "POST", "/ui/flow_runs/count-task-runs", body=CountTaskRunsByFlowRun, returns=dict[str, int]
)
READ_FLOW_RUN_HISTORY = Endpoint("POST", "/ui/flow_runs/history", body=ReadFlowRunHistory, returns=list[SimpleFlowRun])
