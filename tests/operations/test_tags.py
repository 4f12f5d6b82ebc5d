"""Runs are found by their tags as if each were looked at, however they were written and however many have a tag."""

from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, Select, event, select

from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.schemas.deployments import DELETE_DEPLOYMENT
from headrace.schemas.events import Event
from headrace.schemas.filters import FlowRunFilter, TagsAllOrAny, TaskRunFilter
from headrace.schemas.flow_runs import (
    BULK_DELETE_FLOW_RUNS,
    COUNT_FLOW_RUNS,
    DELETE_FLOW_RUN,
    READ_FLOW_RUNS,
    UPDATE_FLOW_RUN,
    BulkDeleteFlowRuns,
    CountFlowRuns,
    FlowRun,
    FlowRunUpdate,
    ReadFlowRuns,
)
from headrace.schemas.recording import RECORD, Records, TaskRunRecord
from headrace.schemas.states import State, StateType
from headrace.schemas.task_runs import COUNT_TASK_RUNS, DELETE_TASK_RUN, READ_TASK_RUNS, CountTaskRuns, ReadTaskRuns
from headrace.server.operations import lookups, tagged
from headrace.server.operations.events import record_events
from headrace.server.operations.future_runs import horizon, insert_runs, plan
from headrace.server.store.tables import FLOW_RUN, FLOW_RUN_TAG, TASK_RUN, TASK_RUN_TAG
from headrace.server.store.tables.tags import LONGEST
from headrace.server.store.transaction import Store
from tests.operations.deployments_world import DAILY, deploy, run_of, scheduled
from tests.operations.runs_world import at, in_state, make_flow, make_run, make_task_run

AWKWARD = ["", ",", "]", '"', "\\", 'x"a', '","', ',"a"', "a,b", "é", "A", "%", "l" * LONGEST, "l" * (LONGEST + 1)]
tag = st.sampled_from(["a", "b", "c", *AWKWARD]) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=3)
some_tags = st.lists(st.sampled_from(["a", "b"]) | tag, max_size=3)
narrowing = st.fixed_dictionaries(
    {"operator": st.sampled_from(["and_", "or_"])},
    optional={"all_": some_tags, "any_": some_tags, "is_null_": st.booleans()},
)
filters = st.tuples(narrowing, st.sampled_from(["and_", "or_"]), st.none() | st.sampled_from(["RUNNING", "COMPLETED"]))


def all_or_any(operator: str, parts: list[bool]) -> bool:
    """What several conditions come to; none narrow nothing."""
    return not parts or (any(parts) if operator == "or_" else all(parts))


def fits(tags: list[str], state: str, chosen: tuple[dict[str, Any], str, str | None]) -> bool:
    """Whether a run fits a filter, in plain words."""
    narrowed, operator, kind = chosen
    parts = []
    if "all_" in narrowed:
        parts.append(set(narrowed["all_"]) <= set(tags))
    if "any_" in narrowed:
        parts.append(bool(set(narrowed["any_"]) & set(tags)))
    if "is_null_" in narrowed:
        parts.append((tags == []) is narrowed["is_null_"])
    return all_or_any(operator, [all_or_any(narrowed["operator"], parts), *([] if kind is None else [state == kind])])


def rows_of(store: Store, statement: Select[Any]) -> list[tuple[Any, ...]]:
    """The rows of a statement."""
    return [tuple(row) for row in store.read(lambda tx: tx.execute(statement).all())]


def indexed(store: Store) -> list[set[tuple[str, object]]]:
    """What stands in the indexes of tags; it must be what the runs say."""
    found = []
    for table, index in ((FLOW_RUN, FLOW_RUN_TAG), (TASK_RUN, TASK_RUN_TAG)):
        runs, stored = (
            rows_of(store, select(table.c.tags, table.c.id)),
            rows_of(store, select(index.c.tag, index.c.run_id)),
        )
        assert set(stored) == {(tag, id) for tags, id in runs for tag in tags if len(tag) <= LONGEST}
        found.append(set(stored))
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(st.tuples(some_tags, st.sampled_from(["RUNNING", "COMPLETED"])), max_size=6),
    chosen=st.lists(filters, min_size=1, max_size=4),
    seldom=st.sampled_from([0, 1, 3, 5000]),
    few=st.sampled_from([0, 2, 2000]),
)
def test_filters_by_tags_find_what_fits(
    api: LocalClient,
    store: Store,
    runs: list[tuple[list[str], str]],
    chosen: list[tuple[dict[str, Any], str, str | None]],
    seldom: int,
    few: int,
) -> None:
    """Lists and counts are those of a plain filter in Python, be a tag looked up in its index or in each run."""
    flow = make_flow(api)
    made = [make_run(api, flow, state=in_state(kind), tags=tags) for tags, kind in runs]
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lookups, "FEW", few)
            patch.setattr(tagged, "SELDOM", seldom)
            for one in chosen:
                expected = {run.id for run, (tags, kind) in zip(made, runs, strict=True) if fits(tags, kind, one)}
                narrowed, operator, kind = one
                state = {"state": {"type": {"any_": [kind]}}} if kind else {}
                asked = msgspec.convert({"tags": narrowed, "operator": operator} | state, FlowRunFilter)

                assert {run.id for run in api.call(READ_FLOW_RUNS, body=ReadFlowRuns(flow_runs=asked))} == expected
                assert api.call(COUNT_FLOW_RUNS, body=CountFlowRuns(flow_runs=asked)) == len(expected)
        indexed(store)
    finally:
        api.call(BULK_DELETE_FLOW_RUNS, body=BulkDeleteFlowRuns(limit=50))
    assert indexed(store) == [set(), set()]


def recorded(run: FlowRun, name: str, *, tags: list[str], state: StateType | None = None) -> TaskRunRecord:
    """What an engine records of a task run."""
    states = [State(type=state, timestamp=at(seconds=5))] if state else []
    return TaskRunRecord(
        id=uuid7(), flow_run_id=run.id, epoch=1, task_key="add", dynamic_key=name, name=name, tags=tags, states=states
    )


def reported(run: FlowRun, id: UUID, tags: list[str]) -> Event:
    """What Prefect's client reports of a task run."""
    state = {"type": "PENDING", "name": "Pending", "state_details": {}}
    task_run = {"name": "a-0", "task_key": "a", "dynamic_key": "reported", "tags": tags}
    return Event(
        occurred=at(seconds=5),
        event="prefect.task-run.Pending",
        resource={"prefect.resource.id": f"prefect.task-run.{id}", "prefect.orchestration": "client"},
        related=[{"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.role": "flow-run"}],
        payload={"validated_state": state, "task_run": task_run},
    )


def test_the_index_follows_every_change_of_flow_runs(api: LocalClient, store: Store) -> None:
    """Flow runs that are created, found by their key, scheduled, changed and deleted stand there as they are."""
    flow = make_flow(api)
    run = make_run(api, flow, tags=["a", "a", "b"])
    keyed, again = (make_run(api, flow, tags=tags, idempotency_key="one") for tags in (["k"], ["unheard"]))
    assert again.id == keyed.id
    deployment = deploy(api, tags=["d"], schedules=[scheduled(DAILY)])
    of_deployment = run_of(api, deployment, tags=["r"])
    store.write(lambda tx: insert_runs(tx, plan(tx, deployment.id, horizon()) or pytest.fail("nothing is due")))
    tags = {tag for tag, _ in indexed(store)[0]}

    assert tags == {"a", "b", "k", "d", "r", "auto-scheduled"}

    api.call(DELETE_DEPLOYMENT, id=deployment.id)
    api.call(UPDATE_FLOW_RUN, id=run.id, body=FlowRunUpdate(tags=["b", "c"]))
    api.call(UPDATE_FLOW_RUN, id=keyed.id, body=FlowRunUpdate(name="renamed"))

    assert ("r", of_deployment.id) not in indexed(store)[0]
    assert indexed(store)[0] == {("b", run.id), ("c", run.id), ("k", keyed.id)}

    api.call(UPDATE_FLOW_RUN, id=run.id, body=FlowRunUpdate(tags=[]))
    api.call(DELETE_FLOW_RUN, id=keyed.id)

    assert indexed(store)[0] == set()


def test_the_index_follows_every_change_of_task_runs(api: LocalClient, store: Store) -> None:
    """Task runs that are created, recorded, also twice, reported by events and deleted stand there as they are."""
    run, other = make_run(api, make_flow(api)), uuid7()
    created, again = (make_task_run(api, run, tags=tags) for tags in (["t"], ["unheard"]))
    assert again.id == created.id
    began, silent = recorded(run, "1", tags=["r", "s"], state=StateType.RUNNING), recorded(run, "2", tags=["q"])
    untagged = recorded(run, "3", tags=[], state=StateType.RUNNING)
    refused = recorded(run, "half \ud800 of a pair", tags=["unheard"], state=StateType.RUNNING)
    ended = msgspec.structs.replace(began, states=[State(type=StateType.COMPLETED, timestamp=at(minutes=1))])
    for batch in ([untagged, began, refused, silent], [ended], [began]):
        api.call(RECORD, body=Records(task_runs=batch))
    assert store.write(lambda tx: record_events(tx, [reported(run, other, ["e"])])) == []

    left = {("r", began.id), ("s", began.id), ("q", silent.id), ("e", other)}
    assert indexed(store) == [set(), left | {("t", created.id)}]

    api.call(DELETE_TASK_RUN, id=created.id)

    assert indexed(store) == [set(), left]

    api.call(DELETE_FLOW_RUN, id=run.id)

    assert indexed(store) == [set(), set()]


def test_runs_without_tags_cost_no_statement(api: LocalClient, store: Store) -> None:
    """Creating and recording runs that have no tags does not touch the index."""
    sent: list[str] = []

    def note(_: Connection, __: object, statement: str, *___: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        run = make_run(api, make_flow(api))
        make_task_run(api, run)
        api.call(RECORD, body=Records(task_runs=[recorded(run, "1", tags=[], state=StateType.RUNNING)]))
    finally:
        event.remove(Engine, "before_cursor_execute", note)

    assert any("flow" in statement for statement in sent)
    assert not [statement for statement in sent if "_run_tag" in statement]


@pytest.mark.parametrize("seldom", [0, 5000])
def test_task_runs_are_found_by_tags(api: LocalClient, monkeypatch: pytest.MonkeyPatch, seldom: int) -> None:
    """Task runs are found by their own tags, and by those of their flow runs; flow runs by those of task runs."""
    monkeypatch.setattr(tagged, "SELDOM", seldom)
    flow = make_flow(api)
    run, other = make_run(api, flow, tags=["nightly"]), make_run(api, flow)
    first, second = make_task_run(api, run, tags=["io"]), make_task_run(api, other, tags=["io", "slow"])

    def found(**chosen: Any) -> set[UUID]:
        listed = {one.id for one in api.call(READ_TASK_RUNS, body=ReadTaskRuns(**chosen))}
        assert api.call(COUNT_TASK_RUNS, body=CountTaskRuns(**chosen)) == len(listed)
        return listed

    def own(**tags: Any) -> TaskRunFilter:
        return msgspec.convert({"tags": tags}, TaskRunFilter)

    nightly = FlowRunFilter(tags=TagsAllOrAny(any_=["nightly"]))

    assert found(task_runs=own(all_=["io"])) == {first.id, second.id}
    assert found(task_runs=own(all_=["slow", "io"])) == {second.id}
    assert found(task_runs=own(is_null_=True)) == set()
    assert found(flow_runs=nightly) == {first.id}
    assert found(flow_runs=nightly, task_runs=own(all_=["slow"])) == set()
    assert [one.id for one in api.call(READ_FLOW_RUNS, body=ReadFlowRuns(task_runs=own(all_=["slow"])))] == [other.id]
