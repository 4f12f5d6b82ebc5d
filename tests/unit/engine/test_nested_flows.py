"""Flows called in flows: child runs, the task runs that stand for them, and futures of flows."""

import asyncio
from typing import Any

import pytest

from headrace import flow, tags, task
from headrace.client import get_client
from headrace.exceptions import UpstreamTaskError
from headrace.runtime import flow_run
from headrace.schemas.flow_runs import READ_FLOW_RUN
from headrace.settings import temporary_settings
from tests.unit.engine import recorded
from tests.unit.engine.conftest import Driver


def test_a_child_run_has_a_task_run_in_its_parent(driver: Driver) -> None:
    """It carries the child's states, links to it, and its inputs tell where the child's parameters came from."""
    number = task(lambda: [1], name="number")
    child = driver.flow(lambda x: x, name="child")

    async def body_async() -> Any:
        return await child(number())

    def body() -> Any:
        return child(number())

    outer = flow(name="parent")(body_async if driver.asynchronous else body)
    state = driver.run(outer(return_state=True))

    first, second = recorded.task_runs(state.state_details.flow_run_id)
    assert (second.name, second.state_name, second.run_count) == ("child-0", "Completed", 1)
    assert [item.id for item in second.task_inputs["x"]] == [first.id]
    assert recorded.task_run_states(second.id) == ["Pending", "Running", "Completed"]
    assert second.state is not None
    child_run = get_client().call(READ_FLOW_RUN, id=second.state.state_details.child_flow_run_id)
    assert (child_run.parent_task_run_id, child_run.parameters, child_run.state_name) == (
        second.id,
        {"x": [1]},
        "Completed",
    )


def test_a_child_takes_two_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made and begun in one, and what it recorded is stored with its final state: each waits for a commit."""
    child = flow(lambda: None, name="short")
    written = []

    @flow
    def parent() -> None:
        child()  # the first one makes the flow, too
        store = get_client().store  # type: ignore[attr-defined]
        write = store.write
        monkeypatch.setattr(store, "write", lambda function: written.append(1) or write(function))
        child()
        monkeypatch.undo()

    with temporary_settings({"recording.batch_seconds": 60}):  # nothing is sent but with the end, however slow we are
        parent()

    assert len(written) == 2


def test_a_child_that_fails_is_shown_as_failed_in_its_parent() -> None:
    """The parent may go on; the task run that stands for the child is Failed."""

    @flow
    def child() -> None:
        raise ValueError("inner")

    @flow
    def parent() -> str:
        return child(return_state=True).message

    state = parent(return_state=True)

    assert state.result() == "Flow run encountered an exception: ValueError: inner"
    (run,) = recorded.task_runs(state.state_details.flow_run_id)
    assert run.state_name == "Failed"


def test_children_can_be_submitted_and_mapped() -> None:
    """`Flow.submit` and `Flow.map` give futures like a task's."""

    @flow
    def child(x: int, y: int = 1) -> int:
        return x + y

    @flow
    async def child_async(x: int) -> int:
        await asyncio.sleep(0)
        return -x

    @flow
    def parent() -> Any:
        mapped = child.map([1, 2, 3], y=10)
        later = child.submit(mapped[0])
        return mapped.result(), later.result(), child_async.map([1, 2]).result(), later.state.name

    assert parent() == ([11, 12, 13], 12, [-1, -2], "Completed")


def test_a_child_waits_for_what_it_is_told_to() -> None:
    """A child whose upstream failed does not run, and asking for its result says so."""

    @task
    def fail() -> None:
        raise ValueError

    @flow
    def child() -> int:
        return 1

    @flow
    def parent() -> Any:
        with pytest.raises(UpstreamTaskError):
            child(wait_for=[fail.submit()])
        return child(wait_for=[task(lambda: 1).submit()])

    assert parent() == 1


def test_runs_know_their_parents() -> None:
    """`runtime.flow_run` names the parent and the root."""

    @flow
    def inner() -> Any:
        return flow_run.parent_flow_run_id, flow_run.root_flow_run_id

    @flow
    def middle() -> Any:
        return flow_run.id, inner()

    @flow
    def outer() -> Any:
        return flow_run.id, flow_run.parent_flow_run_id, middle()

    outermost, nothing, (second, (parent, root)) = outer()

    assert (nothing, parent, root) == (None, second, outermost)


def test_tags_reach_child_runs_and_tasks() -> None:
    """Tags in force where a run is called are added to its own."""

    @task(tags=["own"])
    def inner() -> Any:
        from headrace.runtime import task_run

        return task_run.tags

    @flow
    def child() -> Any:
        return flow_run.tags

    @flow
    def parent() -> Any:
        with tags("inner"):
            return flow_run.tags, child(), sorted(inner())

    with tags("outer"):
        assert parent() == (["outer"], ["inner", "outer"], ["inner", "outer", "own"])
