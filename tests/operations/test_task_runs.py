"""Task runs: created once by their keys, read, changed, found, deleted."""

from typing import Any

import pytest

from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schemas.filters import (
    Exists,
    FlowRunFilter,
    IdIn,
    IdInOrNot,
    NameMatch,
    NullableIdIn,
    StateTypeIn,
    TagsAll,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunSort,
)
from headrace.schemas.logs import CREATE_LOGS, READ_LOGS, LogCreate, ReadLogs
from headrace.schemas.states import READ_TASK_RUN_STATES, StateType
from headrace.schemas.task_runs import (
    COUNT_TASK_RUNS,
    CREATE_TASK_RUN,
    DELETE_TASK_RUN,
    PAGINATE_TASK_RUNS,
    READ_TASK_RUN,
    READ_TASK_RUN_WITH_FLOW_RUN_NAME,
    READ_TASK_RUNS,
    UPDATE_TASK_RUN,
    Constant,
    CountTaskRuns,
    PaginateTaskRuns,
    Parameter,
    ReadTaskRuns,
    TaskRunCreate,
    TaskRunPolicy,
    TaskRunResult,
    TaskRunUpdate,
)
from headrace.server.store.tables import TASK_RUN
from headrace.server.store.transaction import Store
from tests.operations.runs_world import NOW, in_state, is_new, make_flow, make_run, make_task_run, spoil


def test_a_task_run_has_what_it_was_created_with(api: LocalClient) -> None:
    """A new task run keeps its fields, has the labels of its flow run, and begins as Pending."""
    flow = make_flow(api, labels={"team": "x"})
    run = make_run(api, flow, labels={"tier": 1})
    inputs: dict[str, Any] = {"x": [TaskRunResult(id=uuid7()), Parameter(name="p")], "y": [Constant(type="int")]}

    task_run = make_task_run(
        api,
        run,
        tags=["a"],
        labels={"own": True},
        task_inputs=inputs,
        empirical_policy=TaskRunPolicy(retries=2, retry_delay=[1, 2.5]),
        cache_key="k",
        task_version="v1",
    )

    assert api.call(READ_TASK_RUN, id=task_run.id) == task_run
    assert (task_run.name, task_run.task_key, task_run.dynamic_key, task_run.flow_run_id) == (
        "add-0",
        "add",
        "0",
        run.id,
    )
    assert (task_run.tags, task_run.task_inputs, task_run.cache_key, task_run.task_version) == (
        ["a"],
        inputs,
        "k",
        "v1",
    )
    assert (task_run.empirical_policy.retries, task_run.empirical_policy.retry_delay) == (2, [1, 2.5])
    assert task_run.labels == {
        "team": "x",
        "tier": 1,
        "own": True,
        "prefect.flow.id": str(flow.id),
        "prefect.flow-run.id": str(run.id),
    }
    assert task_run.state is not None
    assert (task_run.state_type, task_run.state.state_details.task_run_id) == (StateType.PENDING, task_run.id)
    assert (task_run.created, task_run.run_count) == (NOW, 0)


def test_a_flow_run_has_one_task_run_of_each_key(api: LocalClient, store: Store) -> None:
    """Creating a task run again finds the first; another flow run may use the same keys."""
    flow = make_flow(api)
    run, other = make_run(api, flow), make_run(api, flow)
    body = TaskRunCreate(flow_run_id=run.id, task_key="add", dynamic_key="0", name="first")
    first_time = is_new(store, CREATE_TASK_RUN, body=body)

    again = make_task_run(api, run, "0", name="again")
    elsewhere = make_task_run(api, other, "0")

    assert first_time
    assert (again.name, elsewhere.name) == ("first", "add-0")
    assert not is_new(store, CREATE_TASK_RUN, body=body)
    assert len(api.call(READ_TASK_RUN_STATES, task_run_id=again.id)) == 1


def test_an_id_stands_for_one_task_run(api: LocalClient) -> None:
    """A client may choose the id; the same call again finds the run, another run under the id is refused."""
    run, id = make_run(api, make_flow(api)), uuid7()
    made = make_task_run(api, run, "0", id=id)

    assert made.id == id
    assert make_task_run(api, run, "0", id=id).id == id
    with pytest.raises(ObjectAlreadyExists):
        make_task_run(api, run, "1", id=id)


def test_a_task_run_without_a_flow_run_is_fine(api: LocalClient) -> None:
    """Tasks may run by themselves."""
    task_run = make_task_run(api, None)

    assert (task_run.flow_run_id, task_run.labels) == (None, {})


@pytest.mark.parametrize(
    "policy", [{"retry_delay": [1] * 51}, {"retry_jitter_factor": -1.0}, {"retry_delay": "soon"}, {"retries": 1.5}]
)
def test_a_policy_that_makes_no_sense_is_refused(api: LocalClient, policy: dict[str, Any]) -> None:
    """More than fifty delays, a jitter below zero and what is no number are refused, and the place is named."""
    body = {"task_key": "add", "dynamic_key": "0", "empirical_policy": policy}

    with pytest.raises(ValidationFailed, match="empirical_policy"):
        api.call(CREATE_TASK_RUN, body=body)


def test_cache_keys_have_a_longest_length(api: LocalClient) -> None:
    """A cache key of 2000 characters is fine, a longer one is refused."""
    assert make_task_run(api, None, cache_key="k" * 2000).cache_key == "k" * 2000
    with pytest.raises(ValidationFailed, match="cache_key"):
        make_task_run(api, None, "1", cache_key="k" * 2001)


def test_a_name_is_changed(api: LocalClient) -> None:
    """An update changes the name; one that names nothing changes nothing."""
    task_run = make_task_run(api, None)

    api.call(UPDATE_TASK_RUN, id=task_run.id, body=TaskRunUpdate(name="new"))
    api.call(UPDATE_TASK_RUN, id=task_run.id, body=TaskRunUpdate())

    assert api.call(READ_TASK_RUN, id=task_run.id).name == "new"


def test_a_page_shows_the_name_of_the_flow_run(api: LocalClient) -> None:
    """The UI reads a task run with the name of its flow run, if it has one."""
    run = make_run(api, make_flow(api), "nightly")
    inside, alone = make_task_run(api, run), make_task_run(api, None, "1")

    assert api.call(READ_TASK_RUN_WITH_FLOW_RUN_NAME, id=inside.id).flow_run_name == "nightly"
    assert api.call(READ_TASK_RUN_WITH_FLOW_RUN_NAME, id=alone.id).flow_run_name is None


def test_a_task_run_is_deleted_with_its_states_and_lines(api: LocalClient) -> None:
    """Nothing of a deleted task run stays."""
    task_run = make_task_run(api, None)
    api.call(CREATE_LOGS, body=[LogCreate(name="n", level=20, message="m", timestamp=NOW, task_run_id=task_run.id)])

    api.call(DELETE_TASK_RUN, id=task_run.id)

    assert api.call(READ_TASK_RUN_STATES, task_run_id=task_run.id) == []
    assert api.call(READ_LOGS, body=ReadLogs()) == []


def test_what_is_not_there_is_not_found(api: LocalClient) -> None:
    """Reading, changing and deleting an unknown task run say so."""
    calls: list[tuple[Any, dict[str, Any]]] = [
        (READ_TASK_RUN, {}),
        (READ_TASK_RUN_WITH_FLOW_RUN_NAME, {}),
        (UPDATE_TASK_RUN, {"body": TaskRunUpdate(name="x")}),
        (DELETE_TASK_RUN, {}),
    ]
    for endpoint, arguments in calls:
        with pytest.raises(ObjectNotFound):
            api.call(endpoint, id=uuid7(), **arguments)


def test_task_runs_are_found_by_filters(api: LocalClient) -> None:
    """Each filter narrows lists and counts alike."""
    flow = make_flow(api)
    run, other = make_run(api, flow, "one"), make_run(api, flow, "two")
    done = make_task_run(api, run, "0", state=in_state("COMPLETED"), tags=["a", "b"])
    stand_in = make_task_run(api, run, "1", tags=["b"])
    make_run(api, flow, "child", parent_task_run_id=stand_in.id)
    make_task_run(api, other, "2", name="Other")
    make_task_run(api, None, "3")

    def names(chosen: TaskRunFilter | None = None, **scope: Any) -> list[str]:
        body = ReadTaskRuns(task_runs=chosen, sort=TaskRunSort.NAME_ASC, **scope)
        found = sorted(str(each.name) for each in api.call(READ_TASK_RUNS, body=body))
        assert api.call(COUNT_TASK_RUNS, body=CountTaskRuns(task_runs=chosen, **scope)) == len(found)
        return found

    completed = TaskRunFilterState(type=StateTypeIn(any_=[StateType.COMPLETED]))
    assert names() == ["Other", "add-0", "add-1", "add-3"]
    assert names(TaskRunFilter(id=IdIn(any_=[done.id]))) == ["add-0"]
    assert names(TaskRunFilter(state=completed)) == ["add-0"]
    assert names(TaskRunFilter(tags=TagsAll(all_=["b"]))) == ["add-0", "add-1"]
    assert names(TaskRunFilter(name=NameMatch(like_="OTH"))) == ["Other"]
    assert names(TaskRunFilter(subflow_runs=Exists(exists_=True))) == ["add-1"]
    assert names(TaskRunFilter(subflow_runs=Exists(exists_=False))) == ["Other", "add-0", "add-3"]
    assert names(TaskRunFilter(flow_run_id=NullableIdIn(is_null_=True))) == ["add-3"]
    assert names(flow_runs=FlowRunFilter(id=IdInOrNot(any_=[run.id]))) == ["add-0", "add-1"]


def test_pages_say_how_many_there_are(api: LocalClient) -> None:
    """A page has its part of the list, and the count of all."""
    run = make_run(api, make_flow(api))
    for number in range(5):
        make_task_run(api, run, str(number))

    page = api.call(PAGINATE_TASK_RUNS, body=PaginateTaskRuns(page=3, limit=2, sort=TaskRunSort.NAME_ASC))

    assert [each.name for each in page.results] == ["add-4"]
    assert (page.count, page.limit, page.page, page.pages) == (5, 2, 3, 3)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("state_type", "NONSENSE"),
        ("task_inputs", "[1]"),
        ("tags", '{"a": 1}'),
        ("empirical_policy", '{"retries": "x"}'),
    ],
)
def test_g13_a_broken_task_run_does_not_break_the_list(
    api: LocalClient, store: Store, caplog: pytest.LogCaptureFixture, column: str, value: str
) -> None:
    """A row that cannot be read is left out of lists and reported; the others are served."""
    run = make_run(api, make_flow(api))
    tasks = [make_task_run(api, run, str(number)) for number in range(3)]
    spoil(store, TASK_RUN, tasks[1].id, column, value)

    listed = api.call(READ_TASK_RUNS, body=ReadTaskRuns(sort=TaskRunSort.NAME_ASC))
    page = api.call(PAGINATE_TASK_RUNS, body=PaginateTaskRuns(sort=TaskRunSort.NAME_ASC))

    assert [each.name for each in listed] == [each.name for each in page.results] == ["add-0", "add-2"]
    assert str(tasks[1].id) in caplog.text
