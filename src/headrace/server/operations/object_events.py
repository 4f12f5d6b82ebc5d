"""The events of flows, deployments, work pools and work queues, with what each is related to.  # G8"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Table, bindparam, select, update

from headrace._internal.ids import uuid7
from headrace.schemas.events import Labels
from headrace.server.events.log import related_to, tell_of
from headrace.server.operations.rows import values_of
from headrace.server.store.long_lists import among
from headrace.server.store.tables import CONCURRENCY_LIMIT, DEPLOYMENT, EVENT, FLOW, WORK_POOL, WORK_QUEUE
from headrace.server.store.transaction import Tx

RECENT = timedelta(minutes=10)
"""How long after the event of a pool's status the next one is said to follow it."""
_STATUSES = ("prefect.work-pool.ready", "prefect.work-pool.not-ready", "prefect.work-pool.paused")
_POOL_TYPE = "prefect.work-pool.type"

_DEPLOYMENTS = (
    select(
        DEPLOYMENT.c.id,
        DEPLOYMENT.c.name,
        DEPLOYMENT.c.flow_id,
        FLOW.c.name.label("flow"),
        WORK_QUEUE.c.id.label("queue_id"),
        WORK_QUEUE.c.name.label("queue"),
        WORK_POOL.c.id.label("pool_id"),
        WORK_POOL.c.name.label("pool"),
        WORK_POOL.c.type.label("pool_type"),
        DEPLOYMENT.c.storage_document_id,
        DEPLOYMENT.c.infrastructure_document_id,
        CONCURRENCY_LIMIT.c.id.label("limit_id"),
        CONCURRENCY_LIMIT.c.name.label("limit"),
    )
    .select_from(DEPLOYMENT)
    .outerjoin(FLOW, FLOW.c.id == DEPLOYMENT.c.flow_id)
    .outerjoin(WORK_QUEUE, WORK_QUEUE.c.id == DEPLOYMENT.c.work_queue_id)
    .outerjoin(WORK_POOL, WORK_POOL.c.id == WORK_QUEUE.c.work_pool_id)
    .outerjoin(CONCURRENCY_LIMIT, CONCURRENCY_LIMIT.c.id == DEPLOYMENT.c.concurrency_limit_id)
    .order_by(DEPLOYMENT.c.id)
)
_QUEUES = (
    select(
        WORK_QUEUE.c.id,
        WORK_QUEUE.c.name,
        WORK_POOL.c.id.label("pool_id"),
        WORK_POOL.c.name.label("pool"),
        WORK_POOL.c.type.label("pool_type"),
    )
    .join(WORK_POOL, WORK_POOL.c.id == WORK_QUEUE.c.work_pool_id)
    .order_by(WORK_QUEUE.c.id)
)
_LAST_STATUS = (
    select(EVENT.c.id, EVENT.c.occurred)
    .where(
        EVENT.c.resource_id == bindparam("resource"),
        EVENT.c.event.in_(_STATUSES),
    )
    .order_by(EVENT.c.occurred.desc(), EVENT.c.seq.desc())
    .limit(1)
)


def changes_payload(
    before: Mapping[str, Any] | Row[Any], after: Mapping[str, Any], told: Iterable[str]
) -> dict[str, Any]:
    """What the event of an update carries: which fields have changed, from what to what; nothing when none has.

    Args:
        before: the values as they were.
        after: the values that were given.
        told: the fields whose changes are told.
    """
    old = before if isinstance(before, Mapping) else values_of(before)
    updates = {
        name: {"from": old[name], "to": after[name]} for name in told if name in after and after[name] != old[name]
    }
    return {"updated_fields": list(updates), "updates": updates} if updates else {}


def tell_of_flows(tx: Tx, what: str, ids: Sequence[UUID]) -> None:
    """Write that flows were created, updated, or are going to be deleted."""
    for row in tx.execute(select(FLOW).where(among(FLOW.c.id, ids)).order_by(FLOW.c.id)).all():
        payload = {"name": row.name, "tags": row.tags, "labels": row.labels}
        tell_of(tx, "flow", what, row.id, row.name, payload=payload)


def tell_of_deployments(tx: Tx, what: str, ids: Sequence[UUID], payload: Mapping[str, Any] | None = None) -> None:
    """Write what has happened to deployments, or is going to when they are deleted."""
    if not ids:
        return
    for row in tx.execute(_DEPLOYMENTS.where(among(DEPLOYMENT.c.id, ids))).all():
        related = [related_to("flow", row.flow_id, row.flow)]
        if row.queue_id is not None:
            related += [related_to("work-queue", row.queue_id, row.queue), _pool(row)]
        for role in ("storage", "infrastructure"):
            document = getattr(row, f"{role}_document_id")
            if document is not None:
                related.append(related_to("block-document", document, role=role))
        if row.limit_id is not None:
            related.append(related_to("concurrency-limit", row.limit_id, row.limit))
        tell_of(tx, "deployment", what, row.id, row.name, payload=payload, related=related)


_TOLD = (
    "description",
    "tags",
    "parameters",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "entrypoint",
    "path",
    "pull_steps",
    "work_queue_id",
    "infra_overrides",
    "paused",
    "labels",
    "version",
    "concurrency_limit_id",
    "concurrency_options",
)
"""The fields of a deployment whose changes the event of an update tells of."""


def tell_of_deployment_update(tx: Tx, before: Row[Any], after: Mapping[str, Any]) -> None:
    """Write the event of a deployment's update, if a field that it tells of has changed.

    Args:
        tx: the transaction that has changed it.
        before: its row as it was.
        after: the columns that were given.
    """
    limit = tx.execute(select(DEPLOYMENT.c.concurrency_limit_id).where(DEPLOYMENT.c.id == before.id)).scalar()
    was = {**before._mapping, "infra_overrides": before.job_variables}
    now = {**after, "concurrency_limit_id": limit, "infra_overrides": after.get("job_variables", before.job_variables)}
    payload = changes_payload(was, now, _TOLD)
    if payload:
        tell_of_deployments(tx, "updated", [before.id], payload)


def _pool(row: Row[Any]) -> Labels:
    return related_to("work-pool", row.pool_id, row.pool, **{_POOL_TYPE: row.pool_type})


def tell_of_queues(tx: Tx, what: str, ids: Sequence[UUID], payload: Mapping[str, Any] | None = None) -> None:
    """Write what has happened to work queues, or is going to when they are deleted."""
    if not ids:
        return
    labels = {"prefect.resource.role": "work-queue"}
    for row in tx.execute(_QUEUES.where(among(WORK_QUEUE.c.id, ids))).all():
        tell_of(tx, "work-queue", what, row.id, row.name, payload=payload, labels=labels, related=[_pool(row)])


def tell_of_pool(tx: Tx, what: str, pool: Row[Any], payload: Mapping[str, Any] | None = None) -> None:
    """Write that a work pool was created, updated or deleted.

    Args:
        tx: the transaction that does so.
        what: `created`, `updated` or `deleted`.
        pool: its row.
        payload: what the event carries.
    """
    related = []
    if what != "updated":
        queue = select(WORK_QUEUE.c.name).where(WORK_QUEUE.c.id == pool.default_queue_id)
        related.append(
            related_to("work-queue", pool.default_queue_id, tx.execute(queue).scalar(), role="default-queue")
        )
        storage = (pool.storage_configuration or {}).get("default_result_storage_block_id")
        if storage is not None:
            related.append(related_to("block-document", storage, role="result-storage"))
    labels = {_POOL_TYPE: pool.type, "prefect.resource.role": "work-pool"}
    tell_of(tx, "work-pool", what, pool.id, pool.name, payload=payload, labels=labels, related=related)


def tell_of_pool_status(tx: Tx, pool: Row[Any], status: str) -> None:
    """Write that a work pool has got a status: READY, NOT_READY or PAUSED."""
    last = tx.execute(_LAST_STATUS, {"resource": f"prefect.work-pool.{pool.id}"}).one_or_none()
    follows = last.id if last is not None and tx.now - last.occurred < RECENT else None
    labels = {_POOL_TYPE: pool.type}
    tell_of(tx, "work-pool", as_event(status), pool.id, pool.name, labels=labels, follows=follows, event_id=uuid7())


def as_event(status: str) -> str:
    """How an event names a status: `NOT_READY` is `not-ready`."""
    return status.lower().replace("_", "-")


def change_status(tx: Tx, table: Table, status: str, *which: ColumnElement[bool], **more: Any) -> int:
    """Give a status to pools, queues or deployments that have another one, and write their events.

    Args:
        tx: a writing transaction.
        table: whose rows.
        status: the status.
        which: the rows.
        more: further columns to set.

    Returns:
        How many rows were changed.
    """
    chosen = select(table.c.id).where(table.c.status != status, *which).order_by(table.c.id).with_for_update()
    ids = list(tx.execute(chosen).scalars())
    if not ids:
        return 0
    tx.execute(update(table).where(among(table.c.id, ids)).values(status=status, **more))
    if table is WORK_POOL:
        for pool in tx.execute(select(WORK_POOL).where(among(WORK_POOL.c.id, ids)).order_by(WORK_POOL.c.id)).all():
            tell_of_pool_status(tx, pool, status)
    elif table is WORK_QUEUE:
        tell_of_queues(tx, as_event(status), ids)
    else:
        tell_of_deployments(tx, as_event(status), ids)
    return len(ids)
