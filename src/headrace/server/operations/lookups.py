"""By which index the runs are found that filters choose, where a database cannot know it by itself.

PostgreSQL keeps statistics. SQLite takes every value of a column to be as rare as any other, so of several indexes it
may take the one of a state in which all runs are.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, Table, select

from headrace.schemas.filters import Operator
from headrace.server.operations.tagged import INDEXES
from headrace.server.store.composed import Question
from headrace.server.store.filters import given, where
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


class Way(StrEnum):
    """How SQLite is to find the runs that are asked for."""

    AS_ASKED = "as asked"
    BY_STATE = "by state"
    NOT_BY_STATE = "not by state"


def way_to(tx: Tx, runs: Table, body: Any) -> Way:
    """How to find the runs that a body chooses: where it asks for states among other things, it depends on the rows.

    Args:
        tx: the transaction.
        runs: FLOW_RUN or TASK_RUN.
        body: filters.
    """
    if tx.dialect != "sqlite" or runs is not FLOW_RUN or not _may_be_found_by_state(body):
        return Way.AS_ASKED
    of_state = type(body.flow_runs)(state=body.flow_runs.state)
    question = Question("few flow runs", of_state)
    more = tx.ask(question, lambda: select(FLOW_RUN.c.id).where(where(FLOW_RUN, of_state)).offset(FEW).limit(1))
    return Way.NOT_BY_STATE if more else Way.BY_STATE


def run_ids(runs: Table, body: Any, choose: Choice, way: Way) -> Select[Any]:
    """A select of the ids of the runs that a body chooses.

    Args:
        runs: FLOW_RUN or TASK_RUN.
        body: filters.
        choose: narrows a select from runs by them.
        way: how to find them.
    """
    name = f"{runs.name}s"
    tag = _only_tag(name, body)
    if tag is not None:  # the index of tags alone knows
        index = INDEXES[name]
        return select(index.c.run_id).where(index.c.tag == tag)
    chosen = choose(select(runs.c.id), body)
    condition = chosen.whereclause
    if way is Way.AS_ASKED or condition is None:
        return chosen
    found_by = {"id", *_STATE} if way is Way.BY_STATE else set(runs.c.keys()) - _STATE
    return select(runs.c.id).where(tested(condition, runs, found_by))


def filters_of(body: Any) -> list[tuple[str, Any]]:
    """The filters of a body that are set, by their names."""
    return [one for one in given(body) if one[0] not in _PAGING]


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


def _only(body: Any, *path: str) -> list[tuple[str, Any]]:
    """What is given of a part of a body, if nothing is given beside it; else nothing."""
    for field in path:
        fields = filters_of(body)
        if [one for one, _ in fields] != [field]:
            return []
        body = fields[0][1]
    return given(body)


def _only_tag(name: str, body: Any) -> str | None:
    match _only(body, name, "tags"):
        case [("all_" | "any_", [str(tag)])] if len(tag) <= LONGEST:
            return tag
    return None
