"""The operations that propose states and read them, as the API calls them."""

from typing import Any
from uuid import UUID

import pytest

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectNotFound
from headrace.schemas.filters import FlowRunFilter, IdInOrNot
from headrace.schemas.flow_runs import BulkSetFlowRunState, ResumeFlowRun, SetFlowRunState
from headrace.schemas.states import OrchestrationResult, SetStateStatus, StateAbortDetails, StateType
from headrace.schemas.task_runs import SetTaskRunState
from headrace.server.operations import states
from headrace.server.operations.registry import Existing
from headrace.server.operations.transitions import set_flow_run_state
from headrace.server.store.tables import FLOW_RUN_INPUT
from headrace.server.store.transaction import Store
from tests.operations.transitions_world import World, proposal, state_of
from tests.support.serving import ask, serving

ACCEPT, REJECT, WAIT, ABORT = SetStateStatus.ACCEPT, SetStateStatus.REJECT, SetStateStatus.WAIT, SetStateStatus.ABORT


@pytest.fixture
def world(store: Store) -> World:
    """Runs on the database under test."""
    return World(store)


def answered(result: OrchestrationResult | Existing) -> tuple[int, OrchestrationResult]:
    """The HTTP status an answer gets, and the answer."""
    return (200, result.value) if isinstance(result, Existing) else (201, result)


def set_state(world: World, run_id: UUID, type: str, **options: Any) -> tuple[int, OrchestrationResult]:
    """POST set_state of a flow run."""
    body = SetFlowRunState(state=proposal(type), **options)
    return answered(world.store.write(lambda tx: states.set_flow_run_state(tx, run_id, body)))


def resume(world: World, run_id: UUID, values: dict[str, Any] | None = None) -> tuple[int, OrchestrationResult]:
    """POST resume of a flow run."""
    body = ResumeFlowRun(run_input=values)
    return answered(world.store.write(lambda tx: states.resume_flow_run(tx, run_id, body)))


def test_a_new_state_is_201_and_any_other_answer_200(world: World, clock: ManualClock) -> None:
    """ACCEPT and a rejection with another state are new; ABORT, WAIT and a rejection that keeps the state are not."""
    waiting = world.flow_run(proposal("SCHEDULED", scheduled_time=clock.now().replace(hour=9)))
    run_id = world.flow_run(proposal("SCHEDULED"))

    answers = [
        set_state(world, waiting, "RUNNING"),
        set_state(world, waiting, "CANCELLING"),
        set_state(world, run_id, "PENDING"),
        set_state(world, run_id, "PENDING"),
        set_state(world, run_id, "PAUSED"),
    ]

    assert [(status, result.status) for status, result in answers] == [
        (200, WAIT),
        (201, REJECT),
        (201, ACCEPT),
        (200, ABORT),
        (200, REJECT),
    ]
    assert all(result.state is not None for _, result in answers)


def test_a_claim_over_the_api_carries_lease_and_epoch(world: World) -> None:
    """lease_seconds claims, the answer names the epoch, and epoch is checked from then on."""
    run_id = world.flow_run(proposal("SCHEDULED"))

    claim = set_state(world, run_id, "PENDING", lease_seconds=30.0)[1]
    begin = set_state(world, run_id, "RUNNING", epoch=claim.epoch)[1]
    stale = set_state(world, run_id, "COMPLETED", epoch=0)[1]

    assert (claim.epoch, begin.status, stale.status) == (1, ACCEPT, ABORT)


def test_task_runs_are_set_in_the_same_way(world: World) -> None:
    """201 with the new state; force passes by the rules."""
    run_id = world.task_run(flow_run_id=world.flow_run())

    def propose(force: bool) -> tuple[int, OrchestrationResult]:
        body = SetTaskRunState(state=proposal("RUNNING"), force=force)
        return answered(world.store.write(lambda tx: states.set_task_run_state(tx, run_id, body)))

    assert [(status, result.status) for status, result in map(propose, (False, True))] == [(200, ABORT), (201, ACCEPT)]


def test_many_runs_are_set_at_once(world: World) -> None:
    """bulk_set_state proposes one state for each run a filter finds, and answers for each."""
    runs = [world.flow_run(proposal(state)) for state in ("RUNNING", "COMPLETED", "RUNNING")]
    other = world.flow_run(proposal("RUNNING"))
    found = FlowRunFilter(id=IdInOrNot(any_=[*runs, uuid7()]))
    body = BulkSetFlowRunState(flow_runs=found, state=proposal("CANCELLING"))

    results = world.store.write(lambda tx: states.bulk_set_flow_run_state(tx, body)).results

    answers = {result.flow_run_id: result.status for result in results}
    assert answers == dict(zip(runs, [ACCEPT, ABORT, ACCEPT], strict=True))
    assert world.type(other) is StateType.RUNNING


def test_resuming_lets_a_paused_run_go_on(world: World) -> None:
    """A pause in a process goes on RUNNING, and is not counted as a new attempt."""
    run_id = world.flow_run(proposal("RUNNING"))
    set_state(world, run_id, "PAUSED")

    status, result = resume(world, run_id)

    assert (status, result.status, state_of(result).type) == (201, ACCEPT, StateType.RUNNING)
    assert world.run(run_id).empirical_policy["resuming"] is True


def test_resuming_a_suspended_run_schedules_it(world: World) -> None:
    """A run whose process has gone is scheduled now, named Resuming."""
    run_id = world.flow_run(proposal("RUNNING"), deployment_id=world.deployment())
    world.store.write(lambda tx: set_flow_run_state(tx, run_id, proposal("PAUSED", pause_reschedule=True)))

    status, result = resume(world, run_id)

    assert (status, state_of(result).type, state_of(result).name) == (201, StateType.SCHEDULED, "Resuming")
    assert world.run(run_id).run_count == 1


def test_what_is_not_paused_cannot_be_resumed(world: World) -> None:
    """200 with ABORT and no state; 404 for a run that does not exist."""
    status, result = resume(world, world.flow_run(proposal("RUNNING")))

    assert (status, result.status, result.state) == (200, ABORT, None)
    with pytest.raises(ObjectNotFound):
        resume(world, uuid7())


def waits_for_input(world: World, schema: str) -> UUID:
    """A paused run that asks for an input of this JSON schema."""
    run_id = world.flow_run(proposal("RUNNING"))
    keyset = {"schema": "s", "response": "r"}
    world.store.write(lambda tx: set_flow_run_state(tx, run_id, proposal("PAUSED", run_input_keyset=keyset)))
    row = {"id": uuid7(), "flow_run_id": run_id, "key": "s", "value": schema, "sender": None}
    world.store.write(lambda tx: tx.execute(FLOW_RUN_INPUT.insert(), {**row, "created": tx.now, "updated": tx.now}))
    return run_id


def test_a_run_gets_the_input_it_asks_for(world: World) -> None:
    """Input that fits the schema is stored under the response key; other input is rejected with its fault."""
    schema = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
    run_id = waits_for_input(world, schema)

    bad = [resume(world, run_id)[1], resume(world, run_id, {"n": "one"})[1]]
    good = resume(world, run_id, {"n": 1})[1]

    assert [result.status for result in bad] == [REJECT, REJECT]
    assert [result.state and result.state.type for result in bad] == ["PAUSED", "PAUSED"]
    assert isinstance(bad[1].details, StateAbortDetails)
    assert "n: " in str(bad[1].details.reason)
    assert good.status is ACCEPT
    stored = world.store.read(
        lambda tx: tx.execute(FLOW_RUN_INPUT.select().where(FLOW_RUN_INPUT.c.key == "r")).one().value
    )
    assert stored == '{"n":1}'


@pytest.mark.parametrize("schema", ["no json", '{"type": 7}'])
def test_a_schema_that_makes_no_sense_is_said(world: World, schema: str) -> None:
    """The run stays paused, and the answer says what is wrong."""
    run_id = waits_for_input(world, schema)

    result = resume(world, run_id, {})[1]

    assert result.status is REJECT
    assert world.type(run_id) is StateType.PAUSED


def test_states_are_read_by_id_and_by_run(world: World) -> None:
    """All states of a run in their order, and each by its id; an unknown id is not found."""
    run_id, task_id = world.flow_run(), world.task_run()
    set_state(world, run_id, "RUNNING")
    world.propose_task(task_id, proposal("RUNNING", data={"a": 1}))

    of_run = world.store.read(lambda tx: states.read_flow_run_states(tx, run_id))
    of_task = world.store.read(lambda tx: states.read_task_run_states(tx, task_id))

    assert [state.name for state in of_run] == ["Pending", "Running"]
    assert [state.name for state in of_task] == ["Pending", "Running"]
    assert world.store.read(lambda tx: states.read_flow_run_state(tx, of_run[0].id)) == of_run[0]
    assert world.store.read(lambda tx: states.read_task_run_state(tx, of_task[1].id)) == of_task[1]
    with pytest.raises(ObjectNotFound):
        world.store.read(lambda tx: states.read_flow_run_state(tx, uuid7()))
    assert world.store.read(lambda tx: states.read_task_run_states(tx, uuid7())) == []


@pytest.mark.parametrize(
    ("agent", "is_told"), [("prefect/3.8.8 (API 0.8.4)", True), ("prefect/3.4.10 (API 0.8.4)", False), ("curl", False)]
)
def test_g7_clients_that_renew_their_slot_are_told_of_its_lease(world: World, agent: str, is_told: bool) -> None:
    """Prefect from 3.4.11 on renews the lease of its slot; for others the slot lasts as long as the run."""
    run_id = world.flow_run(proposal("SCHEDULED"), deployment_id=world.deployment(slots=1))
    with serving(world.store) as url:
        answers = [
            ask(url, "POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": type}}, User_Agent=agent).json()
            for type in ("PENDING", "RUNNING")
        ]

    leases = [one["state"]["state_details"]["deployment_concurrency_lease_id"] is not None for one in answers]
    assert leases == [True, is_told]
    assert world.slots_in_use() == 1
