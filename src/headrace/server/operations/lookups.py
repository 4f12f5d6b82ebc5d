"""By which index the runs are found that filters choose, where a database cannot know it by itself.

PostgreSQL keeps statistics. SQLite takes every value of a column to be as rare as any other, so of several indexes it
may take the one of a state in which all runs are.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from sqlalchemy import Select, Table, select

from headrace.schemas.filters import Operator
from headrace.server.operations.tagged import INDEXES
from headrace.server.store.filters import Condition, given, where
from headrace.server.store.plan_hints import tested
from headrace.server.store.tables import FLOW_RUN
from headrace.server.store.tables.tags import LONGEST
from headrace.server.store.transaction import Tx

Choice = Callable[[Select[Any], Any], Select[Any]]
"""Narrows a select from runs by the filters of a body."""

FEW = 2_000
"""So many rows are sorted in a few milliseconds."""
_PAGING = {"limit", "offset", "page", "sort"}
_STATE = {"state_type", "state_name"}
_OWNERS = ("flows", "deployments", "work_pools", "work_pool_queues")
_PARENTS = ("deployment_id", "parent_task_run_id", "parent_flow_run_id")


def run_ids(tx: Tx, runs: Table, body: Struct, choose: Choice) -> Select[Any]:
    """A select of the ids of the runs that a body chooses.

    Args:
        tx: the transaction.
        runs: FLOW_RUN or TASK_RUN.
        body: filters.
        choose: narrows a select from runs by them.
    """
    name = f"{runs.name}s"
    tag = _only_tag(name, body)
    if tag is not None:  # the index of tags alone knows
        index = INDEXES[name]
        return select(index.c.run_id).where(index.c.tag == tag)
    chosen = choose(select(runs.c.id), body)
    condition = chosen.whereclause
    if tx.dialect != "sqlite" or runs is not FLOW_RUN or condition is None or not _may_be_found_by_state(body):
        return chosen
    return select(runs.c.id).where(_by_state_if_few(tx, condition, body))


def few(tx: Tx, ids: Select[Any]) -> bool:
    """Whether a select finds no more than `FEW` rows."""
    return tx.execute(ids.offset(FEW).limit(1)).first() is None


def stand_in_order(runs: Table, body: Any) -> bool:
    """Whether an index has the runs that a body chooses in its order: those of one state, by START_TIME."""
    if runs is not FLOW_RUN or not body.sort.startswith("START_TIME"):
        return False
    match _only(body, "flow_runs", "state"):
        case [(_, kind)]:
            return [len(value) for name, value in given(kind) if name == "any_"] == [1]
    return False


def _may_be_found_by_state(body: Any) -> bool:
    """Whether a body asks for states, and for something else by which an index may find fewer rows, or more."""
    own = body.flow_runs
    if own is None or own.state is None or own.id is not None or own.operator is Operator.or_:
        return False
    return any(getattr(body, name, None) for name in _OWNERS) or any(getattr(own, name) for name in _PARENTS)


def _by_state_if_few(tx: Tx, condition: Condition, body: Any) -> Condition:
    of_state = type(body.flow_runs)(state=body.flow_runs.state)
    if few(tx, select(FLOW_RUN.c.id).where(where(FLOW_RUN, of_state))):
        return tested(condition, FLOW_RUN, {"id", *_STATE})
    return tested(condition, FLOW_RUN, set(FLOW_RUN.c.keys()) - _STATE)


def _only(body: Any, *path: str) -> list[tuple[str, Any]]:
    """What is given of a part of a body, if nothing is given beside it; else nothing."""
    for field in path:
        fields = [one for one in given(body) if one[0] not in _PAGING]
        if [one for one, _ in fields] != [field]:
            return []
        body = fields[0][1]
    return given(body)


def _only_tag(name: str, body: Any) -> str | None:
    match _only(body, name, "tags"):
        case [("all_" | "any_", [str(tag)])] if len(tag) <= LONGEST:
            return tag
    return None
