"""What each filter finds, on both databases; cases that leave room for taste were looked up on a running Prefect."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec import Struct
from sqlalchemy import Table, select

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.schemas.filters import (
    DeploymentFilter,
    FlowFilter,
    FlowRunFilter,
    FlowRunSort,
    LogFilter,
    TaskRunFilter,
    WorkPoolFilter,
    WorkQueueFilter,
)
from headrace.server.store.filters import ordered, scoped, where
from headrace.server.store.tables import DEPLOYMENT, FLOW, FLOW_RUN, LOG, TASK_RUN, WORK_POOL, WORK_QUEUE
from headrace.server.store.text_functions import has_words
from headrace.server.store.transaction import Store, Tx

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FLOWS = {name: uuid7() for name in ("My_Flow", "MyXFlow", "other")}
RUNS = {name: uuid7() for name in ("Alpha_1", "alphaX1", "beta", "gamma", "child")}
TASKS = {name: uuid7() for name in ("load", "clean")}
DEPLOYMENTS = {"daily": uuid7()}
POOLS = {"pool": uuid7()}
QUEUES = {"queue": uuid7()}


def filled(table: Table, **values: Any) -> dict[str, Any]:
    """A row, with something plain in every column that must have a value and is not given."""
    plain: dict[str, Any] = {"Json": {}, "Boolean": False, "Integer": 0, "Float": 0.0, "String": "", "Text": ""}
    row = {
        column.name: NOON if type(column.type).__name__ == "Moment" else plain.get(type(column.type).__name__)
        for column in table.columns
        if not column.nullable and column.name != "id"
    }
    return {**row, "id": uuid7(), **values}


def flow_runs() -> list[dict[str, Any]]:
    """The runs of the world, all with the same keys."""
    blank: dict[str, Any] = {column.name: None for column in FLOW_RUN.columns if column.nullable}
    given: dict[str, dict[str, Any]] = {
        "Alpha_1": {"flow_id": FLOWS["My_Flow"], "tags": [], "state_type": "PENDING", "state_name": "Pending"},
        "alphaX1": {"flow_id": FLOWS["MyXFlow"], "tags": ["a"], "state_type": "SCHEDULED", "state_name": "Late"},
        "beta": {"flow_id": FLOWS["other"], "tags": ["a", "b"], "state_type": "RUNNING", "state_name": "Running"},
        "gamma": {"flow_id": FLOWS["other"], "tags": ["c"]},
        "child": {"flow_id": FLOWS["other"], "tags": ["ab"], "parent_task_run_id": TASKS["load"]},
    }
    given["beta"] |= {"start_time": NOON, "created_by": {"id": str(DEPLOYMENTS["daily"]), "type": "DEPLOYMENT"}}
    given["gamma"] |= {"deployment_id": DEPLOYMENTS["daily"], "work_queue_id": QUEUES["queue"]}
    given["gamma"] |= {"expected_start_time": NOON - timedelta(hours=1), "idempotency_key": "k"}
    return [filled(FLOW_RUN, **blank, id=RUNS[name], name=name) | values for name, values in given.items()]


@pytest.fixture
def world(store: Store, clock: ManualClock) -> Store:
    """A store with a few objects of each kind."""

    def plant(tx: Tx) -> None:
        tx.execute(FLOW.insert(), [filled(FLOW, id=id, name=name, tags=[]) for name, id in FLOWS.items()])
        tx.execute(FLOW_RUN.insert(), flow_runs())
        for name, id in TASKS.items():
            tx.execute(
                TASK_RUN.insert(), filled(TASK_RUN, id=id, name=name, dynamic_key=name, flow_run_id=RUNS["beta"])
            )
        tx.execute(WORK_POOL.insert(), filled(WORK_POOL, id=POOLS["pool"], name="pool", type="process"))
        tx.execute(
            WORK_QUEUE.insert(), filled(WORK_QUEUE, id=QUEUES["queue"], name="queue", work_pool_id=POOLS["pool"])
        )
        row = {"flow_id": FLOWS["My_Flow"], "work_queue_id": QUEUES["queue"], "tags": ["prod"]}
        tx.execute(DEPLOYMENT.insert(), filled(DEPLOYMENT, id=DEPLOYMENTS["daily"], name="daily", **row))

    store.write(plant)
    return store


def found(store: Store, table: Table, kind: type[Struct], chosen: dict[str, Any]) -> set[str]:
    """The names of the rows that a filter, written as on the wire, finds."""
    condition = where(table, msgspec.convert(chosen, kind))
    return store.read(lambda tx: set(tx.execute(select(table.c.name).where(condition)).scalars()))


ALL = set(RUNS)
RUN_CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({}, ALL),
    ({"operator": "or_"}, ALL),
    ({"state": {}, "tags": {}}, ALL),
    ({"id": {"any_": []}}, set()),
    ({"id": {"not_any_": []}}, ALL),
    ({"id": {"not_any_": [str(RUNS["gamma"])]}}, ALL - {"gamma"}),
    ({"name": {"any_": ["beta", "gamma", "none"]}}, {"beta", "gamma"}),
    ({"name": {"like_": "ALPHA"}}, {"Alpha_1", "alphaX1"}),
    ({"name": {"like_": "alpha_"}}, {"Alpha_1"}),
    ({"name": {"like_": "PHA_1"}}, {"Alpha_1"}),
    ({"name": {"like_": "x1"}}, {"alphaX1"}),
    ({"name": {"like_": "_1x"}}, set()),
    ({"name": {"like_": "%"}}, set()),
    ({"name": {"like_": "\\"}}, set()),
    ({"name": {"like_": ""}}, ALL),
    ({"name": {"any_": ["gamma"], "like_": "alpha"}}, set()),
    ({"tags": {"all_": []}}, ALL),
    ({"tags": {"any_": []}}, set()),
    ({"tags": {"is_null_": True}}, {"Alpha_1"}),
    ({"tags": {"is_null_": False}}, ALL - {"Alpha_1"}),
    ({"tags": {"all_": ["a"]}}, {"alphaX1", "beta"}),
    ({"tags": {"all_": ["a", "b"]}}, {"beta"}),
    ({"tags": {"any_": ["b", "c"]}}, {"beta", "gamma"}),
    ({"tags": {"all_": ["a"], "any_": ["b"]}}, {"beta"}),
    ({"tags": {"all_": ["a"], "is_null_": True, "operator": "or_"}}, {"Alpha_1", "alphaX1", "beta"}),
    ({"state": {"type": {"any_": ["RUNNING"]}}}, {"beta"}),
    ({"state": {"type": {"not_any_": ["RUNNING"]}}}, {"Alpha_1", "alphaX1"}),
    ({"state": {"type": {"any_": ["RUNNING"]}, "name": {"any_": ["Late"]}}}, set()),
    ({"state": {"type": {"any_": ["RUNNING"]}, "name": {"any_": ["Late"]}, "operator": "or_"}}, {"beta", "alphaX1"}),
    ({"name": {"any_": ["gamma"]}, "tags": {"any_": ["b"]}, "operator": "or_"}, {"beta", "gamma"}),
    ({"deployment_id": {"is_null_": False}}, {"gamma"}),
    ({"deployment_id": {"is_null_": True}}, ALL - {"gamma"}),
    ({"start_time": {"is_null_": False}}, {"beta"}),
    ({"start_time": {"after_": "2026-03-01T12:00:00Z"}}, ALL - {"gamma"}),
    ({"start_time": {"after_": "2026-03-01T12:00:00.000001Z"}}, set()),
    ({"start_time": {"before_": "2026-03-01T11:30:00Z"}}, {"gamma"}),  # not begun: where it is expected to
    ({"expected_start_time": {"before_": "2026-03-01T12:00:00+01:00"}}, {"gamma"}),
    ({"idempotency_key": {"any_": ["k"]}}, {"gamma"}),
    ({"parent_task_run_id": {"any_": [str(TASKS["load"])]}}, {"child"}),
    ({"parent_flow_run_id": {"any_": [str(RUNS["beta"])]}}, {"child"}),
    ({"parent_flow_run_id": {"any_": []}}, set()),
    ({"created_by": {"type_": ["DEPLOYMENT"]}}, {"beta"}),
    ({"created_by": {"id_": [str(DEPLOYMENTS["daily"])]}}, {"beta"}),
    ({"created_by": {"is_null_": True}}, ALL - {"beta"}),
]


def test_filters_of_flow_runs(world: Store) -> None:
    """Each filter of the list finds the runs beside it."""
    wrong = {
        str(chosen): (names, expected)
        for chosen, expected in RUN_CASES
        if (names := found(world, FLOW_RUN, FlowRunFilter, chosen)) != expected
    }

    assert wrong == {}


@pytest.mark.parametrize(
    ("table", "kind", "chosen", "expected"),
    [
        (FLOW, FlowFilter, {"name": {"like_": "my_"}}, {"My_Flow"}),
        (FLOW, FlowFilter, {"deployment": {"is_null_": True}}, {"MyXFlow", "other"}),
        (FLOW, FlowFilter, {"deployment": {"is_null_": False}}, {"My_Flow"}),
        (TASK_RUN, TaskRunFilter, {"subflow_runs": {"exists_": True}}, {"load"}),
        (TASK_RUN, TaskRunFilter, {"subflow_runs": {"exists_": False}}, {"clean"}),
        (DEPLOYMENT, DeploymentFilter, {"flow_or_deployment_name": {"like_": "y_fl"}}, {"daily"}),
        (DEPLOYMENT, DeploymentFilter, {"flow_or_deployment_name": {"like_": "weekly"}}, set()),
        (DEPLOYMENT, DeploymentFilter, {"paused": {"eq_": True}}, set()),
        (DEPLOYMENT, DeploymentFilter, {"concurrency_limit": {"is_null_": True}}, {"daily"}),
        (WORK_QUEUE, WorkQueueFilter, {"name": {"startswith_": ["qu", "x"]}}, {"queue"}),
        (WORK_QUEUE, WorkQueueFilter, {"name": {"startswith_": ["%", "Q"]}}, set()),
        (WORK_POOL, WorkPoolFilter, {"type": {"any_": ["process"]}}, {"pool"}),
    ],
)
def test_filters_of_other_resources(
    world: Store, table: Table, kind: type[Struct], chosen: dict[str, Any], expected: set[str]
) -> None:
    """What is particular to a resource."""
    assert found(world, table, kind, chosen) == expected


@pytest.mark.parametrize(
    ("table", "others", "expected"),
    [
        (FLOW_RUN, {"flows": FlowFilter()}, ALL),
        (FLOW_RUN, {"task_runs": TaskRunFilter()}, {"beta"}),
        (FLOW_RUN, {"deployments": DeploymentFilter()}, {"gamma"}),
        (FLOW_RUN, {"work_pools": WorkPoolFilter()}, {"gamma"}),
        (FLOW, {"flow_runs": FlowRunFilter()}, set(FLOWS)),
        (FLOW, {"task_runs": TaskRunFilter()}, {"other"}),
        (FLOW, {"work_pool_queues": WorkQueueFilter()}, {"My_Flow"}),
        (DEPLOYMENT, {"flow_runs": FlowRunFilter(), "work_pools": WorkPoolFilter()}, {"daily"}),
        (DEPLOYMENT, {"task_runs": TaskRunFilter()}, set()),
        (TASK_RUN, {"flow_runs": FlowRunFilter(), "flows": FlowFilter()}, set(TASKS)),
        (TASK_RUN, {"deployments": DeploymentFilter()}, set()),
    ],
)
def test_scopes(world: Store, table: Table, others: dict[str, Any], expected: set[str]) -> None:
    """A filter of another resource asks that there be one it fits, even when it is empty."""
    statement = scoped(select(table.c.name), table, **others)

    assert world.read(lambda tx: set(tx.execute(statement).scalars())) == expected


def test_scopes_join_with_the_own_filter(world: Store) -> None:
    """All filters of a call hold together."""
    other = msgspec.convert({"name": {"any_": ["other"]}}, FlowFilter)
    tagged = msgspec.convert({"tags": {"any_": ["b", "c"]}}, FlowRunFilter)
    statement = scoped(select(FLOW_RUN.c.name), FLOW_RUN, flows=other, flow_runs=tagged)

    assert world.read(lambda tx: set(tx.execute(statement).scalars())) == {"beta", "gamma"}


@pytest.mark.parametrize("length", [100, 101, 9_999])
def test_long_lists_find_the_same(world: Store, length: int) -> None:
    """A filter may hold ten thousand ids, or names, and says yes and no as one with few does."""
    ids: list[UUID] = [*(uuid7() for _ in range(length - 1)), RUNS["beta"]]
    names = [*(f"none {number}" for number in range(length - 1)), "be'ta\"", "beta"]

    assert found(world, FLOW_RUN, FlowRunFilter, {"id": {"any_": ids}}) == {"beta"}
    assert found(world, FLOW_RUN, FlowRunFilter, {"id": {"not_any_": ids}}) == ALL - {"beta"}
    assert found(world, FLOW_RUN, FlowRunFilter, {"name": {"any_": names}}) == {"beta"}
    assert found(world, FLOW_RUN, FlowRunFilter, {"parent_flow_run_id": {"any_": ids}}) == {"child"}


@pytest.mark.parametrize("sort", list(FlowRunSort))
def test_every_sort_orders_all_rows(world: Store, sort: FlowRunSort) -> None:
    """Each sort gives every run once, the same way each time, whether its column is empty or not."""
    statement = ordered(select(FLOW_RUN.c.name), FLOW_RUN, sort)
    first, second = (world.read(lambda tx: list(tx.execute(statement).scalars())) for _ in range(2))

    assert first == second
    assert sorted(first) == sorted(ALL)


def test_words_of_a_log(store: Store, clock: ManualClock) -> None:
    """Words must all be there, in any order and in capitals or not; `-` and `!` exclude; quotes join words."""
    messages = ["Error in step", "all good", "error timeout in step two", "50%_done", "ÄRGER"]
    store.write(lambda tx: tx.execute(LOG.insert(), [filled(LOG, message=message) for message in messages]))
    expected = {
        "error": {0, 2},
        "timeout error": {2},
        "error -timeout": {0},
        "+error !timeout": {0},
        '"step two"': {2},
        '-"in step"': {1, 3, 4},
        "%_": {3},
        "": {0, 1, 2, 3, 4},
        '"unclosed': set(),
        "Ärger": {4},
        "ärger": set(),
    }

    def matching(query: str) -> set[int]:
        condition = where(LOG, msgspec.convert({"text": {"query": query}}, LogFilter))
        hits = store.read(lambda tx: list(tx.execute(select(LOG.c.message).where(condition)).scalars()))
        return {messages.index(message) for message in hits}

    assert {query: matching(query) for query in expected} == expected
    in_python = {query: {at for at, one in enumerate(messages) if has_words([one], query)} for query in expected}
    assert in_python == expected
