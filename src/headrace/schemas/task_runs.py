"""Task runs: creating, reading and changing them, and figures about many of them."""

from datetime import datetime
from types import NoneType
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

from headrace.schemas.endpoint import Endpoint
from headrace.schemas.filters import TaskRunFilter, TaskRunSort, WorkQueueFilter
from headrace.schemas.history import CountByState, HistoryResponse
from headrace.schemas.scopes import PoolScope, RunScope
from headrace.schemas.states import OrchestrationResult, State, StateCreate, StateType

MOST_DELAYS = 50
"""How many delays a list of them may have."""


class TaskRunResult(Struct, kw_only=True, gc=False, tag_field="input_type", tag="task_run"):
    """An input of a task run that came from another task run."""

    id: UUID


class Constant(Struct, kw_only=True, tag_field="input_type", tag="constant"):
    """An input of a task run that was a constant, by its type."""

    type: str


class FlowRunResult(Struct, kw_only=True, gc=False, tag_field="input_type", tag="flow_run"):
    """An input of a task run that came from a flow run."""

    id: UUID


class Parameter(Struct, kw_only=True, gc=False, tag_field="input_type", tag="parameter"):
    """An input of a task run that came from a parameter of its flow run."""

    name: str


class TaskRunPolicy(Struct, kw_only=True):
    """How a task run is tried again; `max_retries` and `retry_delay_seconds` are names of old clients."""

    max_retries: int = 0
    retries: int | None = None
    retry_delay: int | float | list[int | float] | None = None
    retry_delay_seconds: float = 0.0
    retry_jitter_factor: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.retry_delay, list) and len(self.retry_delay) > MOST_DELAYS:
            raise ValueError(f"retry_delay has more than {MOST_DELAYS} delays. Give fewer; the last one repeats.")
        if self.retry_jitter_factor is not None and self.retry_jitter_factor < 0:
            raise ValueError("retry_jitter_factor is below 0. Give 0 or more.")


class TaskRunCreate(Struct, kw_only=True):
    """A task run to be created; its state is Pending unless one is given."""

    cache_expiration: datetime | None = None
    cache_key: str | None = None
    dynamic_key: str
    empirical_policy: TaskRunPolicy = field(default_factory=TaskRunPolicy)
    flow_run_id: UUID | None = None
    id: UUID | None = None
    labels: dict[str, bool | int | float | str] | None = None
    name: str | None = None
    state: StateCreate | None = None
    tags: list[str] = []
    task_inputs: dict[str, list[TaskRunResult | FlowRunResult | Parameter | Constant]] = {}
    task_key: str
    task_version: str | None = None


class TaskRun(Struct, kw_only=True):
    """A task run with its state."""

    cache_expiration: datetime | None = None
    cache_key: str | None = None
    created: datetime | None
    dynamic_key: str
    empirical_policy: TaskRunPolicy = field(default_factory=TaskRunPolicy)
    end_time: datetime | None = None
    estimated_run_time: float = 0.0
    estimated_start_time_delta: float = 0.0
    expected_start_time: datetime | None = None
    flow_run_id: UUID | None = None
    flow_run_run_count: int = 0
    id: UUID
    labels: dict[str, bool | int | float | str] | None = None
    name: str | None = None
    next_scheduled_start_time: datetime | None = None
    run_count: int = 0
    start_time: datetime | None = None
    state: State | None = None
    state_id: UUID | None = None
    state_name: str | None = None
    state_type: StateType | None = None
    tags: list[str] = []
    task_inputs: dict[str, list[TaskRunResult | FlowRunResult | Parameter | Constant]] = {}
    task_key: str
    task_version: str | None = None
    total_run_time: float = 0.0
    updated: datetime | None


class CountTaskRuns(RunScope, kw_only=True):
    """Which task runs to count."""


class ReadTaskRuns(RunScope, kw_only=True):
    """Which task runs to list, in what order, and which part of the list."""

    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    sort: TaskRunSort = TaskRunSort.ID_DESC


class TaskRunHistory(RunScope, kw_only=True):
    """Which task runs to count by state, over which span of time, in buckets of how many seconds."""

    history_end: datetime
    history_interval_seconds: float
    history_start: datetime


class PaginateTaskRuns(RunScope, kw_only=True):
    """Which task runs to list, in what order, and which page of the list; pages count from 1."""

    limit: int | None = None
    page: Annotated[int, Meta(ge=1)] = 1
    sort: TaskRunSort = TaskRunSort.ID_DESC


class TaskRunPaginationResponse(Struct, kw_only=True):
    """A page of task runs; `count` is how many there are on all `pages`."""

    count: int
    limit: int
    page: int
    pages: int
    results: list[TaskRun]


class TaskRunUpdate(Struct, kw_only=True):
    """What to change of a task run; what is left out stays."""

    name: str | UnsetType = UNSET


class SetTaskRunState(Struct, kw_only=True):
    """A state to propose for a task run."""

    force: bool = False
    state: StateCreate


class ReadTaskRunCountsByState(RunScope, kw_only=True):
    """Which task runs to count by the type of their state."""


class ReadDashboardTaskRunCounts(PoolScope, kw_only=True):
    """Which task runs to count; `task_runs.start_time.after_` says since when."""

    task_runs: TaskRunFilter
    work_queues: WorkQueueFilter | None = None


TaskRunCount = dict[str, int]
"""Task runs in a bucket of time: `completed` and `failed`."""


class UITaskRun(TaskRun, kw_only=True):
    """A task run with the name of its flow run."""

    flow_run_name: str | None = None


CREATE_TASK_RUN = Endpoint("POST", "/task_runs/", body=TaskRunCreate, returns=TaskRun, status=201, existing=200)
COUNT_TASK_RUNS = Endpoint("POST", "/task_runs/count", body=CountTaskRuns, returns=int)
READ_TASK_RUNS = Endpoint("POST", "/task_runs/filter", body=ReadTaskRuns, returns=list[TaskRun])
TASK_RUN_HISTORY = Endpoint("POST", "/task_runs/history", body=TaskRunHistory, returns=list[HistoryResponse])
PAGINATE_TASK_RUNS = Endpoint("POST", "/task_runs/paginate", body=PaginateTaskRuns, returns=TaskRunPaginationResponse)
DELETE_TASK_RUN = Endpoint("DELETE", "/task_runs/{id}", returns=NoneType, status=204)
READ_TASK_RUN = Endpoint("GET", "/task_runs/{id}", returns=TaskRun)
UPDATE_TASK_RUN = Endpoint("PATCH", "/task_runs/{id}", body=TaskRunUpdate, returns=NoneType, status=204)
SET_TASK_RUN_STATE = Endpoint(
    "POST",
    "/task_runs/{id}/set_state",
    body=SetTaskRunState,
    returns=OrchestrationResult,
    status=201,
    existing=200,
    waits=True,
)
READ_TASK_RUN_COUNTS_BY_STATE = Endpoint(
    "POST", "/ui/task_runs/count", body=ReadTaskRunCountsByState, returns=CountByState
)
READ_DASHBOARD_TASK_RUN_COUNTS = Endpoint(
    "POST", "/ui/task_runs/dashboard/counts", body=ReadDashboardTaskRunCounts, returns=list[TaskRunCount]
)
READ_TASK_RUN_WITH_FLOW_RUN_NAME = Endpoint("GET", "/ui/task_runs/{id}", returns=UITaskRun)
