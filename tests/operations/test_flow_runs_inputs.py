"""Inputs of flow runs: handed over once under a key, read, found by prefix, taken away."""

import pytest

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import ObjectAlreadyExists, ObjectNotFound
from headrace.schemas.flow_runs import (
    CREATE_FLOW_RUN_INPUT,
    DELETE_FLOW_RUN_INPUT,
    FILTER_FLOW_RUN_INPUT,
    READ_FLOW_RUN_INPUT,
    CreateFlowRunInput,
    FilterFlowRunInput,
    FlowRun,
)
from tests.operations.runs_world import at, make_flow, make_run


@pytest.fixture
def run(api: LocalClient) -> FlowRun:
    """A flow run without inputs."""
    return make_run(api, make_flow(api))


def give(api: LocalClient, run: FlowRun, key: str, value: str) -> None:
    """Hand a value to a run."""
    api.call(CREATE_FLOW_RUN_INPUT, id=run.id, body=CreateFlowRunInput(key=key, value=value, sender="me"))


def test_an_input_is_read_as_it_was_handed_over(api: LocalClient, run: FlowRun) -> None:
    """A value comes back as the text it is, whether that is JSON or not."""
    give(api, run, "number", '{"x": [1, null]}')
    give(api, run, "text", "hello")

    assert api.call(READ_FLOW_RUN_INPUT, id=run.id, key="number") == b'{"x": [1, null]}'
    assert api.call(READ_FLOW_RUN_INPUT, id=run.id, key="text") == b"hello"


def test_a_key_is_used_once(api: LocalClient, run: FlowRun) -> None:
    """A second value under a key is refused; another run may use the key."""
    give(api, run, "answer", "1")

    with pytest.raises(ObjectAlreadyExists, match="answer"):
        give(api, run, "answer", "2")
    give(api, make_run(api, make_flow(api)), "answer", "3")

    assert api.call(READ_FLOW_RUN_INPUT, id=run.id, key="answer") == b"1"


def test_inputs_are_found_by_prefix_oldest_first(api: LocalClient, run: FlowRun, clock: ManualClock) -> None:
    """A list holds the inputs whose keys begin as asked, without those that were seen, in the order they came."""
    for key in ("chat-2", "chat-1", "chat-3", "other", "chatter"):
        give(api, run, key, "1")
        clock.advance(1)

    found = api.call(
        FILTER_FLOW_RUN_INPUT,
        id=run.id,
        body=FilterFlowRunInput(prefix="chat-", limit=2, exclude_keys=["chat-1"]),
    )

    assert [each.key for each in found] == ["chat-2", "chat-3"]
    assert (found[0].sender, found[0].flow_run_id, found[1].created) == ("me", run.id, at(seconds=2))


@pytest.mark.parametrize("prefix", ["c%", "c_", "C"])
def test_a_prefix_is_taken_as_it_is_written(api: LocalClient, run: FlowRun, prefix: str) -> None:
    """Signs that mean something to the database mean nothing in a prefix, and capitals matter."""
    give(api, run, "chat-1", "1")

    assert api.call(FILTER_FLOW_RUN_INPUT, id=run.id, body=FilterFlowRunInput(prefix=prefix, limit=10)) == []


def test_an_input_is_taken_away(api: LocalClient, run: FlowRun) -> None:
    """A deleted input is gone, and its key is free again."""
    give(api, run, "answer", "1")

    api.call(DELETE_FLOW_RUN_INPUT, id=run.id, key="answer")

    with pytest.raises(ObjectNotFound):
        api.call(READ_FLOW_RUN_INPUT, id=run.id, key="answer")
    with pytest.raises(ObjectNotFound):
        api.call(DELETE_FLOW_RUN_INPUT, id=run.id, key="answer")
    give(api, run, "answer", "2")


def test_a_run_that_is_not_there_takes_no_input(api: LocalClient) -> None:
    """Handing something to an unknown run says that it is not found."""
    body = CreateFlowRunInput(key="a", value="1")

    with pytest.raises(ObjectNotFound):
        api.call(CREATE_FLOW_RUN_INPUT, id=uuid7(), body=body)
