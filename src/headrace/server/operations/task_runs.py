"""Task runs: creating, reading, changing, deleting and finding them."""

from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy import Select, bindparam, select, update

from headrace._internal.ids import uuid7
from headrace._internal.names import random_name
from headrace.exceptions import ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schemas.states import StateType
from headrace.schemas.task_runs import (
    COUNT_TASK_RUNS,
    CREATE_TASK_RUN,
    DELETE_TASK_RUN,
    PAGINATE_TASK_RUNS,
    READ_TASK_RUN,
    READ_TASK_RUN_WITH_FLOW_RUN_NAME,
    READ_TASK_RUNS,
    UPDATE_TASK_RUN,
    CountTaskRuns,
    PaginateTaskRuns,
    ReadTaskRuns,
    TaskRun,
    TaskRunCreate,
    TaskRunPaginationResponse,
    TaskRunUpdate,
    UITaskRun,
)
from headrace.server.operations.deleting import delete_task_runs
from headrace.server.operations.paging import count_of_runs, listed, page_facts, page_rows, page_size
from headrace.server.operations.registry import Existing, implements
from headrace.server.operations.run_rows import SELECT_TASK_RUNS, read_task_run_row
from headrace.server.operations.tagged import index_tags
from headrace.server.operations.task_deliveries import deliver
from headrace.server.operations.transitions import add_first_task_run_state, first_task_run_state
from headrace.server.store.filters import scoped
from headrace.server.store.long_lists import by_ids
from headrace.server.store.prepared import Prepared
from headrace.server.store.statements import insert_ignore
from headrace.server.store.tables import FLOW_RUN, TASK_RUN, TASK_RUN_TAG
from headrace.server.store.transaction import Tx
from headrace.settings import get_settings

_ONE = Prepared(SELECT_TASK_RUNS.where(TASK_RUN.c.id == bindparam("run_id")))
_LABELS = Prepared(select(FLOW_RUN.c.labels).where(FLOW_RUN.c.id == bindparam("run_id")))
_BY_IDS = by_ids(SELECT_TASK_RUNS, TASK_RUN.c.id)
_KEY = ("flow_run_id", "task_key", "dynamic_key")


def find_task_run(tx: Tx, id: UUID) -> TaskRun:
    """One task run.

    Raises:
        ObjectNotFound: there is none of this id.
    """
    row = tx.execute(_ONE, {"run_id": id}).one_or_none()
    if row is None:
        raise ObjectNotFound("Task run", id)
    return read_task_run_row(row, tx.now)


@implements(CREATE_TASK_RUN, access="runs:write")
def create_task_run(tx: Tx, body: TaskRunCreate) -> TaskRun | Existing:
    """Create a task run; a flow run has one of each task key and dynamic key."""
    longest = get_settings().server.tasks.max_cache_key_length
    if body.cache_key is not None and len(body.cache_key) > longest:
        raise ValidationFailed(f"cache_key has {len(body.cache_key)} characters; it must not have more than {longest}.")
    values: dict[str, Any] = {
        "id": body.id or uuid7(),
        "created": tx.now,
        "updated": tx.now,
        "flow_run_id": body.flow_run_id,
        "name": body.name or random_name(),
        "task_key": body.task_key,
        "dynamic_key": body.dynamic_key,
        "task_version": body.task_version,
        "task_inputs": body.task_inputs,
        "empirical_policy": body.empirical_policy,
        "tags": body.tags,
        "labels": _labels_around(tx, body.flow_run_id) | (body.labels or {}),
        "cache_key": body.cache_key,
        "cache_expiration": body.cache_expiration,
        "total_run_time": 0.0,
        "run_count": 0,
        "flow_run_run_count": 0,
    }
    state = first_task_run_state(tx, values, body.state)
    if insert_ignore(tx, TASK_RUN, [values]):
        index_tags(tx, TASK_RUN_TAG, [(values["id"], body.tags)])
        add_first_task_run_state(tx, values, state)
        if state.type is StateType.SCHEDULED and state.state_details.deferred:
            deliver(tx, values["id"], body.task_key, state.id, state.state_details.scheduled_time or tx.now)
        return find_task_run(tx, values["id"])
    same = [TASK_RUN.c[name].is_not_distinct_from(values[name]) for name in _KEY]
    row = tx.execute(SELECT_TASK_RUNS.where(*same).order_by(TASK_RUN.c.id).limit(1)).one_or_none()
    if row is None:
        raise ObjectAlreadyExists(f"Task run {values['id']} exists with another task key or dynamic key.")
    return Existing(read_task_run_row(row, tx.now))


def _labels_around(tx: Tx, flow_run_id: UUID | None) -> dict[str, Any]:
    """The labels a task run has from its flow run."""
    if flow_run_id is None:
        return {}
    labels = tx.execute(_LABELS, {"run_id": flow_run_id}).scalar()
    return {**(labels or {}), "prefect.flow-run.id": str(flow_run_id)}


@implements(READ_TASK_RUN, access="runs:read")
def read_task_run(tx: Tx, id: UUID) -> TaskRun:
    """One task run, with its state."""
    return find_task_run(tx, id)


@implements(READ_TASK_RUN_WITH_FLOW_RUN_NAME, access="runs:read")
def read_task_run_with_flow_run_name(tx: Tx, id: UUID) -> UITaskRun:
    """One task run, with the name of its flow run."""
    run = find_task_run(tx, id)
    of_flow = select(FLOW_RUN.c.name).where(FLOW_RUN.c.id == run.flow_run_id)
    return UITaskRun(**msgspec.structs.asdict(run), flow_run_name=tx.execute(of_flow).scalar_one_or_none())


@implements(UPDATE_TASK_RUN, access="runs:write")
def update_task_run(tx: Tx, id: UUID, body: TaskRunUpdate) -> None:
    """Change a task run's name."""
    changes = {"name": body.name} if body.name is not UNSET else {}
    if not tx.execute(update(TASK_RUN).where(TASK_RUN.c.id == id).values(updated=tx.now, **changes)).rowcount:
        raise ObjectNotFound("Task run", id)


@implements(DELETE_TASK_RUN, access="runs:write")
def delete_task_run(tx: Tx, id: UUID) -> None:
    """Delete a task run with its states and log."""
    if not delete_task_runs(tx, [id]):
        raise ObjectNotFound("Task run", id)


def chosen_task_runs(statement: Select[Any], body: Any) -> Select[Any]:
    """Narrow a select from task runs by the filters of a body."""
    return scoped(
        statement,
        TASK_RUN,
        flows=body.flows,
        flow_runs=body.flow_runs,
        task_runs=body.task_runs,
        deployments=body.deployments,
        work_pools=getattr(body, "work_pools", None),
        work_pool_queues=getattr(body, "work_queues", None),
    )


def _rows(tx: Tx, body: ReadTaskRuns | PaginateTaskRuns, limit: int, offset: int) -> list[Any]:
    return page_rows(tx, _BY_IDS, chosen_task_runs, TASK_RUN, body, limit, offset)


@implements(READ_TASK_RUNS, access="runs:read")
def read_task_runs(tx: Tx, body: ReadTaskRuns) -> list[TaskRun]:
    """The task runs that filters find."""
    rows = _rows(tx, body, page_size(body.limit), body.offset)
    return listed(rows, lambda row: read_task_run_row(row, tx.now), "task run")


@implements(PAGINATE_TASK_RUNS, access="runs:read")
def paginate_task_runs(tx: Tx, body: PaginateTaskRuns) -> TaskRunPaginationResponse:
    """A page of the task runs that filters find, with how many there are."""
    limit = page_size(body.limit)
    rows = _rows(tx, body, limit, (body.page - 1) * limit)
    results = listed(rows, lambda row: read_task_run_row(row, tx.now), "task run")
    facts = page_facts(count_of_runs(tx, chosen_task_runs, TASK_RUN, body), body.page, limit)
    return TaskRunPaginationResponse(results=results, **facts)


@implements(COUNT_TASK_RUNS, access="runs:read")
def count_task_runs(tx: Tx, body: CountTaskRuns) -> int:
    """How many task runs filters find."""
    return count_of_runs(tx, chosen_task_runs, TASK_RUN, body)
