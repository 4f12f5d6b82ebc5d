"""Flows: what is run, by name, and the calls about them."""

from datetime import datetime
from types import NoneType
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from headrace.schemas.endpoint import Endpoint
from headrace.schemas.filters import FlowFilter, FlowSort
from headrace.schemas.scopes import PoolScope
from headrace.schemas.states import StateType

FlowName = Annotated[str, Meta(pattern="^[^/%&><]+$")]


class FlowCreate(Struct, kw_only=True):
    """A flow to be made known; one of its name may be there already."""

    labels: dict[str, bool | int | float | str] | None = None
    name: FlowName
    tags: list[str] = []


class Flow(Struct, kw_only=True):
    """A flow as it is stored."""

    created: datetime | None
    id: UUID
    labels: dict[str, bool | int | float | str] | None = None
    name: FlowName
    tags: list[str] = []
    updated: datetime | None


class FlowUpdate(Struct, kw_only=True):
    """What to change of a flow; what is left out stays."""

    tags: list[str] | UnsetType = UNSET


class BulkDeleteFlows(Struct, kw_only=True):
    """Which flows to delete, and how many at most."""

    flows: FlowFilter | None = None
    limit: Annotated[int, Meta(le=50, ge=1)] = 50


class FlowBulkDeleteResponse(Struct, kw_only=True):
    """The ids of the flows that were deleted."""

    deleted: list[UUID] = []


class CountFlows(PoolScope, kw_only=True):
    """Which flows to count."""


class ReadFlows(PoolScope, kw_only=True):
    """Which flows to list, in what order, and which part of the list."""

    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    sort: FlowSort = FlowSort.NAME_ASC


class PaginateFlows(PoolScope, kw_only=True):
    """Which flows to list, in what order, and which page of the list; pages count from 1."""

    limit: int | None = None
    page: Annotated[int, Meta(ge=1)] = 1
    sort: FlowSort = FlowSort.NAME_ASC


class FlowPaginationResponse(Struct, kw_only=True):
    """A page of flows; `count` is how many there are on all `pages`."""

    count: int
    limit: int
    page: int
    pages: int
    results: list[Flow]


class CountDeploymentsByFlow(Struct, kw_only=True):
    """The flows whose deployments to count."""

    flow_ids: list[UUID]


class NextRunsByFlow(Struct, kw_only=True):
    """The flows whose next runs to find."""

    flow_ids: list[UUID]


class SimpleNextFlowRun(Struct, kw_only=True):
    """The next scheduled run of a flow, as a page shows it."""

    flow_id: UUID
    id: UUID
    name: str
    next_scheduled_start_time: datetime
    state_name: str
    state_type: StateType


CREATE_FLOW = Endpoint("POST", "/flows/", body=FlowCreate, returns=Flow, status=201, existing=200)
BULK_DELETE_FLOWS = Endpoint("POST", "/flows/bulk_delete", body=BulkDeleteFlows, returns=FlowBulkDeleteResponse)
COUNT_FLOWS = Endpoint("POST", "/flows/count", body=CountFlows, returns=int)
READ_FLOWS = Endpoint("POST", "/flows/filter", body=ReadFlows, returns=list[Flow])
READ_FLOW_BY_NAME = Endpoint("GET", "/flows/name/{name}", returns=Flow)
PAGINATE_FLOWS = Endpoint("POST", "/flows/paginate", body=PaginateFlows, returns=FlowPaginationResponse)
DELETE_FLOW = Endpoint("DELETE", "/flows/{id}", returns=NoneType, status=204)
READ_FLOW = Endpoint("GET", "/flows/{id}", returns=Flow)
UPDATE_FLOW = Endpoint("PATCH", "/flows/{id}", body=FlowUpdate, returns=NoneType, status=204)
COUNT_DEPLOYMENTS_BY_FLOW = Endpoint(
    "POST", "/ui/flows/count-deployments", body=CountDeploymentsByFlow, returns=dict[str, int]
)
NEXT_RUNS_BY_FLOW = Endpoint(
    "POST", "/ui/flows/next-runs", body=NextRunsByFlow, returns=dict[str, SimpleNextFlowRun | None]
)
