"""Flows: their names, tags and labels."""

from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy import Row, Select, bindparam, delete, func, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectNotFound
from headrace.schemas.flows import (
    BULK_DELETE_FLOWS,
    COUNT_DEPLOYMENTS_BY_FLOW,
    COUNT_FLOWS,
    CREATE_FLOW,
    DELETE_FLOW,
    NEXT_RUNS_BY_FLOW,
    PAGINATE_FLOWS,
    READ_FLOW,
    READ_FLOW_BY_NAME,
    READ_FLOWS,
    UPDATE_FLOW,
    BulkDeleteFlows,
    CountDeploymentsByFlow,
    CountFlows,
    Flow,
    FlowBulkDeleteResponse,
    FlowCreate,
    FlowPaginationResponse,
    FlowUpdate,
    NextRunsByFlow,
    PaginateFlows,
    ReadFlows,
    SimpleNextFlowRun,
)
from headrace.schemas.states import StateType
from headrace.server.operations.deleting import delete_deployments, delete_flow_runs
from headrace.server.operations.object_events import tell_of_flows
from headrace.server.operations.paging import chosen_rows, count_of, listed, page_facts, page_size
from headrace.server.operations.registry import Existing, implements
from headrace.server.operations.rows import values_of
from headrace.server.store.filters import scoped, where
from headrace.server.store.prepared import Prepared
from headrace.server.store.statements import insert_ignore
from headrace.server.store.tables import DEPLOYMENT, FLOW, FLOW_RUN
from headrace.server.store.transaction import Tx

_SELECT = select(FLOW)
_ONE = Prepared(_SELECT.where(FLOW.c.id == bindparam("flow")))
_BY_NAME = Prepared(_SELECT.where(FLOW.c.name == bindparam("called")))


def read_flow_row(row: Row[Any]) -> Flow:
    """A row of the table as the struct."""
    return msgspec.convert(values_of(row), Flow)


@implements(CREATE_FLOW, access="flows:write")
def create_flow(tx: Tx, body: FlowCreate) -> Flow | Existing:
    """Create a flow, or find the one of this name."""
    found = tx.execute(_BY_NAME, {"called": body.name}).one_or_none()
    if found is not None:
        return Existing(read_flow_row(found))
    flow = Flow(
        id=uuid7(), created=tx.now, updated=tx.now, name=body.name, tags=body.tags, labels=dict(body.labels or {})
    )
    if insert_ignore(tx, FLOW, [msgspec.structs.asdict(flow)], index=["name"]):
        tell_of_flows(tx, "created", [flow.id])
        return flow
    return Existing(read_flow_row(tx.execute(_BY_NAME, {"called": body.name}).one()))


@implements(READ_FLOW, access="flows:read")
def read_flow(tx: Tx, id: UUID) -> Flow:
    """One flow."""
    row = tx.execute(_ONE, {"flow": id}).one_or_none()
    if row is None:
        raise ObjectNotFound("Flow", id)
    return read_flow_row(row)


@implements(READ_FLOW_BY_NAME, access="flows:read")
def read_flow_by_name(tx: Tx, name: str) -> Flow:
    """The flow of a name."""
    row = tx.execute(_BY_NAME, {"called": name}).one_or_none()
    if row is None:
        raise ObjectNotFound("Flow", name)
    return read_flow_row(row)


@implements(UPDATE_FLOW, access="flows:write")
def update_flow(tx: Tx, id: UUID, body: FlowUpdate) -> None:
    """Change a flow's tags."""
    changes: dict[str, Any] = {"updated": tx.now}
    if body.tags is not UNSET:
        changes["tags"] = body.tags
    if not tx.execute(update(FLOW).where(FLOW.c.id == id).values(changes)).rowcount:
        raise ObjectNotFound("Flow", id)
    tell_of_flows(tx, "updated", [id])


@implements(DELETE_FLOW, access="flows:write")
def delete_flow(tx: Tx, id: UUID) -> None:
    """Delete a flow with its deployments and runs."""
    if not _delete(tx, [id]):
        raise ObjectNotFound("Flow", id)


@implements(BULK_DELETE_FLOWS, access="flows:write")
def bulk_delete_flows(tx: Tx, body: BulkDeleteFlows) -> FlowBulkDeleteResponse:
    """Delete the flows a filter finds, at most `limit` of them."""
    chosen = select(FLOW.c.id).where(where(FLOW, body.flows)).order_by(FLOW.c.id).limit(body.limit)
    ids = list(tx.execute(chosen).scalars())
    _delete(tx, ids)
    return FlowBulkDeleteResponse(deleted=ids)


def _delete(tx: Tx, ids: list[UUID]) -> int:
    delete_deployments(tx, list(tx.execute(select(DEPLOYMENT.c.id).where(DEPLOYMENT.c.flow_id.in_(ids))).scalars()))
    delete_flow_runs(tx, list(tx.execute(select(FLOW_RUN.c.id).where(FLOW_RUN.c.flow_id.in_(ids))).scalars()))
    tell_of_flows(tx, "deleted", ids)
    return tx.execute(delete(FLOW).where(FLOW.c.id.in_(ids))).rowcount


def _chosen(body: ReadFlows | PaginateFlows | CountFlows) -> Select[Any]:
    return scoped(
        _SELECT,
        FLOW,
        flows=body.flows,
        flow_runs=body.flow_runs,
        task_runs=body.task_runs,
        deployments=body.deployments,
        work_pools=body.work_pools,
    )


@implements(READ_FLOWS, access="flows:read")
def read_flows(tx: Tx, body: ReadFlows) -> list[Flow]:
    """The flows that filters find."""
    rows = chosen_rows(tx, "flows", lambda: _chosen(body), FLOW, body, page_size(body.limit), body.offset)
    return listed(rows, read_flow_row, "flow")


@implements(PAGINATE_FLOWS, access="flows:read")
def paginate_flows(tx: Tx, body: PaginateFlows) -> FlowPaginationResponse:
    """A page of the flows that filters find, with how many there are."""
    limit = page_size(body.limit)
    rows = chosen_rows(tx, "flows", lambda: _chosen(body), FLOW, body, limit, (body.page - 1) * limit)
    results = listed(rows, read_flow_row, "flow")
    return FlowPaginationResponse(results=results, **page_facts(count_of(tx, _chosen(body)), body.page, limit))


@implements(COUNT_FLOWS, access="flows:read")
def count_flows(tx: Tx, body: CountFlows) -> int:
    """How many flows filters find."""
    return count_of(tx, _chosen(body))


@implements(COUNT_DEPLOYMENTS_BY_FLOW, access="flows:read")
def count_deployments_by_flow(tx: Tx, body: CountDeploymentsByFlow) -> dict[str, int]:
    """How many deployments each of these flows has, by the flow's id."""
    counts = (
        select(DEPLOYMENT.c.flow_id, func.count().label("deployments"))
        .where(DEPLOYMENT.c.flow_id.in_(body.flow_ids))
        .group_by(DEPLOYMENT.c.flow_id)
    )
    found = {row.flow_id: row.deployments for row in tx.execute(counts)}
    return {str(flow_id): found.get(flow_id, 0) for flow_id in body.flow_ids}


@implements(NEXT_RUNS_BY_FLOW, access="flows:read")
def next_runs_by_flow(tx: Tx, body: NextRunsByFlow) -> dict[str, SimpleNextFlowRun | None]:
    """The next scheduled run of each of these flows, by the flow's id; it may be late already."""
    fields = ("id", "flow_id", "name", "state_name", "state_type", "next_scheduled_start_time")
    moment = FLOW_RUN.c.next_scheduled_start_time
    rank = func.row_number().over(partition_by=FLOW_RUN.c.flow_id, order_by=(moment, FLOW_RUN.c.id))
    coming = (
        select(*(FLOW_RUN.c[name] for name in fields), rank.label("rank"))
        .where(FLOW_RUN.c.flow_id.in_(body.flow_ids), FLOW_RUN.c.state_type == StateType.SCHEDULED)
        .where(moment.is_not(None))
        .subquery()
    )
    rows = tx.execute(select(coming).where(coming.c.rank == 1))
    runs = listed(rows, lambda row: msgspec.convert(values_of(row), SimpleNextFlowRun), "flow run")
    by_flow = {run.flow_id: run for run in runs}
    return {str(flow_id): by_flow.get(flow_id) for flow_id in body.flow_ids}
