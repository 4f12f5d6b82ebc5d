"""Flow runs: created once by their key, read, changed, found, labelled, deleted with all that belongs to them."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import ApiError, ObjectNotFound, ValidationFailed
from headrace.schemas.filters import (
    FlowFilter,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunSort,
    IdInOrNot,
    IdInParents,
    NameMatch,
    NullableIdIn,
    NullableTimeRange,
    Operator,
    StateTypeInOrNot,
    StringInOrNot,
    TagsAllOrAny,
    TaskRunFilter,
    TimeRange,
)
from headrace.schemas.flow_runs import (
    BULK_DELETE_FLOW_RUNS,
    COUNT_FLOW_RUNS,
    CREATE_FLOW_RUN,
    DELETE_FLOW_RUN,
    PAGINATE_FLOW_RUNS,
    READ_FLOW_RUN,
    READ_FLOW_RUNS,
    SET_FLOW_RUN_STATE,
    UPDATE_FLOW_RUN,
    UPDATE_FLOW_RUN_LABELS,
    BulkDeleteFlowRuns,
    CountFlowRuns,
    FlowRunCreate,
    FlowRunPolicy,
    FlowRunUpdate,
    PaginateFlowRuns,
    ReadFlowRuns,
    SetFlowRunState,
)
from headrace.schemas.states import READ_FLOW_RUN_STATES, StateCreate, StateType
from headrace.schemas.task_runs import DELETE_TASK_RUN
from headrace.schemas.work_pools import CREATE_WORK_POOL, WorkPoolCreate
from headrace.server.store.tables import FLOW_RUN, METADATA
from headrace.server.store.transaction import Store
from tests.operations.runs_world import (
    NOW,
    at,
    in_state,
    is_new,
    make_flow,
    make_run,
    make_task_run,
    scheduled,
    spoil,
)


def test_a_run_has_what_it_was_created_with(api: LocalClient) -> None:
    """A new run keeps its fields, begins as Pending, and reads the same as its creation was answered."""
    flow = make_flow(api, labels={"team": "x", "tier": 1})
    parent = uuid7()

    run = make_run(
        api,
        flow,
        "nightly",
        parameters={"x": 1, "deep": [{"y": None}]},
        tags=["a"],
        context={"c": True},
        labels={"tier": 2},
        flow_version="v1",
        empirical_policy=FlowRunPolicy(retries=3, retry_delay=10),
        parent_task_run_id=parent,
    )

    assert api.call(READ_FLOW_RUN, id=run.id) == run
    assert (run.name, run.flow_id, run.flow_version, run.parent_task_run_id) == ("nightly", flow.id, "v1", parent)
    assert (run.parameters, run.tags, run.context) == ({"x": 1, "deep": [{"y": None}]}, ["a"], {"c": True})
    assert run.labels == {"team": "x", "tier": 2, "prefect.flow.id": str(flow.id)}
    assert (run.empirical_policy.retries, run.empirical_policy.retry_delay) == (3, 10)
    assert run.state is not None
    assert (run.state_type, run.state_name, run.state_id) == (StateType.PENDING, "Pending", run.state.id)
    assert run.state.state_details.flow_run_id == run.id
    assert (run.created, run.updated, run.run_count, run.epoch) == (NOW, NOW, 0, 0)


def test_a_run_without_a_name_gets_one(api: LocalClient) -> None:
    """The name is two words, and not the same each time."""
    flow = make_flow(api)

    names = {api.call(CREATE_FLOW_RUN, body=FlowRunCreate(flow_id=flow.id)).name for _ in range(5)}

    assert all(name is not None and "-" in name for name in names)
    assert len(names) > 1


def test_g3_one_key_gives_one_run(api: LocalClient, store: Store) -> None:
    """Creating a run again with its key finds the first; another flow may use the same key."""
    flow, other = make_flow(api), make_flow(api, "other")
    body = FlowRunCreate(flow_id=flow.id, name="first", idempotency_key="nightly@1")
    first_time = is_new(store, CREATE_FLOW_RUN, body=body)

    again = api.call(CREATE_FLOW_RUN, body=FlowRunCreate(flow_id=flow.id, name="again", idempotency_key="nightly@1"))
    elsewhere = make_run(api, other, "elsewhere", idempotency_key="nightly@1")

    assert first_time
    assert again.name == "first"
    assert elsewhere.name == "elsewhere"
    assert not is_new(store, CREATE_FLOW_RUN, body=body)
    assert len(api.call(READ_FLOW_RUN_STATES, flow_run_id=again.id)) == 1


def test_a_scheduled_run_knows_its_time(api: LocalClient) -> None:
    """A run created as scheduled is expected, and next, at that time."""
    run = make_run(api, make_flow(api), state=scheduled(at(hours=1)))

    assert (run.state_type, run.expected_start_time, run.next_scheduled_start_time) == (
        StateType.SCHEDULED,
        at(hours=1),
        at(hours=1),
    )


def test_a_run_is_put_into_a_queue_of_its_pool(api: LocalClient) -> None:
    """Into the named queue, or into the default one; its creation is answered as it is read."""
    flow = make_flow(api)
    pool = api.call(CREATE_WORK_POOL, body=WorkPoolCreate(name="pool", type="process"))

    default = make_run(api, flow, state=scheduled(at(hours=1)), work_pool_name="pool")
    named = make_run(api, flow, state=scheduled(at(hours=1)), work_pool_name="pool", work_queue_name="default")

    assert api.call(READ_FLOW_RUN, id=default.id) == default
    assert (default.work_pool_id, default.work_pool_name) == (pool.id, "pool")
    assert (default.work_queue_id, default.work_queue_name) == (pool.default_queue_id, "default")
    assert named.work_queue_id == default.work_queue_id
    with pytest.raises(ObjectNotFound, match="pool/nope"):
        make_run(api, flow, work_pool_name="pool", work_queue_name="nope")


def test_what_is_not_there_is_not_found(api: LocalClient) -> None:
    """Unknown runs, flows and pools are named as such."""
    flow = make_flow(api)
    calls: list[tuple[Any, dict[str, Any]]] = [
        (CREATE_FLOW_RUN, {"body": FlowRunCreate(flow_id=uuid7())}),
        (CREATE_FLOW_RUN, {"body": FlowRunCreate(flow_id=flow.id, work_pool_name="nope")}),
        (READ_FLOW_RUN, {"id": uuid7()}),
        (UPDATE_FLOW_RUN, {"id": uuid7(), "body": FlowRunUpdate(name="x")}),
        (UPDATE_FLOW_RUN_LABELS, {"id": uuid7(), "body": {"a": 1}}),
        (DELETE_FLOW_RUN, {"id": uuid7()}),
    ]
    for endpoint, arguments in calls:
        with pytest.raises(ObjectNotFound):
            api.call(endpoint, **arguments)


def test_only_given_fields_change(api: LocalClient, clock: ManualClock) -> None:
    """An update changes what it names; null empties a field that may be empty."""
    run = make_run(api, make_flow(api), tags=["a"], flow_version="v1")
    clock.advance(60)

    api.call(UPDATE_FLOW_RUN, id=run.id, body=FlowRunUpdate(name="new", parameters={"y": 2}, infrastructure_pid="h:1"))
    named = api.call(READ_FLOW_RUN, id=run.id)
    api.call(UPDATE_FLOW_RUN, id=run.id, body=FlowRunUpdate(infrastructure_pid=None, tags=[]))
    emptied = api.call(READ_FLOW_RUN, id=run.id)

    assert (named.name, named.parameters, named.infrastructure_pid) == ("new", {"y": 2}, "h:1")
    assert (named.tags, named.flow_version, named.updated) == (["a"], "v1", at(minutes=1))
    assert (emptied.infrastructure_pid, emptied.tags, emptied.name) == (None, [], "new")


def test_job_variables_change_until_the_run_is_taken_on(api: LocalClient) -> None:
    """While a run is scheduled its job variables may change; later they would have no effect, and are refused."""
    flow = make_flow(api)
    waiting, begun = make_run(api, flow, state=scheduled(at(hours=1))), make_run(api, flow, state=in_state("RUNNING"))

    api.call(UPDATE_FLOW_RUN, id=waiting.id, body=FlowRunUpdate(job_variables={"cpu": 2}))
    with pytest.raises(ApiError, match="RUNNING") as refused:
        api.call(UPDATE_FLOW_RUN, id=begun.id, body=FlowRunUpdate(job_variables={"cpu": 2}))
    assert refused.value.status == 400

    assert api.call(READ_FLOW_RUN, id=waiting.id).job_variables == {"cpu": 2}


def test_labels_are_added_to_those_there(api: LocalClient) -> None:
    """Labels of the same name are replaced, others stay."""
    run = make_run(api, make_flow(api), labels={"a": 1, "b": 1})

    api.call(UPDATE_FLOW_RUN_LABELS, id=run.id, body={"b": 2, "c": "x"})

    labels = api.call(READ_FLOW_RUN, id=run.id).labels
    assert {name: labels[name] for name in "abc"} == {"a": 1, "b": 2, "c": "x"}


@pytest.mark.parametrize("value", [None, [1], {"a": 1}])
def test_a_label_is_a_plain_value(api: LocalClient, value: Any) -> None:
    """What could not be read back as a label is refused, and nothing is changed."""
    run = make_run(api, make_flow(api))

    with pytest.raises(ValidationFailed, match="'bad'"):
        api.call(UPDATE_FLOW_RUN_LABELS, id=run.id, body={"good": 1, "bad": value})

    assert api.call(READ_FLOW_RUN, id=run.id).labels == run.labels


def test_a_running_run_says_how_long_it_has_run(api: LocalClient, clock: ManualClock) -> None:
    """The estimate of its run time grows with the clock while a run is running, and is exact once it has ended."""
    run = make_run(api, make_flow(api), state=scheduled(NOW))
    clock.advance(5)
    api.call(SET_FLOW_RUN_STATE, id=run.id, body=SetFlowRunState(state=in_state("RUNNING"), force=True))
    clock.advance(10)
    running = api.call(READ_FLOW_RUN, id=run.id)
    api.call(SET_FLOW_RUN_STATE, id=run.id, body=SetFlowRunState(state=in_state("COMPLETED"), force=True))
    clock.advance(100)
    ended = api.call(READ_FLOW_RUN, id=run.id)

    assert (running.estimated_run_time, running.total_run_time, running.estimated_start_time_delta) == (10.0, 0.0, 5.0)
    assert (ended.estimated_run_time, ended.total_run_time, ended.end_time) == (10.0, 10.0, at(seconds=15))


class Found:
    """Runs of many kinds, to be found by filters."""

    def __init__(self, api: LocalClient) -> None:
        self.api = api
        flow, other = make_flow(api, "etl"), make_flow(api, "report")
        self.plain = make_run(api, flow, "plain", tags=["a", "b"])
        self.late = make_run(api, flow, "late_one", scheduled(at(hours=-2)), tags=["b"], idempotency_key="k1")
        self.done = make_run(api, flow, "Done%", in_state("COMPLETED"), flow_version="v2")
        task_run = make_task_run(api, self.plain)
        self.child = make_run(api, other, "child", in_state("RUNNING"), parent_task_run_id=task_run.id)

    def names(self, chosen: FlowRunFilter | None = None, **scope: Any) -> list[str]:
        """Names of the runs that a filter finds, in order of their names."""
        body = ReadFlowRuns(flow_runs=chosen, sort=FlowRunSort.NAME_ASC, **scope)
        names = sorted(str(run.name) for run in self.api.call(READ_FLOW_RUNS, body=body))
        count = CountFlowRuns(flow_runs=chosen, **scope)
        assert self.api.call(COUNT_FLOW_RUNS, body=count) == len(names)
        return names


def test_runs_are_found_by_filters(api: LocalClient) -> None:
    """Each filter narrows lists and counts alike; text is taken as it is written."""
    found = Found(api)
    completed = FlowRunFilterState(type=StateTypeInOrNot(any_=[StateType.COMPLETED]))

    assert found.names() == ["Done%", "child", "late_one", "plain"]
    assert found.names(FlowRunFilter(name=NameMatch(like_="DONE"))) == ["Done%"]
    assert found.names(FlowRunFilter(name=NameMatch(like_="%"))) == ["Done%"]
    assert found.names(FlowRunFilter(name=NameMatch(like_="e_o"))) == ["late_one"]
    assert found.names(FlowRunFilter(tags=TagsAllOrAny(all_=["a", "b"]))) == ["plain"]
    assert found.names(FlowRunFilter(tags=TagsAllOrAny(any_=["b"]))) == ["late_one", "plain"]
    assert found.names(FlowRunFilter(tags=TagsAllOrAny(is_null_=True))) == ["Done%", "child"]
    assert found.names(FlowRunFilter(state=completed)) == ["Done%"]
    assert found.names(FlowRunFilter(id=IdInOrNot(not_any_=[found.plain.id]))) == ["Done%", "child", "late_one"]
    assert found.names(FlowRunFilter(idempotency_key=StringInOrNot(any_=["k1"]))) == ["late_one"]
    assert found.names(FlowRunFilter(expected_start_time=TimeRange(before_=at(hours=-1)))) == ["late_one"]
    assert found.names(FlowRunFilter(end_time=NullableTimeRange(is_null_=False))) == ["Done%"]
    assert found.names(FlowRunFilter(parent_task_run_id=NullableIdIn(is_null_=False))) == ["child"]
    assert found.names(FlowRunFilter(parent_flow_run_id=IdInParents(any_=[found.plain.id]))) == ["child"]
    assert found.names(flows=FlowFilter(name=NameMatch(any_=["report"]))) == ["child"]
    assert found.names(task_runs=TaskRunFilter(name=NameMatch(any_=["add-0"]))) == ["plain"]


def test_conditions_of_a_filter_are_joined_as_it_says(api: LocalClient) -> None:
    """Conditions must all hold, or with the operator `or_` any of them."""
    found = Found(api)
    conditions: dict[str, Any] = {"name": NameMatch(any_=["plain"]), "tags": TagsAllOrAny(is_null_=True)}

    assert found.names(FlowRunFilter(**conditions)) == []
    assert found.names(FlowRunFilter(operator=Operator.or_, **conditions)) == ["Done%", "child", "plain"]


def test_a_time_without_a_zone_is_taken_for_utc(api: LocalClient) -> None:
    """JSON may leave the zone out of a time: it then means UTC, on every database."""
    found = Found(api)
    naive = datetime(2025, 12, 31, 23)

    assert found.names(FlowRunFilter(expected_start_time=TimeRange(before_=naive))) == ["late_one"]


def test_a_scheduled_time_without_a_zone_is_taken_for_utc(api: LocalClient) -> None:
    """A state proposed for a time without a zone is for that time in UTC."""
    run = make_run(api, make_flow(api), state=scheduled(datetime(2026, 1, 1, 12)))

    assert run.next_scheduled_start_time == at(hours=12)
    assert api.call(READ_FLOW_RUN, id=run.id) == run


def test_a_filter_may_name_thousands_of_tags(api: LocalClient) -> None:
    """Long lists of tags are fine on every database."""
    found = Found(api)
    many = [f"tag-{number}" for number in range(3000)]

    assert found.names(FlowRunFilter(tags=TagsAllOrAny(any_=[*many, "a"]))) == ["plain"]
    assert found.names(FlowRunFilter(tags=TagsAllOrAny(all_=[*many, "a"]))) == []
    assert found.names(FlowRunFilter(tags=TagsAllOrAny(all_=["b", "a"] * 1500))) == ["plain"]


def test_runs_are_listed_in_every_order(api: LocalClient) -> None:
    """Each order is one of ids, names or times; a run that has not begun stands where it is expected."""
    flow = make_flow(api)
    for name, state in (("b", scheduled(at(hours=2))), ("c", in_state("COMPLETED")), ("a", scheduled(at(hours=1)))):
        make_run(api, flow, name, state)

    def names(sort: FlowRunSort) -> str:
        return "".join(str(run.name) for run in api.call(READ_FLOW_RUNS, body=ReadFlowRuns(sort=sort)))

    assert {sort.value: names(sort) for sort in FlowRunSort} == {
        "ID_DESC": "acb",
        "START_TIME_ASC": "cab",
        "START_TIME_DESC": "bac",
        "EXPECTED_START_TIME_ASC": "cab",
        "EXPECTED_START_TIME_DESC": "bac",
        "NAME_ASC": "abc",
        "NAME_DESC": "cba",
        "NEXT_SCHEDULED_START_TIME_ASC": "abc",
        "END_TIME_DESC": "cab",
    }


def test_pages_cover_the_list_without_overlap(api: LocalClient) -> None:
    """All pages together are the list, also when the rows are equal in the order's column."""
    flow = make_flow(api)
    made = {make_run(api, flow, "same").id for _ in range(5)}
    body = {"sort": FlowRunSort.NAME_ASC, "limit": 2}

    pages = [api.call(PAGINATE_FLOW_RUNS, body=PaginateFlowRuns(page=page, **body)) for page in (1, 2, 3)]  # type: ignore[arg-type]

    assert [run.id for page in pages for run in page.results] == sorted(made)
    assert {(page.count, page.pages) for page in pages} == {(5, 3)}


def rows_of(store: Store, run_id: UUID) -> dict[str, int]:
    """How many rows of each table belong to a flow run."""
    tables = {table for table in METADATA.sorted_tables if "flow_run_id" in table.c} | {FLOW_RUN}

    def count(tx: Any) -> dict[str, int]:
        counts = {}
        for table in tables:
            column = table.c.id if table is FLOW_RUN else table.c.flow_run_id
            counts[table.name] = tx.execute(select(func.count()).where(column == run_id)).scalar_one()
        return {name: count for name, count in counts.items() if count}

    return store.read(count)


def test_a_run_is_deleted_with_all_that_is_its_own(api: LocalClient, store: Store) -> None:
    """No row of a deleted run stays in any table, and other runs keep theirs."""
    flow = make_flow(api)
    run, other = make_run(api, flow), make_run(api, flow)
    for each in (run, other):
        make_task_run(api, each)

    api.call(DELETE_FLOW_RUN, id=run.id)

    assert rows_of(store, run.id) == {}
    assert set(rows_of(store, other.id)) == {"flow_run", "flow_run_state", "task_run"}


def test_many_runs_are_deleted_at_once(api: LocalClient) -> None:
    """A bulk deletion takes those its filter finds, and names them."""
    flow = make_flow(api)
    old, kept = make_run(api, flow, "old"), make_run(api, flow, "kept")

    body = BulkDeleteFlowRuns(flow_runs=FlowRunFilter(name=NameMatch(any_=["old"])))
    answer = api.call(BULK_DELETE_FLOW_RUNS, body=body)

    assert answer.deleted == [old.id]
    assert [run.id for run in api.call(READ_FLOW_RUNS, body=ReadFlowRuns())] == [kept.id]


BROKEN = [
    ("state_type", "NONSENSE"),
    ("tags", '{"not": "a list"}'),
    ("parameters", "[1]"),
    ("empirical_policy", "5"),
]
BROKEN_SQLITE = [("context", "{never closed"), ("start_time", "soon"), ("total_run_time", "long"), ("state_id", "x")]


@pytest.mark.parametrize(("column", "value"), BROKEN)
def test_g13_a_broken_run_does_not_break_the_list(
    api: LocalClient, store: Store, caplog: pytest.LogCaptureFixture, column: str, value: str
) -> None:
    """A row that cannot be read is left out of lists and reported; the others are served."""
    check_broken_run(api, store, caplog, column, value)


@pytest.mark.parametrize(("column", "value"), BROKEN_SQLITE)
def test_g13_a_run_with_a_value_of_a_wrong_type_does_not_break_the_list(
    sqlite_store: Store, caplog: pytest.LogCaptureFixture, column: str, value: str
) -> None:
    """SQLite stores anything in any column: what is not of the column's type spoils its row alone."""
    check_broken_run(LocalClient(sqlite_store), sqlite_store, caplog, column, value)


def test_g13_a_run_with_broken_tags_does_not_break_filters(sqlite_store: Store) -> None:
    """Tags that are no JSON count as none, so filters by tags go on working for the others."""
    api = LocalClient(sqlite_store)
    found = Found(api)
    spoil(sqlite_store, FLOW_RUN, found.late.id, "tags", "broken")

    assert found.names(FlowRunFilter(tags=TagsAllOrAny(any_=["b"]))) == ["plain"]
    assert found.names(FlowRunFilter(tags=TagsAllOrAny(all_=["a", "b"]))) == ["plain"]


def check_broken_run(api: LocalClient, store: Store, caplog: pytest.LogCaptureFixture, column: str, value: str) -> None:
    """Break one of three runs; lists have the other two, or all when the value does not matter."""
    flow = make_flow(api)
    runs = [make_run(api, flow, str(number), StateCreate(type=StateType.RUNNING)) for number in range(3)]
    spoil(store, FLOW_RUN, runs[1].id, column, value)

    listed = api.call(READ_FLOW_RUNS, body=ReadFlowRuns(sort=FlowRunSort.NAME_ASC))
    page = api.call(PAGINATE_FLOW_RUNS, body=PaginateFlowRuns(sort=FlowRunSort.NAME_ASC))

    assert [run.name for run in listed] == [run.name for run in page.results] == ["0", "2"]
    assert str(runs[1].id) in caplog.text


def test_child_runs_outlive_their_parents(api: LocalClient) -> None:
    """Who deletes a task run or a flow run leaves its child runs without a parent, so that lists show them."""
    flow = make_flow(api)
    parent = make_run(api, flow, "parent")
    tasks = [make_task_run(api, parent, str(number)) for number in range(2)]
    children = [make_run(api, flow, f"child-{task.dynamic_key}", parent_task_run_id=task.id) for task in tasks]

    api.call(DELETE_TASK_RUN, id=tasks[0].id)
    first = [api.call(READ_FLOW_RUN, id=child.id).parent_task_run_id for child in children]
    api.call(DELETE_FLOW_RUN, id=parent.id)

    assert first == [None, tasks[1].id]
    on_top = FlowRunFilter(parent_task_run_id=NullableIdIn(is_null_=True))
    shown = api.call(READ_FLOW_RUNS, body=ReadFlowRuns(flow_runs=on_top, sort=FlowRunSort.NAME_ASC))
    assert [run.name for run in shown] == ["child-0", "child-1"]
