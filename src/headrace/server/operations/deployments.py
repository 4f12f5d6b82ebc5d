"""Deployments: creating, reading, changing, deleting and finding them."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict
from sqlalchemy import Row, Select, bindparam, delete, func, insert, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectNotFound, ValidationFailed
from headrace.schemas.deployments import (
    BULK_DELETE_DEPLOYMENTS,
    COUNT_DEPLOYMENTS,
    CREATE_DEPLOYMENT,
    DELETE_DEPLOYMENT,
    PAGINATE_DEPLOYMENTS,
    PAUSE_DEPLOYMENT,
    READ_DEPLOYMENT,
    READ_DEPLOYMENT_BY_NAME,
    READ_DEPLOYMENTS,
    RESUME_DEPLOYMENT,
    UPDATE_DEPLOYMENT,
    WORK_QUEUE_CHECK_FOR_DEPLOYMENT,
    BulkDeleteDeployments,
    CountDeployments,
    Deployment,
    DeploymentBulkDeleteResponse,
    DeploymentCreate,
    DeploymentPaginationResponse,
    DeploymentStatus,
    DeploymentUpdate,
    PaginateDeployments,
    ReadDeployments,
    WorkQueue,
)
from headrace.schemas.work_pools import WorkQueueCreate
from headrace.server.operations.checks import check_default_parameters, check_job_variables
from headrace.server.operations.deleting import delete_deployments
from headrace.server.operations.deployment_schedules import replace_schedules, update_schedules
from headrace.server.operations.future_runs import rescheduled, schedules_of, take_back_runs
from headrace.server.operations.object_events import tell_of_deployment_update, tell_of_deployments
from headrace.server.operations.paging import chosen_rows, count_of, listed, page_facts, page_size
from headrace.server.operations.registry import Existing, implements
from headrace.server.operations.rows import values_of
from headrace.server.operations.work_pools import find_pool
from headrace.server.operations.work_queues import agent_pool, insert_queue
from headrace.server.store.filters import scoped, where
from headrace.server.store.long_lists import by_ids
from headrace.server.store.prepared import Prepared
from headrace.server.store.tables import (
    CONCURRENCY_LIMIT,
    DEPLOYMENT,
    FLOW,
    SLOT_LEASE,
    WORK_POOL,
    WORK_QUEUE,
)
from headrace.server.store.transaction import Tx

_NOT_COLUMNS = frozenset(
    {"schedules", "concurrency_limit", "global_concurrency_limit_id", "work_pool_name", "work_queue_name"}
)
_SELECT: Select[Any] = (
    select(DEPLOYMENT, WORK_POOL.c.name.label("work_pool_name"), WORK_QUEUE.c.name.label("queue_name"))
    .outerjoin(WORK_QUEUE, WORK_QUEUE.c.id == DEPLOYMENT.c.work_queue_id)
    .outerjoin(WORK_POOL, WORK_POOL.c.id == WORK_QUEUE.c.work_pool_id)
)
_ONE = Prepared(_SELECT.where(DEPLOYMENT.c.id == bindparam("deployment")))
_LIMITS = by_ids(select(CONCURRENCY_LIMIT), CONCURRENCY_LIMIT.c.id)
_SLOTS = by_ids(
    select(SLOT_LEASE.c.limit_id, func.sum(SLOT_LEASE.c.slots).label("active"))
    .where(SLOT_LEASE.c.until > bindparam("now"))
    .group_by(SLOT_LEASE.c.limit_id),
    SLOT_LEASE.c.limit_id,
)
_POOL = Prepared(
    select(WORK_POOL.c.id, WORK_POOL.c.name, WORK_POOL.c.base_job_template)
    .join(WORK_QUEUE, WORK_QUEUE.c.work_pool_id == WORK_POOL.c.id)
    .where(WORK_QUEUE.c.id == bindparam("queue"))
)


def read_rows(tx: Tx, rows: Sequence[Row[Any]]) -> list[Deployment]:
    """Rows of deployments as structs, with their schedules and limits."""
    schedules = schedules_of(tx, [row.id for row in rows])
    limits = _limits(tx, [row.concurrency_limit_id for row in rows if row.concurrency_limit_id is not None])

    def read(row: Row[Any]) -> Deployment:
        values = values_of(row)
        limit = limits.get(row.concurrency_limit_id)
        values |= {"work_queue_name": row.queue_name, "global_concurrency_limit": limit}
        values["parameter_openapi_schema"] = row.parameter_openapi_schema or {}
        values["pull_steps"] = row.pull_steps or []
        found = msgspec.convert(values, Deployment)
        found.schedules = schedules.get(row.id, [])
        return found

    return listed(rows, read, "deployment")


def _limits(tx: Tx, ids: Sequence[UUID]) -> dict[UUID | None, dict[str, Any]]:
    if not ids:
        return {}
    active = {row.limit_id: row.active for row in tx.execute(_SLOTS, {"ids": ids, "now": tx.now})}
    rows = tx.execute(_LIMITS, {"ids": ids})
    return {row.id: values_of(row) | {"active_slots": active.get(row.id, 0)} for row in rows}


def find_deployment(tx: Tx, id: UUID) -> Deployment:
    """One deployment.

    Raises:
        ObjectNotFound: there is none of this id.
    """
    found = read_rows(tx, tx.execute(_ONE, {"deployment": id}).all())
    if not found:
        raise ObjectNotFound("Deployment", id)
    return found[0]


@implements(CREATE_DEPLOYMENT, access="deployments:write")
def create_deployment(tx: Tx, body: DeploymentCreate) -> Deployment | Existing:
    """Create a deployment, or replace the one of this flow and name."""
    if tx.execute(select(FLOW.c.id).where(FLOW.c.id == body.flow_id)).one_or_none() is None:
        raise ObjectNotFound("Flow", body.flow_id)
    same = _SELECT.where(DEPLOYMENT.c.flow_id == body.flow_id, DEPLOYMENT.c.name == body.name)
    known = tx.execute(same.with_for_update(of=DEPLOYMENT)).one_or_none()
    values = _ABSENT | ({} if known is None else {name: getattr(known, name) for name in _ABSENT})
    given = {name: value for name, value in asdict(body).items() if value is not UNSET}
    values |= {name: value for name, value in given.items() if name not in _NOT_COLUMNS}
    queue_id = values["work_queue_id"] = _placed(tx, given, known)
    values |= {"updated": tx.now, "labels": {"prefect.flow.id": str(body.flow_id)} | (body.labels or {})}
    values["work_queue_name"] = _queue_name(tx, queue_id)
    _check(tx, values, queue_id, new=True)
    deployment_id = uuid7() if known is None else known.id
    if known is None:
        new = {"id": deployment_id, "created": tx.now, "status": DeploymentStatus.NOT_READY}
        tx.execute(insert(DEPLOYMENT), values | new)
    else:
        tx.execute(update(DEPLOYMENT).where(DEPLOYMENT.c.id == deployment_id).values(values))
    _set_limits(tx, deployment_id, given)
    if known is not None and _made_by_it(values, known):
        take_back_runs(tx, deployment_id, overdue=values["paused"])
    replace_schedules(tx, deployment_id, body.schedules)
    if known is None:
        tell_of_deployments(tx, "created", [deployment_id])
    else:
        tell_of_deployment_update(tx, known, values)
    found = find_deployment(tx, deployment_id)
    return found if known is None else Existing(found)


_ABSENT: dict[str, Any] = {
    "description": None,
    "version": None,
    "version_info": None,
    "paused": False,
    "tags": [],
    "job_variables": {},
    "parameter_openapi_schema": None,
    "enforce_parameter_schema": True,
    "pull_steps": None,
    "path": None,
    "entrypoint": None,
    "concurrency_options": None,
    "infrastructure_document_id": None,
    "storage_document_id": None,
}
"""What is left out of a new deployment; a deployment that is there already keeps what it has."""


def _made_by_it(values: Mapping[str, Any], before: Row[Any]) -> bool:
    """Whether the runs that were made ahead are no longer as they would be made now."""
    return values["paused"] or any(
        values[name] != getattr(before, name) for name in ("parameters", "tags", "work_queue_id", "version", "labels")
    )


def _placed(tx: Tx, given: Mapping[str, Any], before: Row[Any] | None) -> UUID | None:
    """The queue that a body names; where a deployment is already when the body names none."""
    if "work_pool_name" not in given and "work_queue_name" not in given:
        return before.work_queue_id if before is not None else None
    pool_name = given.get("work_pool_name", before.work_pool_name if before is not None else None)
    return place(tx, pool_name, given.get("work_queue_name"))


def _queue_name(tx: Tx, queue_id: UUID | None) -> str | None:
    name: str | None = tx.execute(select(WORK_QUEUE.c.name).where(WORK_QUEUE.c.id == queue_id)).scalar()
    return name


def place(tx: Tx, pool_name: str | None, queue_name: str | None) -> UUID | None:
    """The queue that a pool's and a queue's name mean; one that is not there is made in the pool.

    Raises:
        ObjectNotFound: there is no such pool.
    """
    if pool_name is None and queue_name is None:
        return None
    pool = find_pool(tx, pool_name) if pool_name is not None else agent_pool(tx)
    if queue_name is None:
        return pool.default_queue_id  # type: ignore[no-any-return]  # a column
    named = (WORK_QUEUE.c.work_pool_id == pool.id, WORK_QUEUE.c.name == queue_name)
    queue_id: UUID | None = tx.execute(select(WORK_QUEUE.c.id).where(*named)).scalar_one_or_none()
    return queue_id or insert_queue(tx, pool.id, _new_queue(queue_name)).id


def _new_queue(name: str) -> WorkQueueCreate:
    try:
        return msgspec.convert({"name": name}, WorkQueueCreate)
    except msgspec.ValidationError as error:
        raise ValidationFailed(f"'{name}' cannot be the name of a work queue: {error}") from None


def _check(tx: Tx, values: Mapping[str, Any], queue_id: UUID | None, *, new: bool) -> None:
    if values["enforce_parameter_schema"]:
        check_default_parameters(values["parameters"], values["parameter_openapi_schema"], new=new)
    pool = pool_of(tx, queue_id) if values["job_variables"] and queue_id is not None else None
    if pool is not None:
        template = pool.base_job_template
        check_job_variables(values["job_variables"], template, complete=False, doing="creating deployment")


def pool_of(tx: Tx, queue_id: UUID) -> Row[Any] | None:
    """The pool that a queue belongs to: its id, name and job template."""
    row: Row[Any] | None = tx.execute(_POOL, {"queue": queue_id}).one_or_none()
    return row


def _set_limits(tx: Tx, id: UUID, given: Mapping[str, Any]) -> None:
    """Give a deployment a concurrency limit of its own, one that exists already, or none, as a body says.

    Raises:
        ValidationFailed: the body says both.
        ObjectNotFound: there is no such limit.
    """
    limit, shared = given.get("concurrency_limit"), given.get("global_concurrency_limit_id")
    if limit is not None and shared is not None:
        raise ValidationFailed("A deployment has a concurrency_limit or a global_concurrency_limit_id, not both.")
    if "concurrency_limit" not in given and "global_concurrency_limit_id" not in given:
        return
    name = f"deployment:{id}"
    own: UUID | None = tx.execute(
        select(CONCURRENCY_LIMIT.c.id).where(CONCURRENCY_LIMIT.c.name == name).with_for_update()
    ).scalar_one_or_none()
    if (
        shared is not None
        and not tx.execute(select(CONCURRENCY_LIMIT.c.id).where(CONCURRENCY_LIMIT.c.id == shared)).all()
    ):
        raise ObjectNotFound("Concurrency limit", shared)
    if limit is not None and own is None:
        own = uuid7()
        row = {"id": own, "created": tx.now, "updated": tx.now, "name": name, "limit": limit}
        tx.execute(insert(CONCURRENCY_LIMIT), row | {"active": True, "slot_decay_per_second": 0.0})
    elif limit is not None:
        changed = update(CONCURRENCY_LIMIT).where(CONCURRENCY_LIMIT.c.id == own)
        tx.execute(changed.values(limit=limit, updated=tx.now))
    elif own is not None:
        tx.execute(delete(SLOT_LEASE).where(SLOT_LEASE.c.limit_id == own))
        tx.execute(delete(CONCURRENCY_LIMIT).where(CONCURRENCY_LIMIT.c.id == own))
    chosen = shared or (own if limit is not None else None)
    tx.execute(update(DEPLOYMENT).where(DEPLOYMENT.c.id == id).values(concurrency_limit_id=chosen))


@implements(READ_DEPLOYMENT, access="deployments:read")
def read_deployment(tx: Tx, id: UUID) -> Deployment:
    """One deployment, with its schedules."""
    return find_deployment(tx, id)


@implements(READ_DEPLOYMENT_BY_NAME, access="deployments:read")
def read_deployment_by_name(tx: Tx, flow_name: str, deployment_name: str) -> Deployment:
    """The deployment of a name, of the flow of a name."""
    named = (FLOW.c.name == flow_name, DEPLOYMENT.c.name == deployment_name)
    rows = tx.execute(_SELECT.join(FLOW, FLOW.c.id == DEPLOYMENT.c.flow_id).where(*named)).all()
    found = read_rows(tx, rows)
    if not found:
        raise ObjectNotFound("Deployment", f"{flow_name}/{deployment_name}")
    return found[0]


@implements(UPDATE_DEPLOYMENT, access="deployments:write")
def update_deployment(tx: Tx, id: UUID, body: DeploymentUpdate) -> None:
    """Change the given fields of a deployment."""
    before = tx.execute(_SELECT.where(DEPLOYMENT.c.id == id).with_for_update(of=DEPLOYMENT)).one_or_none()
    if before is None:
        raise ObjectNotFound("Deployment", id)
    given = {name: value for name, value in asdict(body).items() if value is not UNSET}
    changes = {name: value for name, value in given.items() if name not in _NOT_COLUMNS}
    kept = ("parameters", "job_variables", "enforce_parameter_schema")  # null means: leave it
    changes = {name: value for name, value in changes.items() if value is not None or name not in kept}
    after = {name: getattr(before, name) for name in (*_ABSENT, "parameters", "labels", "work_queue_id")} | changes
    if "work_pool_name" in given or "work_queue_name" in given:
        changes["work_queue_id"] = after["work_queue_id"] = _placed(tx, given, before)
        changes["work_queue_name"] = _queue_name(tx, after["work_queue_id"])
    _check(tx, after, after["work_queue_id"], new=False)
    tx.execute(update(DEPLOYMENT).where(DEPLOYMENT.c.id == id).values(updated=tx.now, **changes))
    _set_limits(tx, id, given)
    tell_of_deployment_update(tx, before, changes)
    if _made_by_it(after, before):
        take_back_runs(tx, id, overdue=after["paused"])
    if isinstance(body.schedules, list):
        update_schedules(tx, id, body.schedules)
    rescheduled(tx, id)


@implements(PAUSE_DEPLOYMENT, access="deployments:write")
def pause_deployment(tx: Tx, id: UUID) -> Any:
    """Let a deployment's schedules make no runs, and take back those made ahead, late ones too."""
    _set_paused(tx, id, paused=True)
    take_back_runs(tx, id, overdue=True)


@implements(RESUME_DEPLOYMENT, access="deployments:write")
def resume_deployment(tx: Tx, id: UUID) -> Any:
    """Let a deployment's schedules make runs again."""
    _set_paused(tx, id, paused=False)


def _set_paused(tx: Tx, id: UUID, *, paused: bool) -> None:
    before = tx.execute(select(DEPLOYMENT).where(DEPLOYMENT.c.id == id).with_for_update()).one_or_none()
    if before is None:
        raise ObjectNotFound("Deployment", id)
    tx.execute(update(DEPLOYMENT).where(DEPLOYMENT.c.id == id).values(paused=paused))
    tell_of_deployment_update(tx, before, {"paused": paused})
    rescheduled(tx, id)


@implements(DELETE_DEPLOYMENT, access="deployments:write")
def delete_deployment(tx: Tx, id: UUID) -> None:
    """Delete a deployment with its schedules and the runs that wait to be started; its other runs stay."""
    if not delete_deployments(tx, [id]):
        raise ObjectNotFound("Deployment", id)


@implements(BULK_DELETE_DEPLOYMENTS, access="deployments:write")
def bulk_delete_deployments(tx: Tx, body: BulkDeleteDeployments) -> DeploymentBulkDeleteResponse:
    """Delete the deployments a filter finds, at most `limit` of them."""
    chosen = select(DEPLOYMENT.c.id).where(where(DEPLOYMENT, body.deployments)).order_by(DEPLOYMENT.c.id)
    ids = list(tx.execute(chosen.limit(body.limit)).scalars())
    delete_deployments(tx, ids)
    return DeploymentBulkDeleteResponse(deleted=ids)


def _chosen(statement: Select[Any], body: ReadDeployments | PaginateDeployments | CountDeployments) -> Select[Any]:
    return scoped(
        statement,
        DEPLOYMENT,
        flows=body.flows,
        flow_runs=body.flow_runs,
        task_runs=body.task_runs,
        deployments=body.deployments,
        work_pools=body.work_pools,
        work_pool_queues=body.work_pool_queues,
    )


@implements(READ_DEPLOYMENTS, access="deployments:read")
def read_deployments(tx: Tx, body: ReadDeployments) -> list[Deployment]:
    """The deployments that filters find."""
    return _page(tx, body, page_size(body.limit), body.offset)


def _page(tx: Tx, body: ReadDeployments | PaginateDeployments, limit: int, offset: int) -> list[Deployment]:
    rows = chosen_rows(tx, "deployments", lambda: _chosen(_SELECT, body), DEPLOYMENT, body, limit, offset)
    return read_rows(tx, rows)


@implements(PAGINATE_DEPLOYMENTS, access="deployments:read")
def paginate_deployments(tx: Tx, body: PaginateDeployments) -> DeploymentPaginationResponse:
    """A page of the deployments that filters find, with how many there are."""
    limit = page_size(body.limit)
    results = _page(tx, body, limit, (body.page - 1) * limit)
    facts = page_facts(count_of(tx, _chosen(select(DEPLOYMENT.c.id), body)), body.page, limit)
    return DeploymentPaginationResponse(results=results, **facts)


@implements(COUNT_DEPLOYMENTS, access="deployments:read")
def count_deployments(tx: Tx, body: CountDeployments) -> int:
    """How many deployments filters find."""
    return count_of(tx, _chosen(select(DEPLOYMENT.c.id), body))


@implements(WORK_QUEUE_CHECK_FOR_DEPLOYMENT, access="deployments:read")
def work_queue_check_for_deployment(tx: Tx, id: UUID) -> list[WorkQueue]:
    """The queues from which a worker would take the runs of a deployment."""
    queue_id = find_deployment(tx, id).work_queue_id
    rows = tx.execute(select(WORK_QUEUE).where(WORK_QUEUE.c.id == queue_id))
    return listed(rows, lambda row: msgspec.convert(values_of(row), WorkQueue), "work queue")
