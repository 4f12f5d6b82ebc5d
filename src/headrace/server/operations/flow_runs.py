"""Flow runs: creating, reading, changing, deleting and finding them. Their states are changed in `states`."""

from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy import Select, bindparam, delete, select, update

from headrace._internal.ids import uuid7
from headrace._internal.names import random_name
from headrace.exceptions import ApiError, ObjectNotFound, ValidationFailed
from headrace.schemas.flow_runs import (
    BULK_DELETE_FLOW_RUNS,
    COUNT_FLOW_RUNS,
    CREATE_FLOW_RUN,
    DELETE_FLOW_RUN,
    PAGINATE_FLOW_RUNS,
    READ_FLOW_RUN,
    READ_FLOW_RUNS,
    UPDATE_FLOW_RUN,
    UPDATE_FLOW_RUN_LABELS,
    BulkDeleteFlowRuns,
    CountFlowRuns,
    FlowRun,
    FlowRunBulkDeleteResponse,
    FlowRunCreate,
    FlowRunPaginationResponse,
    FlowRunUpdate,
    PaginateFlowRuns,
    ReadFlowRuns,
)
from headrace.schemas.origin import BY_FLOW_RUN
from headrace.schemas.states import State, StateType
from headrace.server.operations.checks import check_job_variables
from headrace.server.operations.deleting import delete_flow_runs
from headrace.server.operations.paging import count_of_runs, listed, page_facts, page_rows, page_size
from headrace.server.operations.registry import Existing, implements
from headrace.server.operations.run_rows import SELECT_FLOW_RUNS, flow_run_of, read_flow_run_row
from headrace.server.operations.tagged import index_tags
from headrace.server.operations.transitions import add_first_flow_run_state, first_flow_run_state
from headrace.server.store.filters import scoped, where
from headrace.server.store.long_lists import by_ids
from headrace.server.store.prepared import Prepared
from headrace.server.store.statements import insert_ignore
from headrace.server.store.tables import DEPLOYMENT, FLOW, FLOW_RUN, FLOW_RUN_TAG, WORK_POOL, WORK_QUEUE
from headrace.server.store.transaction import Tx

_ONE = Prepared(SELECT_FLOW_RUNS.where(FLOW_RUN.c.id == bindparam("run_id")))
_BY_IDS = by_ids(SELECT_FLOW_RUNS, FLOW_RUN.c.id)
_BY_KEY = Prepared(
    SELECT_FLOW_RUNS.where(FLOW_RUN.c.flow_id == bindparam("flow"), FLOW_RUN.c.idempotency_key == bindparam("key"))
)
_INSERT = Prepared(FLOW_RUN.insert())
_FLOW = Prepared(select(FLOW.c.name, FLOW.c.tags, FLOW.c.labels).where(FLOW.c.id == bindparam("flow")))


def find_flow_run(tx: Tx, id: UUID) -> FlowRun:
    """One flow run.

    Raises:
        ObjectNotFound: there is none of this id.
    """
    row = tx.execute(_ONE, {"run_id": id}).one_or_none()
    if row is None:
        raise ObjectNotFound("Flow run", id)
    return read_flow_run_row(row, tx.now)


@implements(CREATE_FLOW_RUN, access="runs:write")
def create_flow_run(tx: Tx, body: FlowRunCreate) -> FlowRun | Existing:
    """Create a flow run; one idempotency key of a flow gives one run, however often it is asked for."""
    flow = tx.execute(_FLOW, {"flow": body.flow_id}).one_or_none()
    if flow is None:
        raise ObjectNotFound("Flow", body.flow_id)
    queue_id, queue_name, pool_id = _place(tx, body.work_pool_name, body.work_queue_name)
    _check_job_variables(tx, queue_id, body.job_variables, complete=False)
    values = new_run(tx, flow_id=body.flow_id, name=body.name)
    values |= {
        "created_by": _creator(tx),
        "deployment_id": body.deployment_id,
        "parent_task_run_id": body.parent_task_run_id,
        "flow_version": body.flow_version,
        "parameters": body.parameters,
        "context": body.context,
        "empirical_policy": body.empirical_policy,
        "job_variables": body.job_variables or {},
        "tags": body.tags,
        "labels": {**flow.labels, "prefect.flow.id": str(body.flow_id), **(body.labels or {})},
        "idempotency_key": body.idempotency_key,
        "infrastructure_document_id": body.infrastructure_document_id,
        "work_queue_name": queue_name,
        "work_queue_id": queue_id,
    }
    state = insert_flow_run(tx, values, body.state, flow)
    if state is None:
        return Existing(find_run_by_key(tx, body.flow_id, body.idempotency_key))
    return flow_run_of(values, state, tx.now, work_pool_name=body.work_pool_name, work_pool_id=pool_id)


def _creator(tx: Tx) -> dict[str, str] | None:
    """The run whose process creates it, when that logs in with the key of its run; that key may change it too."""
    run_id = tx.caller.flow_run_id
    return None if run_id is None else {"type": BY_FLOW_RUN, "id": str(run_id)}


def find_run_by_key(tx: Tx, flow_id: UUID, key: str | None) -> FlowRun:
    """The run that a flow has of an idempotency key."""
    return read_flow_run_row(tx.execute(_BY_KEY, {"flow": flow_id, "key": key}).one(), tx.now)


def new_run(tx: Tx, *, flow_id: UUID, name: str | None) -> dict[str, Any]:
    """The columns that every new flow run has; the caller adds its own before inserting them."""
    return {
        "id": uuid7(),
        "created": tx.now,
        "updated": tx.now,
        "flow_id": flow_id,
        "name": name or random_name(),
        "deployment_id": None,
        "deployment_version": None,
        "created_by": None,
        "infrastructure_pid": None,
        "auto_scheduled": False,
        "total_run_time": 0.0,
        "run_count": 0,
    }


def insert_flow_run(tx: Tx, values: dict[str, Any], proposed: Any, flow: Any = None) -> State | None:
    """Insert a flow run with its first state.

    Args:
        tx: a writing transaction.
        values: its columns, to which those that follow from the state are added.
        proposed: its first state; Pending when None.
        flow: its flow, with name and tags, where that is known: it need not be looked up then.

    Returns:
        The state; None when the flow has a run of this idempotency key already, and nothing was written.
    """
    state = first_flow_run_state(tx, values, proposed)
    if values["idempotency_key"] is None:
        tx.send(_INSERT, values)
    elif not insert_ignore(tx, FLOW_RUN, [values]):
        return None
    index_tags(tx, FLOW_RUN_TAG, [(values["id"], values["tags"])])
    add_first_flow_run_state(tx, values, state, flow)
    return state


def _place(tx: Tx, pool_name: str | None, queue_name: str | None) -> tuple[UUID | None, str | None, UUID | None]:
    """Where a run is put: its queue, the queue's name, and the pool. Without a name it is the pool's default queue."""
    if pool_name is None:
        return None, queue_name, None
    row: Any = tx.execute(select(WORK_POOL.c.id, WORK_POOL.c.default_queue_id).where(WORK_POOL.c.name == pool_name))
    pool = row.one_or_none()
    if pool is None:
        raise ObjectNotFound("Work pool", pool_name)
    own = WORK_QUEUE.c.id == pool.default_queue_id if queue_name is None else WORK_QUEUE.c.name == queue_name
    queues = select(WORK_QUEUE.c.id, WORK_QUEUE.c.name).where(WORK_QUEUE.c.work_pool_id == pool.id, own)
    queue: Any = tx.execute(queues).one_or_none()
    if queue is None:
        raise ObjectNotFound("Work queue", f"{pool_name}/{queue_name or 'default'}")
    return queue.id, queue.name, pool.id


@implements(READ_FLOW_RUN, access="runs:read")
def read_flow_run(tx: Tx, id: UUID) -> FlowRun:
    """One flow run, with its state."""
    return find_flow_run(tx, id)


@implements(UPDATE_FLOW_RUN, access="runs:write")
def update_flow_run(tx: Tx, id: UUID, body: FlowRunUpdate) -> None:
    """Change the given fields of a flow run."""
    changes = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    if changes.get("name", "") is None:
        del changes["name"]
    if "job_variables" in changes:
        _check_new_job_variables(tx, id, changes["job_variables"])
    if not tx.execute(update(FLOW_RUN).where(FLOW_RUN.c.id == id).values(updated=tx.now, **changes)).rowcount:
        raise ObjectNotFound("Flow run", id)
    if "tags" in changes:
        tx.execute(delete(FLOW_RUN_TAG).where(FLOW_RUN_TAG.c.run_id == id))
        index_tags(tx, FLOW_RUN_TAG, [(id, changes["tags"])])


class Submitted(ApiError):
    """The run was handed to its infrastructure, which has read what is to be changed."""

    status = 400


def _check_new_job_variables(tx: Tx, id: UUID, variables: dict[str, Any] | None) -> None:
    """Job variables are read when a run is submitted, so later changes would say what is not so."""
    run = tx.execute(select(FLOW_RUN).where(FLOW_RUN.c.id == id).with_for_update()).one_or_none()
    if run is None:
        return
    if run.state_type not in (None, StateType.SCHEDULED):
        raise Submitted(f"Job variables of a flow run in state {run.state_type} cannot be changed any more.")
    deployed = tx.execute(select(DEPLOYMENT.c.job_variables).where(DEPLOYMENT.c.id == run.deployment_id)).scalar()
    _check_job_variables(tx, run.work_queue_id, (deployed or {}) | (variables or {}), complete=True)


def _check_job_variables(tx: Tx, queue_id: UUID | None, variables: dict[str, Any] | None, *, complete: bool) -> None:
    """See that the template of the pool a run is put in allows its job variables.  # S14"""
    if queue_id is None or not variables:
        return
    of_queue = select(WORK_POOL.c.base_job_template).join(WORK_QUEUE, WORK_QUEUE.c.work_pool_id == WORK_POOL.c.id)
    template = tx.execute(of_queue.where(WORK_QUEUE.c.id == queue_id)).scalar()
    check_job_variables(variables, template or {}, complete=complete, doing="setting up flow run")


@implements(UPDATE_FLOW_RUN_LABELS, access="runs:write")
def update_flow_run_labels(tx: Tx, id: UUID, body: dict[str, Any]) -> None:
    """Add labels to a flow run; those of the same name are replaced."""
    for name, value in body.items():
        if not isinstance(value, bool | int | float | str):
            raise ValidationFailed(f"Label {name!r} is neither text, nor a number, nor true or false.")
    chosen = select(FLOW_RUN.c.labels).where(FLOW_RUN.c.id == id).with_for_update()
    labels = tx.execute(chosen).scalar_one_or_none()
    if labels is None:
        raise ObjectNotFound("Flow run", id)
    tx.execute(update(FLOW_RUN).where(FLOW_RUN.c.id == id).values(updated=tx.now, labels=labels | body))


@implements(DELETE_FLOW_RUN, access="runs:write")
def delete_flow_run(tx: Tx, id: UUID) -> None:
    """Delete a flow run with its states, task runs, inputs and log."""
    if not delete_flow_runs(tx, [id]):
        raise ObjectNotFound("Flow run", id)


@implements(BULK_DELETE_FLOW_RUNS, access="runs:write")
def bulk_delete_flow_runs(tx: Tx, body: BulkDeleteFlowRuns) -> FlowRunBulkDeleteResponse:
    """Delete the flow runs a filter finds, at most `limit` of them."""
    chosen = select(FLOW_RUN.c.id).where(where(FLOW_RUN, body.flow_runs)).order_by(FLOW_RUN.c.id).limit(body.limit)
    ids = list(tx.execute(chosen).scalars())
    delete_flow_runs(tx, ids)
    return FlowRunBulkDeleteResponse(deleted=ids)


def chosen_flow_runs(statement: Select[Any], body: Any) -> Select[Any]:
    """Narrow a select from flow runs by the filters of a body."""
    return scoped(
        statement,
        FLOW_RUN,
        flows=body.flows,
        flow_runs=body.flow_runs,
        task_runs=body.task_runs,
        deployments=body.deployments,
        work_pools=body.work_pools,
        work_pool_queues=getattr(body, "work_pool_queues", None) or getattr(body, "work_queues", None),
    )


def flow_run_rows(tx: Tx, rows: Prepared, body: Any, limit: int, offset: int) -> list[Any]:
    """One page of the flow runs that the filters of a body choose, in its order; `rows` says what of them."""
    return page_rows(tx, rows, chosen_flow_runs, FLOW_RUN, body, limit, offset)


@implements(READ_FLOW_RUNS, access="runs:read")
def read_flow_runs(tx: Tx, body: ReadFlowRuns) -> list[FlowRun]:
    """The flow runs that filters find."""
    rows = flow_run_rows(tx, _BY_IDS, body, page_size(body.limit), body.offset)
    return listed(rows, lambda row: read_flow_run_row(row, tx.now), "flow run")


@implements(PAGINATE_FLOW_RUNS, access="runs:read")
def paginate_flow_runs(tx: Tx, body: PaginateFlowRuns) -> FlowRunPaginationResponse:
    """A page of the flow runs that filters find, with how many there are."""
    limit = page_size(body.limit)
    rows = flow_run_rows(tx, _BY_IDS, body, limit, (body.page - 1) * limit)
    results = listed(rows, lambda row: read_flow_run_row(row, tx.now), "flow run")
    facts = page_facts(count_of_runs(tx, chosen_flow_runs, FLOW_RUN, body), body.page, limit)
    return FlowRunPaginationResponse(results=results, **facts)


@implements(COUNT_FLOW_RUNS, access="runs:read")
def count_flow_runs(tx: Tx, body: CountFlowRuns) -> int:
    """How many flow runs filters find."""
    return count_of_runs(tx, chosen_flow_runs, FLOW_RUN, body)
