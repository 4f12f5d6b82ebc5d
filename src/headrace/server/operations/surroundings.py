"""What a flow run belongs to, as its events name it: its flow, deployment, queue, pool, parent, creator and tags."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import FromClause

from headrace.schemas.events import Labels
from headrace.server.events.log import related_to
from headrace.server.store.tables import DEPLOYMENT, FLOW, FLOW_RUN, TASK_RUN, WORK_POOL, WORK_QUEUE

_CREATORS = ("deployment", "automation")
_PARENT = TASK_RUN.alias("parent")
SURROUNDINGS: tuple[Any, ...] = (
    FLOW_RUN.c.name,
    FLOW_RUN.c.tags,
    FLOW_RUN.c.created_by,
    FLOW_RUN.c.flow_id,
    FLOW.c.name.label("flow"),
    FLOW.c.tags.label("flow_tags"),
    DEPLOYMENT.c.name.label("deployment"),
    WORK_QUEUE.c.id.label("queue_id"),
    WORK_QUEUE.c.name.label("queue"),
    WORK_POOL.c.id.label("pool_id"),
    WORK_POOL.c.name.label("pool"),
    WORK_POOL.c.type.label("pool_type"),
    _PARENT.c.name.label("parent"),
)
"""Columns of what `surrounded` joins."""


def surrounded(runs: FromClause) -> FromClause:
    """Flow runs, or a join with them, joined with what they belong to."""
    return (
        runs.outerjoin(FLOW, FLOW.c.id == FLOW_RUN.c.flow_id)
        .outerjoin(DEPLOYMENT, DEPLOYMENT.c.id == FLOW_RUN.c.deployment_id)
        .outerjoin(WORK_QUEUE, WORK_QUEUE.c.id == FLOW_RUN.c.work_queue_id)
        .outerjoin(WORK_POOL, WORK_POOL.c.id == WORK_QUEUE.c.work_pool_id)
        .outerjoin(_PARENT, _PARENT.c.id == FLOW_RUN.c.parent_task_run_id)
    )


def surroundings(row: Any, *, inside: bool = False) -> list[Labels]:
    """What a flow run belongs to, as related resources.

    Args:
        row: with its `deployment_id`, its `parent_task_run_id` and the columns of `SURROUNDINGS`.
        inside: for what happens inside of it: without its parent and its creator.
    """
    found = [related_to("flow", row.flow_id, row.flow)]
    if row.deployment_id is not None:
        found.append(related_to("deployment", row.deployment_id, row.deployment))
    if row.queue_id is not None:
        found.append(related_to("work-queue", row.queue_id, row.queue))
    if row.pool_id is not None:
        found.append(related_to("work-pool", row.pool_id, row.pool, **{"prefect.work-pool.type": row.pool_type}))
    if inside:
        return found
    if row.parent_task_run_id is not None:
        found.append(related_to("task-run", row.parent_task_run_id, row.parent))
    made = row.created_by or {}
    kind = (made.get("type") or "").lower()
    if kind in _CREATORS and made.get("id") is not None:
        found.append(related_to(kind, made["id"], made.get("display_value"), role="creator"))
    return found


def tags_of(tags: Iterable[str]) -> list[Labels]:
    """Tags as related resources."""
    return [related_to("tag", tag) for tag in tags]
