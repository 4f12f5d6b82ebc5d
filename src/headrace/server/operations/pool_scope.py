"""What a caller bound to one work pool may touch: nothing that belongs to another pool.  # S5

Of the areas that pools divide, a call must name what it is about: a run, a deployment, a queue, a pool, in its path or
its body. None of that may belong to another pool; what belongs to none (a run by hand, a nested flow) is open to all.
Lists that can be narrowed to a pool are. What names nothing is refused, so that a new operation is closed until it is
thought of.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Table, exists, select

from headrace.exceptions import Forbidden
from headrace.schemas.deployments import CREATE_DEPLOYMENT
from headrace.schemas.events import CREATE_EVENTS
from headrace.schemas.filters import Operator, StringIn, WorkPoolFilter
from headrace.schemas.flow_runs import CREATE_FLOW_RUN
from headrace.schemas.flows import CREATE_FLOW
from headrace.schemas.logs import CREATE_LOGS
from headrace.schemas.recording import RECORD
from headrace.schemas.scopes import PoolScope
from headrace.schemas.task_runs import CREATE_TASK_RUN
from headrace.server.operations.registry import Operation
from headrace.server.store.long_lists import among
from headrace.server.store.tables import DEPLOYMENT, FLOW_RUN, TASK_RUN, WORK_POOL, WORK_QUEUE
from headrace.server.store.transaction import Tx

DIVIDED = frozenset({"runs", "logs", "events", "deployments", "work_pools", "audit"})
"""The areas whose things belong to pools."""
MAY_NAME_NOTHING = frozenset({CREATE_FLOW_RUN, CREATE_TASK_RUN, CREATE_LOGS, CREATE_EVENTS, RECORD})
_TABLES = {
    "flow_runs": FLOW_RUN,
    "leases": FLOW_RUN,
    "flow_run": FLOW_RUN,
    "parent_flow_run": FLOW_RUN,
    "task_runs": TASK_RUN,
    "task_run": TASK_RUN,
    "parent_task_run": TASK_RUN,
    "deployments": DEPLOYMENT,
    "deployment": DEPLOYMENT,
    "work_queues": WORK_QUEUE,
    "work_pool_queues": WORK_QUEUE,
    "work_queue": WORK_QUEUE,
}
"""By the segment of a path or the field of a body in which an id stands: `flow_runs.id`, `flow_run_id`."""
_KIND = re.compile(r"\.id$|_ids?$")

Named = tuple[Table, Any]


def keep_within(tx: Tx, pool: str, operation: Operation, arguments: Mapping[str, Any]) -> None:
    """See that a call stays within a pool; a list it asks for is narrowed to that pool.

    Args:
        tx: a transaction.
        pool: the name of the pool.
        operation: what is called.
        arguments: with what; filters in it may be changed.

    Raises:
        Forbidden: the call concerns another pool, or everything.
    """
    endpoint, body = operation.endpoint, arguments.get("body")
    area, _, level = operation.access.partition(":")
    if endpoint is CREATE_DEPLOYMENT or (area == "flows" and level == "write" and endpoint is not CREATE_FLOW):
        raise _beyond(pool)  # a name may belong to another pool's already
    named = named_in(operation, arguments)
    if isinstance(body, PoolScope):
        body.work_pools = _narrowed(body.work_pools, pool)
    elif not named and area in DIVIDED and endpoint not in MAY_NAME_NOTHING:
        raise _beyond(pool)
    for table in {table for table, _ in named}:
        keys = [key for other, key in named if other is table]
        if is_any_elsewhere(tx, table, keys, pool):
            raise _beyond(pool)


def named_in(operation: Operation, arguments: Mapping[str, Any]) -> list[Named]:
    """The things that a call names: the table of each, and its id; of pools their names."""
    return [*_in_path(operation, arguments), *_in_body(arguments.get("body"), "")]


def _beyond(pool: str) -> Forbidden:
    return Forbidden(f"This login is for the work pool {pool!r} alone.")


def _in_path(operation: Operation, arguments: Mapping[str, Any]) -> Iterator[Named]:
    segments = operation.endpoint.path.removeprefix("/ui").split("/")[1:]
    pool = "name" if segments[0] == "work_pools" and segments[1:2] == ["{name}"] else "work_pool_name"
    if pool in arguments:
        yield WORK_POOL, arguments[pool]
    for name, value in arguments.items():
        if name != "body":
            yield from _in_body(value, f"{segments[0]}.id" if name == "id" else name)


def _in_body(value: Any, field: str) -> Iterator[Named]:
    """The things a body names; `field` is where `value` stands, without the operators of filters.

    Only what has a declared type is looked at: what users may write freely names nothing.
    """
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            inner = getattr(value, name)
            if inner is Operator.or_:
                raise Forbidden("A login for one work pool cannot ask with the operator `or_`.")
            if name not in ("state", "states"):
                yield from _in_body(inner, field if name == "any_" else f"{field}.id" if name == "id" else name)
    elif isinstance(value, list):
        for inner in value:
            yield from _in_body(inner, field)
    elif isinstance(value, str) and field == "work_pool_name":
        yield WORK_POOL, value
    elif isinstance(value, UUID) and (table := _TABLES.get(_KIND.sub("", field))) is not None:
        yield table, value


def _narrowed(chosen: WorkPoolFilter | None, pool: str) -> WorkPoolFilter:
    chosen = chosen or WorkPoolFilter()
    asked = chosen.name.any_ if chosen.name is not None else None
    chosen.name = StringIn(any_=[pool] if asked is None or pool in asked else [])
    return chosen


def is_any_elsewhere(tx: Tx, table: Table, keys: list[Any], pool: str) -> bool:
    """Whether one of the things that keys name belongs to another pool.

    Args:
        tx: a transaction.
        table: of the things.
        keys: their ids; the names of pools.
        pool: the name of the pool they shall belong to.
    """
    if table is WORK_POOL:
        return any(key != pool for key in keys)
    found = select(table.c.id).where(among(table.c.id, keys), _elsewhere(table, pool)).limit(1)
    return tx.execute(found).first() is not None


def _elsewhere(table: Table, pool: str) -> ColumnElement[bool]:
    """Whether a row of the table belongs to another pool."""
    if table is TASK_RUN:
        return exists().where(FLOW_RUN.c.id == TASK_RUN.c.flow_run_id, _elsewhere(FLOW_RUN, pool))
    here = select(WORK_POOL.c.id).where(WORK_POOL.c.name == pool)
    if table is WORK_QUEUE:
        return WORK_QUEUE.c.work_pool_id.not_in(here)
    return exists().where(WORK_QUEUE.c.id == table.c.work_queue_id, WORK_QUEUE.c.work_pool_id.not_in(here))
