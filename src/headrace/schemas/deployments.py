"""Deployments: flows made ready to run somewhere, on schedules or on demand, and the calls about them."""

from datetime import datetime
from enum import StrEnum
from types import NoneType
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

from headrace.schemas.concurrency_limits import ConcurrencyOptions, GlobalConcurrencyLimit
from headrace.schemas.endpoint import Endpoint
from headrace.schemas.filters import DeploymentFilter, DeploymentSort, QueueFilter
from headrace.schemas.flow_runs import FlowRun, FlowRunCreateResult, FlowRunPolicy
from headrace.schemas.origin import CreatedBy, UpdatedBy
from headrace.schemas.schedules import Schedule
from headrace.schemas.scopes import QueueScope
from headrace.schemas.states import StateCreate

DeploymentName = Annotated[str, Meta(pattern="^[^/%&><]+$")]
Limit = Annotated[int, Meta(gt=0)]
Labels = dict[str, bool | int | float | str]


class DeploymentScheduleCreate(Struct, kw_only=True):
    """A schedule to be given to a deployment.

    `replaces` is the slug under which it was deployed before. What an operator has paused stays paused when the same
    schedule is deployed again.
    """

    active: bool = True
    max_scheduled_runs: Limit | None = None
    parameters: dict[str, Any] = {}
    replaces: str | None = None
    schedule: Schedule
    slug: str | None = None


class VersionInfo(Struct, kw_only=True):
    """Where the version of a deployment comes from: a kind of source, such as git, and its version there."""

    type: str
    version: str


class DeploymentCreate(Struct, kw_only=True):
    """A deployment to be created, or to replace the one of its flow and name.

    Of one that is there already, what is left out stays as it is; but for parameters, schedules and labels, which are
    replaced as a whole. So a deployment that was paused stays paused unless `paused` is said.
    """

    concurrency_limit: Limit | UnsetType | None = UNSET
    concurrency_options: ConcurrencyOptions | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    enforce_parameter_schema: bool | UnsetType = UNSET
    entrypoint: str | UnsetType | None = UNSET
    flow_id: UUID
    global_concurrency_limit_id: UUID | UnsetType | None = UNSET
    infrastructure_document_id: UUID | UnsetType | None = UNSET
    job_variables: dict[str, Any] | UnsetType = UNSET
    labels: Labels | None = None
    name: DeploymentName
    parameter_openapi_schema: dict[str, Any] | UnsetType | None = UNSET
    parameters: dict[str, Any] = {}
    path: str | UnsetType | None = UNSET
    paused: bool | UnsetType = UNSET
    pull_steps: list[dict[str, Any]] | UnsetType | None = UNSET
    schedules: list[DeploymentScheduleCreate] = []
    storage_document_id: UUID | UnsetType | None = UNSET
    tags: list[str] | UnsetType = UNSET
    version: str | UnsetType | None = UNSET
    version_info: VersionInfo | UnsetType | None = UNSET
    work_pool_name: str | UnsetType | None = UNSET
    work_queue_name: str | UnsetType | None = UNSET


class DeploymentSchedule(Struct, kw_only=True):
    """A schedule of a deployment, as it is stored."""

    active: bool = True
    created: datetime | None
    deployment_id: UUID | None = None
    id: UUID
    max_scheduled_runs: Limit | None = None
    parameters: dict[str, Any] = {}
    schedule: Schedule
    slug: str | None = None
    updated: datetime | None


class DeploymentStatus(StrEnum):
    """Whether somebody looks after the runs of a deployment."""

    READY = "READY"
    NOT_READY = "NOT_READY"


class Deployment(Struct, kw_only=True):
    """A deployment as it is stored. Its limit stands in `global_concurrency_limit`; `concurrency_limit` is empty."""

    concurrency_limit: int | None = None
    concurrency_options: ConcurrencyOptions | None = None
    created: datetime | None
    created_by: CreatedBy | None = None
    description: str | None = None
    enforce_parameter_schema: bool = True
    entrypoint: str | None = None
    flow_id: UUID
    global_concurrency_limit: GlobalConcurrencyLimit | None = None
    id: UUID
    infrastructure_document_id: UUID | None = None
    job_variables: dict[str, Any] = {}
    labels: Labels = {}
    last_polled: datetime | None = None
    name: str
    parameter_openapi_schema: dict[str, Any] | None = None
    parameters: dict[str, Any] = {}
    path: str | None = None
    paused: bool = False
    pull_steps: list[dict[str, Any]] | None = None
    schedules: list[DeploymentSchedule] = []
    status: DeploymentStatus | None = DeploymentStatus.NOT_READY
    storage_document_id: UUID | None = None
    tags: list[str] = []
    updated: datetime | None
    updated_by: UpdatedBy | None = None
    version: str | None = None
    work_pool_name: str | None = None
    work_queue_id: UUID | None = None
    work_queue_name: str | None = None


class BulkDeleteDeployments(Struct, kw_only=True):
    """Which deployments to delete, and how many at most."""

    deployments: DeploymentFilter | None = None
    limit: Annotated[int, Meta(le=50, ge=1)] = 50


class DeploymentBulkDeleteResponse(Struct, kw_only=True):
    """The ids of the deployments that were deleted."""

    deleted: list[UUID] = []


class CountDeployments(QueueScope, kw_only=True):
    """Which deployments to count."""


class ReadDeployments(QueueScope, kw_only=True):
    """Which deployments to list, in what order, and which part of the list."""

    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    sort: DeploymentSort = DeploymentSort.NAME_ASC


class GetScheduledFlowRunsForDeployments(Struct, kw_only=True):
    """Whose runs to take, and those due before which moment; now when it is left out."""

    deployment_ids: list[UUID]
    limit: int | None = None
    scheduled_before: datetime | None = None


class PaginateDeployments(QueueScope, kw_only=True):
    """Which deployments to list, in what order, and which page of the list; pages count from 1."""

    limit: int | None = None
    page: Annotated[int, Meta(ge=1)] = 1
    sort: DeploymentSort = DeploymentSort.NAME_ASC


class DeploymentPaginationResponse(Struct, kw_only=True):
    """A page of deployments, and how many there are."""

    count: int
    limit: int
    page: int
    pages: int
    results: list[Deployment]


class DeploymentScheduleUpdate(Struct, kw_only=True):
    """What to change of a schedule; what is left out stays."""

    active: bool | UnsetType | None = UNSET
    max_scheduled_runs: Limit | UnsetType | None = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET
    replaces: str | UnsetType | None = UNSET
    schedule: Schedule | UnsetType | None = UNSET
    slug: str | UnsetType | None = UNSET


class DeploymentUpdate(Struct, kw_only=True):
    """What to change of a deployment; what is left out stays. Schedules are found by their slugs."""

    concurrency_limit: Limit | UnsetType | None = UNSET
    concurrency_options: ConcurrencyOptions | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    enforce_parameter_schema: bool | UnsetType | None = UNSET
    entrypoint: str | UnsetType | None = UNSET
    global_concurrency_limit_id: UUID | UnsetType | None = UNSET
    infrastructure_document_id: UUID | UnsetType | None = UNSET
    job_variables: dict[str, Any] | UnsetType | None = UNSET
    parameter_openapi_schema: dict[str, Any] | UnsetType | None = UNSET
    parameters: dict[str, Any] | UnsetType | None = UNSET
    path: str | UnsetType | None = UNSET
    paused: bool | UnsetType = UNSET
    pull_steps: list[dict[str, Any]] | UnsetType | None = UNSET
    schedules: list[DeploymentScheduleUpdate] | UnsetType = UNSET
    storage_document_id: UUID | UnsetType | None = UNSET
    tags: list[str] | UnsetType = UNSET
    version: str | UnsetType | None = UNSET
    version_info: VersionInfo | UnsetType | None = UNSET
    work_pool_name: str | UnsetType | None = UNSET
    work_queue_name: str | UnsetType | None = UNSET


class DeploymentFlowRunCreate(Struct, kw_only=True):
    """A run of a deployment to be created; it is scheduled for now unless a state is given."""

    context: dict[str, Any] = {}
    empirical_policy: FlowRunPolicy = field(default_factory=FlowRunPolicy)
    enforce_parameter_schema: bool | None = None
    idempotency_key: str | None = None
    infrastructure_document_id: UUID | None = None
    job_variables: dict[str, Any] | None = None
    labels: Labels | None = None
    name: str | None = None
    parameters: dict[str, Any] = {}
    parent_task_run_id: UUID | None = None
    state: StateCreate | None = None
    tags: list[str] = []
    work_queue_name: str | None = None


class FlowRunBulkCreateResponse(Struct, kw_only=True):
    """What became of each of several runs that were to be created."""

    results: list[FlowRunCreateResult] = []


class ScheduleDeployment(Struct, kw_only=True):
    """How far ahead to make runs: from when to when, how many, and at least how long (in seconds)."""

    end_time: datetime | None = None
    max_runs: int | None = None
    min_runs: int | None = None
    min_time: float | None = None
    start_time: datetime | None = None


class WorkQueue(Struct, kw_only=True):
    """A work queue without its status, as agents knew it."""

    concurrency_limit: Annotated[int, Meta(ge=0)] | None = None
    created: datetime | None
    description: str | None = ""
    filter: QueueFilter | None = None
    id: UUID
    is_paused: bool = False
    last_polled: datetime | None = None
    name: Annotated[str, Meta(pattern="^[^/%&><]+$")]
    priority: Annotated[int, Meta(gt=0)] = 1
    updated: datetime | None
    work_pool_id: UUID | None = None


CREATE_DEPLOYMENT = Endpoint(
    "POST", "/deployments/", body=DeploymentCreate, returns=Deployment, status=201, existing=200
)
BULK_DELETE_DEPLOYMENTS = Endpoint(
    "POST", "/deployments/bulk_delete", body=BulkDeleteDeployments, returns=DeploymentBulkDeleteResponse
)
COUNT_DEPLOYMENTS = Endpoint("POST", "/deployments/count", body=CountDeployments, returns=int)
READ_DEPLOYMENTS = Endpoint("POST", "/deployments/filter", body=ReadDeployments, returns=list[Deployment])
GET_SCHEDULED_FLOW_RUNS_FOR_DEPLOYMENTS = Endpoint(
    "POST", "/deployments/get_scheduled_flow_runs", body=GetScheduledFlowRunsForDeployments, returns=list[FlowRun]
)
READ_DEPLOYMENT_BY_NAME = Endpoint("GET", "/deployments/name/{flow_name}/{deployment_name}", returns=Deployment)
PAGINATE_DEPLOYMENTS = Endpoint(
    "POST", "/deployments/paginate", body=PaginateDeployments, returns=DeploymentPaginationResponse
)
DELETE_DEPLOYMENT = Endpoint("DELETE", "/deployments/{id}", returns=NoneType, status=204)
READ_DEPLOYMENT = Endpoint("GET", "/deployments/{id}", returns=Deployment)
UPDATE_DEPLOYMENT = Endpoint("PATCH", "/deployments/{id}", body=DeploymentUpdate, returns=NoneType, status=204)
CREATE_FLOW_RUN_FROM_DEPLOYMENT = Endpoint(
    "POST", "/deployments/{id}/create_flow_run", body=DeploymentFlowRunCreate, returns=FlowRun, status=201, existing=200
)
BULK_CREATE_FLOW_RUNS_FROM_DEPLOYMENT = Endpoint(
    "POST",
    "/deployments/{id}/create_flow_run/bulk",
    body=list[DeploymentFlowRunCreate],
    returns=FlowRunBulkCreateResponse,
)
PAUSE_DEPLOYMENT = Endpoint("POST", "/deployments/{id}/pause_deployment", returns=Any)
RESUME_DEPLOYMENT = Endpoint("POST", "/deployments/{id}/resume_deployment", returns=Any)
SCHEDULE_DEPLOYMENT = Endpoint("POST", "/deployments/{id}/schedule", body=ScheduleDeployment, returns=Any)
READ_DEPLOYMENT_SCHEDULES = Endpoint("GET", "/deployments/{id}/schedules", returns=list[DeploymentSchedule])
CREATE_DEPLOYMENT_SCHEDULES = Endpoint(
    "POST",
    "/deployments/{id}/schedules",
    body=list[DeploymentScheduleCreate],
    returns=list[DeploymentSchedule],
    status=201,
)
DELETE_DEPLOYMENT_SCHEDULE = Endpoint(
    "DELETE", "/deployments/{id}/schedules/{schedule_id}", returns=NoneType, status=204
)
UPDATE_DEPLOYMENT_SCHEDULE = Endpoint(
    "PATCH", "/deployments/{id}/schedules/{schedule_id}", body=DeploymentScheduleUpdate, returns=NoneType, status=204
)
WORK_QUEUE_CHECK_FOR_DEPLOYMENT = Endpoint("GET", "/deployments/{id}/work_queue_check", returns=list[WorkQueue])
