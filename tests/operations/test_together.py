"""Several calls as one transaction, which local mode offers to the engine."""

from uuid import UUID

import pytest

from headrace._internal.ids import uuid7
from headrace.client.client import Calls
from headrace.client.local import LocalClient
from headrace.exceptions import ObjectNotFound
from headrace.schemas.flow_runs import (
    CREATE_FLOW_RUN,
    READ_FLOW_RUN,
    SET_FLOW_RUN_STATE,
    FlowRun,
    FlowRunCreate,
    SetFlowRunState,
)
from headrace.schemas.flows import COUNT_FLOWS, CREATE_FLOW, CountFlows, FlowCreate
from headrace.schemas.states import READ_FLOW_RUN_STATES, OrchestrationResult, StateCreate, StateType


def test_a_run_is_created_and_begun_in_one_transaction(api: LocalClient) -> None:
    """A later call sees what an earlier one wrote, and the two states of the run have their order."""
    flow = api.call(CREATE_FLOW, body=FlowCreate(name="both"))

    def both(calls: Calls) -> tuple[FlowRun, OrchestrationResult]:
        made = calls.call(
            CREATE_FLOW_RUN, body=FlowRunCreate(flow_id=flow.id, state=StateCreate(type=StateType.PENDING))
        )
        claim = SetFlowRunState(state=StateCreate(type=StateType.RUNNING), lease_seconds=30)
        return made, calls.call(SET_FLOW_RUN_STATE, id=made.id, body=claim)

    made, answer = api.together(both)

    assert answer.epoch == 1
    assert api.call(READ_FLOW_RUN, id=made.id).state == answer.state
    states = api.call(READ_FLOW_RUN_STATES, flow_run_id=made.id)
    assert [state.type for state in states] == [StateType.PENDING, StateType.RUNNING]
    assert states[0].timestamp < states[1].timestamp


def test_nothing_is_done_when_one_of_them_is_refused(api: LocalClient) -> None:
    """The refusal of the second call undoes the first."""
    before = api.call(COUNT_FLOWS, body=CountFlows())

    def both(calls: Calls) -> UUID:
        made = calls.call(CREATE_FLOW, body=FlowCreate(name="undone"))
        calls.call(SET_FLOW_RUN_STATE, id=uuid7(), body=SetFlowRunState(state=StateCreate(type=StateType.RUNNING)))
        return made.id

    with pytest.raises(ObjectNotFound):
        api.together(both)

    assert api.call(COUNT_FLOWS, body=CountFlows()) == before
