"""The one compiler from filters to SQL.

A filter struct (`headrace.schemas.filters`) has fields only. Each field of a resource's filter names a column, or
stands in `_SPECIAL` when it is not one; each field of the struct in it is one of the operators below. What is not set
narrows nothing.

`scoped` narrows one resource by filters of others: flow runs by flows, task runs by deployments, and so on, along the
paths of `_PATHS`.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, Table, and_, exists, false, func, not_, or_, select, true

from headrace.exceptions import ValidationFailed
from headrace.schemas.artifacts import KeyMatch
from headrace.schemas.filters import (
    CreatedByMatch,
    DeploymentFilter,
    Exists,
    FlowFilter,
    FlowRunFilter,
    IdInParents,
    IsNull,
    Like,
    NullableNumberRange,
    NullableTimeRange,
    Operator,
    TaskRunFilter,
    TextSearch,
    WorkPoolFilter,
    WorkQueueFilter,
)
from headrace.server.store.json_functions import holds_all, holds_any, member
from headrace.server.store.long_lists import among
from headrace.server.store.plan_hints import tested, unindexed
from headrace.server.store.tables import (
    ARTIFACT,
    BLOCK_SCHEMA,
    CONCURRENCY_LIMIT,
    DEPLOYMENT,
    FLOW,
    FLOW_RUN,
    LOG,
    TASK_RUN,
    WORK_POOL,
    WORK_QUEUE,
)
from headrace.server.store.tables.flows import STANDS_AT
from headrace.server.store.text_functions import fits, like, words_of
from headrace.settings import get_settings

MOST_PREFIXES = 100
Condition = ColumnElement[bool]
Column = ColumnElement[Any]


def where(table: Table, chosen: Struct | None) -> Condition:
    """The condition a filter puts on the rows of its resource's table.

    Args:
        table: the table of the resource.
        chosen: its filter; None narrows nothing.
    """
    if chosen is None:
        return true()
    parts = [_field(table, name, value) for name, value in given(chosen)]
    condition = _joined(parts, chosen)
    return tested(condition, table, {"id"}) if _names_ids(chosen) else condition


def given(chosen: Struct) -> list[tuple[str, Any]]:
    """The fields of a filter that are set, but for its operator.

    Raises:
        ValidationFailed: one is a list of too many values.
    """
    fields = ((name, getattr(chosen, name)) for name in chosen.__struct_fields__ if name != "operator")
    found = [(name, value) for name, value in fields if value is not None]
    most = get_settings().server.limits.filter_ids
    for name, value in found:
        if isinstance(value, list) and len(value) > most:
            raise ValidationFailed(f"A filter takes at most {most} values; {name!r} has {len(value)}.")  # S7
    return found


def _joined(parts: Sequence[Condition], chosen: Struct) -> Condition:
    if not parts:
        return true()
    return or_(*parts) if getattr(chosen, "operator", Operator.and_) is Operator.or_ else and_(*parts)


def _field(table: Table, name: str, leaf: Any) -> Condition:
    special = _SPECIAL.get((table.name, name))
    if special is not None:
        return special(leaf)
    if name == "tags":
        return _tags(table.c.tags, leaf)
    return _leaf(table.c[name], leaf)


def _leaf(column: Column, leaf: Struct) -> Condition:
    return _joined([_OPERATORS[name](column, value) for name, value in given(leaf)], leaf)


def begins_with(column: Column, prefix: str) -> Condition:
    """Whether the column begins with `prefix`, capitals and all; SQLite's LIKE does not tell them apart.  # G19"""
    return func.substr(column, 1, len(prefix)) == prefix


def begins_with_any(column: Column, prefixes: Sequence[str]) -> Condition:
    """Whether the column begins with one of these.

    Raises:
        ValidationFailed: there are too many: each is a condition of its own.  # S7
    """
    if len(prefixes) > MOST_PREFIXES:
        raise ValidationFailed(f"A filter takes at most {MOST_PREFIXES} prefixes, not {len(prefixes)}.")
    return or_(false(), *(begins_with(column, prefix) for prefix in prefixes))


_OPERATORS: dict[str, Callable[[Column, Any], Condition]] = {
    "any_": among,
    "not_any_": lambda column, values: not_(among(column, values)),
    "like_": like,
    "startswith_": begins_with_any,
    "is_null_": lambda column, null: column.is_(None) if null else column.is_not(None),
    "eq_": lambda column, value: column == value,
    "ge_": lambda column, value: column >= value,
    "le_": lambda column, value: column <= value,
    "after_": lambda column, moment: column >= moment,
    "before_": lambda column, moment: column <= moment,
}


def _tags(column: Column, leaf: Any) -> Condition:
    parts = []
    for name, value in given(leaf):
        if name == "is_null_":
            parts.append(column == [] if value else column != [])
        else:
            parts.append(holds_all(column, value) if name == "all_" else holds_any(column, value))
    return _joined(parts, leaf)


def _state(table: Table) -> Callable[[Any], Condition]:
    columns = {"name": table.c.state_name, "type": table.c.state_type}
    return lambda leaf: _joined([_leaf(columns[name], value) for name, value in given(leaf)], leaf)


def _start_time(leaf: NullableTimeRange) -> Condition:
    """When a run began; one that has not begun stands where it is expected to, as in the order by START_TIME."""
    column = {"is_null_": FLOW_RUN.c.start_time}
    return _joined([_OPERATORS[name](column.get(name, STANDS_AT), value) for name, value in given(leaf)], leaf)


def _has_deployment(leaf: IsNull) -> Condition:
    has = exists().where(DEPLOYMENT.c.flow_id == FLOW.c.id)
    return not_(has) if leaf.is_null_ else has if leaf.is_null_ is False else true()


def _is_subflow(leaf: Exists) -> Condition:
    has = exists().where(FLOW_RUN.c.parent_task_run_id == TASK_RUN.c.id)
    return has if leaf.exists_ else not_(has) if leaf.exists_ is False else true()


def _parents(leaf: IdInParents) -> Condition:
    if leaf.any_ is None:
        return true()
    return FLOW_RUN.c.parent_task_run_id.in_(select(TASK_RUN.c.id).where(among(TASK_RUN.c.flow_run_id, leaf.any_)))


def _created_by(leaf: CreatedByMatch) -> Condition:
    column = FLOW_RUN.c.created_by
    parts: list[Condition] = []
    if leaf.id_ is not None:
        parts.append(among(member(column, "id"), [str(id) for id in leaf.id_]))
    if leaf.type_ is not None:
        parts.append(among(member(column, "type"), leaf.type_))
    if leaf.is_null_ is not None:
        parts.append(column.is_(None) if leaf.is_null_ else column.is_not(None))
    return _joined(parts, leaf)


def _flow_or_deployment(leaf: Like) -> Condition:
    if leaf.like_ is None:
        return true()
    of_flow = DEPLOYMENT.c.flow_id.in_(select(FLOW.c.id).where(like(FLOW.c.name, leaf.like_)))
    return or_(like(DEPLOYMENT.c.name, leaf.like_), of_flow)


def _limit(leaf: NullableNumberRange) -> Condition:
    own = CONCURRENCY_LIMIT.c.id == DEPLOYMENT.c.concurrency_limit_id
    return _leaf(select(CONCURRENCY_LIMIT.c.limit).where(own).scalar_subquery(), leaf)


def _text(leaf: TextSearch) -> Condition:
    found = ((like(LOG.c.message, word), present) for word, present in words_of(leaf.query))
    return and_(true(), *(one if present else not_(one) for one, present in found))


def _key(leaf: KeyMatch) -> Condition:
    """A key of artifacts; in its pattern `%` stands for any text and `_` for any character, as in Prefect."""
    parts: list[Condition] = []
    for name, value in given(leaf):
        if name == "exists_":
            parts.append(ARTIFACT.c.key.is_not(None) if value else ARTIFACT.c.key.is_(None))
        else:
            parts.append(fits(ARTIFACT.c.key, f"%{value}%") if name == "like_" else among(ARTIFACT.c.key, value))
    return and_(true(), *parts)


_SPECIAL: dict[tuple[str, str], Callable[[Any], Condition]] = {
    ("artifact", "key"): _key,
    ("artifact", "latest_id"): lambda leaf: _leaf(ARTIFACT.c.id, leaf),
    ("flow", "deployment"): _has_deployment,
    ("flow_run", "start_time"): _start_time,
    ("flow_run", "state"): _state(FLOW_RUN),
    ("flow_run", "parent_flow_run_id"): _parents,
    ("flow_run", "created_by"): _created_by,
    ("task_run", "state"): _state(TASK_RUN),
    ("task_run", "subflow_runs"): _is_subflow,
    ("deployment", "flow_or_deployment_name"): _flow_or_deployment,
    ("deployment", "concurrency_limit"): _limit,
    ("log", "text"): _text,
    ("block_schema", "block_capabilities"): lambda leaf: _tags(BLOCK_SCHEMA.c.capabilities, leaf),
}

Path = tuple[tuple[Column, Column], ...]

_ARTIFACT_RUN = (ARTIFACT.c.flow_run_id, FLOW_RUN.c.id)
_QUEUE_POOL = (WORK_QUEUE.c.work_pool_id, WORK_POOL.c.id)
_RUN_FLOW = (FLOW_RUN.c.flow_id, FLOW.c.id)
_RUN_DEPLOYMENT = (FLOW_RUN.c.deployment_id, DEPLOYMENT.c.id)
_RUN_QUEUE = (FLOW_RUN.c.work_queue_id, WORK_QUEUE.c.id)
_RUN_TASK = (FLOW_RUN.c.id, TASK_RUN.c.flow_run_id)
_TASK_RUN = (TASK_RUN.c.flow_run_id, FLOW_RUN.c.id)
_FLOW_RUN = (FLOW.c.id, FLOW_RUN.c.flow_id)
_FLOW_DEPLOYMENT = (FLOW.c.id, DEPLOYMENT.c.flow_id)
_DEPLOYMENT_RUN = (DEPLOYMENT.c.id, FLOW_RUN.c.deployment_id)
_DEPLOYMENT_QUEUE = (DEPLOYMENT.c.work_queue_id, WORK_QUEUE.c.id)

_PATHS: dict[tuple[str, str], Path] = {
    ("artifact", "flow_run"): (_ARTIFACT_RUN,),
    ("artifact", "task_run"): ((ARTIFACT.c.task_run_id, TASK_RUN.c.id),),
    ("artifact", "flow"): (_ARTIFACT_RUN, _RUN_FLOW),
    ("artifact", "deployment"): (_ARTIFACT_RUN, _RUN_DEPLOYMENT),
    ("flow_run", "flow"): (_RUN_FLOW,),
    ("flow_run", "task_run"): (_RUN_TASK,),
    ("flow_run", "deployment"): (_RUN_DEPLOYMENT,),
    ("flow_run", "work_queue"): (_RUN_QUEUE,),
    ("flow_run", "work_pool"): (_RUN_QUEUE, _QUEUE_POOL),
    ("task_run", "flow_run"): (_TASK_RUN,),
    ("task_run", "flow"): (_TASK_RUN, _RUN_FLOW),
    ("task_run", "deployment"): (_TASK_RUN, _RUN_DEPLOYMENT),
    ("task_run", "work_queue"): (_TASK_RUN, _RUN_QUEUE),
    ("task_run", "work_pool"): (_TASK_RUN, _RUN_QUEUE, _QUEUE_POOL),
    ("flow", "flow_run"): (_FLOW_RUN,),
    ("flow", "task_run"): (_FLOW_RUN, _RUN_TASK),
    ("flow", "deployment"): (_FLOW_DEPLOYMENT,),
    ("flow", "work_queue"): (_FLOW_DEPLOYMENT, _DEPLOYMENT_QUEUE),
    ("flow", "work_pool"): (_FLOW_DEPLOYMENT, _DEPLOYMENT_QUEUE, _QUEUE_POOL),
    ("deployment", "flow"): ((DEPLOYMENT.c.flow_id, FLOW.c.id),),
    ("deployment", "flow_run"): (_DEPLOYMENT_RUN,),
    ("deployment", "task_run"): (_DEPLOYMENT_RUN, _RUN_TASK),
    ("deployment", "work_queue"): (_DEPLOYMENT_QUEUE,),
    ("deployment", "work_pool"): (_DEPLOYMENT_QUEUE, _QUEUE_POOL),
}
"""From one resource to another: at each step, a column here and the column there that has the same value."""


def scoped(
    statement: Select[Any],
    table: Table,
    *,
    flows: FlowFilter | None = None,
    flow_runs: FlowRunFilter | None = None,
    task_runs: TaskRunFilter | None = None,
    deployments: DeploymentFilter | None = None,
    work_pools: WorkPoolFilter | None = None,
    work_pool_queues: WorkQueueFilter | None = None,
) -> Select[Any]:
    """Narrow a select from `table` by filters of any resource, its own included.

    A filter of another resource asks that there be one that it fits; an empty one, as in Prefect, that there be any.

    Args:
        statement: what to narrow.
        table: the table it selects from.
        flows: the filter of flows; the others likewise.
    """
    filters = {
        FLOW: flows,
        FLOW_RUN: flow_runs,
        TASK_RUN: task_runs,
        DEPLOYMENT: deployments,
        WORK_POOL: work_pools,
        WORK_QUEUE: work_pool_queues,
    }
    own = filters.get(table)
    for other, chosen in filters.items():
        if chosen is None:
            continue
        condition = where(other, chosen)
        if other is not table:
            path = _PATHS[table.name, other.name]
            if (ids := _only_ids(chosen)) is not None and path[-1][1] is other.c.id:
                condition, path = among(path[-1][0], ids), path[:-1]
            for here, there in reversed(path):
                condition = here.in_(select(there).where(condition))
            condition = tested(condition, table, {"id"}) if _names_ids(own) else condition
        statement = statement.where(condition)
    return statement


def _only_ids(chosen: Struct) -> Sequence[UUID] | None:
    """The ids a filter asks for, if it asks for nothing else: then the rows they belong to need not be looked at."""
    (name, leaf), *more = given(chosen) or [("", None)]
    if name != "id" or more:
        return None
    (operator, ids), *more = given(leaf) or [("", None)]
    return ids if operator == "any_" and not more else None


def _names_ids(chosen: Any) -> bool:
    """Whether a filter asks for certain ids, be it for more than that: then nothing finds its rows as quickly."""
    ids = getattr(chosen, "id", None)
    return getattr(ids, "any_", None) is not None and getattr(chosen, "operator", Operator.and_) is Operator.and_


def ordered(statement: Select[Any], table: Table, sort: StrEnum, *, looked_up: bool = False) -> Select[Any]:
    """Order a select by a sort such as `START_TIME_DESC`; equal rows by id, so that pages never overlap.

    A run that has not begun stands, by START_TIME, where it is expected to.

    Args:
        statement: what to order.
        table: what it selects from.
        sort: the order.
        looked_up: whether SQLite is to find all rows before it sorts them, rather than to walk in their order.
    """
    name, _, direction = sort.value.rpartition("_")
    columns: list[tuple[Column, bool]] = [(table.c.id, False)]
    if name == "START_TIME":
        columns.insert(0, (func.coalesce(table.c.start_time, table.c.expected_start_time), False))
    elif name != "ID":
        columns.insert(0, (table.c[name.lower()], bool(table.c[name.lower()].nullable)))
    for column, may_be_null in columns:
        value = unindexed(column) if looked_up else column
        directed = value.desc() if direction == "DESC" else value.asc()
        statement = statement.order_by(directed.nulls_last() if may_be_null else directed)
    return statement


def counted(statement: Select[Any]) -> Select[Any]:
    """A select of the number of rows that `statement` selects."""
    return select(func.count()).select_from(statement.order_by(None).subquery())
