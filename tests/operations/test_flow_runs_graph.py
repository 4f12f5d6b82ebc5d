"""The graph of a flow run: its task runs and child runs, and what each took from which."""

import pytest

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import ObjectNotFound
from headrace.schemas.flow_runs import (
    READ_FLOW_RUN_GRAPH_V1,
    READ_FLOW_RUN_GRAPH_V2,
    SET_FLOW_RUN_STATE,
    FlowRun,
    Graph,
    SetFlowRunState,
)
from headrace.schemas.task_runs import TaskRunResult
from headrace.server.store.tables import TASK_RUN
from headrace.server.store.transaction import Store
from tests.operations.runs_world import at, in_state, make_flow, make_run, make_task_run, spoil


def graph(api: LocalClient, run: FlowRun, **since: object) -> Graph:
    """The graph of a run."""
    return api.call(READ_FLOW_RUN_GRAPH_V2, id=run.id, **since)


def test_edges_lead_from_result_to_input(api: LocalClient, clock: ManualClock) -> None:
    """A task run that took the result of another has it as a parent, and is its child; the first ones are roots."""
    run = make_run(api, make_flow(api), state=in_state("RUNNING"))
    first = make_task_run(api, run, "0", state=in_state("COMPLETED"))
    clock.advance(1)
    second = make_task_run(
        api, run, "1", task_inputs={"x": [TaskRunResult(id=first.id)], "y": [TaskRunResult(id=first.id)]}
    )

    drawn = graph(api, run)

    assert [(id, node.label, node.kind) for id, node in drawn.nodes] == [
        (first.id, "add-0", "task-run"),
        (second.id, "add-1", "task-run"),
    ]
    (_, above), (_, below) = drawn.nodes
    assert ([edge.id for edge in above.children], [edge.id for edge in below.parents]) == ([second.id], [first.id])
    assert drawn.root_node_ids == [first.id]
    assert (drawn.start_time, drawn.end_time) == (run.start_time, None)
    assert [state.name for state in drawn.states] == ["Running"]


def test_a_child_run_stands_where_its_task_run_was(api: LocalClient) -> None:
    """A child flow run is drawn in place of the task run that stands for it, with its edges."""
    flow = make_flow(api)
    run = make_run(api, flow)
    stand_in = make_task_run(api, run, "0")
    after = make_task_run(api, run, "1", task_inputs={"x": [TaskRunResult(id=stand_in.id)]})
    child = make_run(api, flow, "child", parent_task_run_id=stand_in.id)

    nodes = dict(graph(api, run).nodes)

    assert (nodes[child.id].kind, nodes[child.id].label) == ("flow-run", "etl / child")
    assert [edge.id for edge in nodes[after.id].parents] == [child.id]
    assert stand_in.id not in nodes


def test_a_call_inside_a_task_is_drawn_inside_it(api: LocalClient) -> None:
    """A task run made inside another one is inside it, and is no root."""
    run = make_run(api, make_flow(api))
    outer = make_task_run(api, run, "0")
    inner = make_task_run(api, run, "1", task_inputs={"__parents__": [TaskRunResult(id=outer.id)]})

    drawn = graph(api, run)

    node = dict(drawn.nodes)[inner.id]
    assert ([edge.id for edge in node.encapsulating], node.parents) == ([outer.id], [])
    assert drawn.root_node_ids == [outer.id]


def test_only_what_is_new_is_asked_for(api: LocalClient, clock: ManualClock) -> None:
    """With `since`, nodes that ended before are left out; edges to them stay."""
    run = make_run(api, make_flow(api), state=in_state("RUNNING"))
    ended = make_task_run(api, run, "0", state=in_state("COMPLETED"))
    clock.advance(60)
    open_one = make_task_run(api, run, "1", task_inputs={"x": [TaskRunResult(id=ended.id)]})
    api.call(SET_FLOW_RUN_STATE, id=run.id, body=SetFlowRunState(state=in_state("COMPLETED"), force=True))

    [(id, node)] = graph(api, run, since=at(seconds=30)).nodes

    assert id == open_one.id
    assert [edge.id for edge in node.parents] == [ended.id]


def test_the_first_form_of_the_graph_lists_upstream_task_runs(api: LocalClient) -> None:
    """Old clients get a list of task runs, each with those it took something from."""
    run = make_run(api, make_flow(api))
    first = make_task_run(api, run, "0")
    make_task_run(api, run, "1", task_inputs={"x": [TaskRunResult(id=first.id)]})

    listed = api.call(READ_FLOW_RUN_GRAPH_V1, id=run.id)

    assert [(each.name, [source.id for source in each.upstream_dependencies]) for each in listed] == [
        ("add-0", []),
        ("add-1", [first.id]),
    ]


def test_g13_a_broken_task_run_does_not_break_the_graph(api: LocalClient, store: Store) -> None:
    """A task run whose inputs cannot be read is left out of the graph; the others are drawn."""
    run = make_run(api, make_flow(api))
    tasks = [make_task_run(api, run, str(number)) for number in range(3)]
    spoil(store, TASK_RUN, tasks[1].id, "task_inputs", "[1, 2]")

    assert [node.label for _, node in graph(api, run).nodes] == ["add-0", "add-2"]
    assert [each.name for each in api.call(READ_FLOW_RUN_GRAPH_V1, id=run.id)] == ["add-0", "add-2"]


@pytest.mark.parametrize("endpoint", [READ_FLOW_RUN_GRAPH_V1, READ_FLOW_RUN_GRAPH_V2])
def test_a_run_that_is_not_there_has_no_graph(api: LocalClient, endpoint: object) -> None:
    """Asking for the graph of an unknown run says that it is not found."""
    with pytest.raises(ObjectNotFound):
        api.call(endpoint, id=uuid7())  # type: ignore[arg-type]
