"""The services that move runs which are overdue, on both databases."""

from uuid import UUID

import pytest

from headrace._internal.clock import ManualClock
from headrace.schemas.states import StateType
from headrace.server.operations.transitions import set_flow_run_state
from headrace.server.services import cancelling, late_runs, paused, pending
from headrace.server.store.tables import FLOW_RUN
from headrace.server.store.transaction import Store
from headrace.settings import get_settings, temporary_settings
from tests.operations.transitions_world import World, proposal


@pytest.fixture
def world(store: Store) -> World:
    """Runs on the database under test."""
    return World(store)


def turn(world: World, service: object) -> int:
    """One turn of a service."""
    return service.run_once(world.store, get_settings())  # type: ignore[attr-defined,no-any-return]


def test_g2_scheduled_runs_that_nobody_takes_on_are_marked_late(world: World, clock: ManualClock) -> None:
    """15 s after its time a scheduled run is Late, once; it keeps its time and can still be claimed."""
    run_id = world.flow_run(proposal("SCHEDULED"), deployment_id=world.deployment())
    later = world.flow_run(proposal("SCHEDULED", scheduled_time=clock.now().replace(hour=5)))
    clock.advance(14)
    early = turn(world, late_runs)
    clock.advance(2)

    turns = [turn(world, late_runs), turn(world, late_runs)]

    assert (early, turns) == (0, [1, 0])
    assert world.states(run_id) == ["Scheduled", "Late"]
    assert world.states(later) == ["Scheduled"]
    assert world.run(run_id).next_scheduled_start_time == world.run(run_id).expected_start_time
    assert world.propose(run_id, "PENDING", lease_seconds=30.0).epoch == 1


def test_late_runs_of_a_full_deployment_may_be_cancelled(world: World, clock: ManualClock) -> None:
    """With CANCEL_NEW a late run that would find no slot is cancelled."""
    deployment = world.deployment(slots=1, collision_strategy="CANCEL_NEW")
    first, second = (world.flow_run(proposal("SCHEDULED"), deployment_id=deployment) for _ in range(2))
    world.propose(first, "PENDING", lease_seconds=30.0)
    clock.advance(16)

    turn(world, late_runs)

    assert (world.type(first), world.type(second)) == (StateType.PENDING, StateType.CANCELLED)


def test_late_marking_can_be_switched_off(world: World, clock: ManualClock) -> None:
    """The setting that enables the service is heeded."""
    world.flow_run(proposal("SCHEDULED"))
    clock.advance(60)

    with temporary_settings(**{"server.services.late_runs.enabled": False}):
        assert turn(world, late_runs) == 0


def test_g12_a_run_taken_on_without_a_lease_has_to_begin(world: World, clock: ManualClock) -> None:
    """PENDING without a lease for 600 s: scheduled anew with a deployment, crashed without one."""
    deployed = world.flow_run(proposal("SCHEDULED"), deployment_id=world.deployment(slots=1))
    world.propose(deployed, "PENDING")
    by_hand = world.flow_run()
    clock.advance(599)
    early = turn(world, pending)
    clock.advance(2)

    done = turn(world, pending)

    assert (early, done) == (0, 2)
    assert (world.type(deployed), world.type(by_hand)) == (StateType.SCHEDULED, StateType.CRASHED)
    assert world.slots_in_use() == 0


def test_g12_the_setting_says_how_long_pending_may_last(world: World, clock: ManualClock) -> None:
    """server.runs.pending_timeout is the deadline of runs that become PENDING from then on."""
    with temporary_settings(**{"server.runs.pending_timeout": 10.0}):
        run_id = world.flow_run()
        clock.advance(11)

        turn(world, pending)

    assert world.type(run_id) is StateType.CRASHED


def test_g12_cancelling_ends_by_its_deadline(world: World, clock: ManualClock) -> None:
    """CANCELLING that nobody carries out becomes CANCELLED, with children and task runs, and slots are free."""
    parent = world.flow_run(proposal("SCHEDULED"), deployment_id=world.deployment(slots=1))
    world.propose(parent, "PENDING", lease_seconds=30.0)
    world.propose(parent, "RUNNING", epoch=1)
    task = world.task_run(proposal("RUNNING"), flow_run_id=parent)
    inside = world.flow_run(proposal("RUNNING"), parent_task_run_id=task)
    elsewhere = world.flow_run(proposal("RUNNING"), parent_task_run_id=task, deployment_id=world.deployment())
    world.propose(parent, "CANCELLING")
    clock.advance(59)
    turn(world, cancelling)
    before = world.type(parent)
    clock.advance(2)

    turn(world, cancelling)

    assert before is StateType.CANCELLING
    assert [world.type(id) for id in (parent, inside)] == [StateType.CANCELLED, StateType.CANCELLED]
    assert world.type(elsewhere) is StateType.CANCELLING
    assert world.task(task).state_type == "CANCELLED"
    assert world.slots_in_use() == 0


@pytest.mark.parametrize(("end", "child_end"), [("CANCELLED", "CANCELLED"), ("CRASHED", "CRASHED")])
def test_g12_children_follow_a_parent_that_was_ended_by_a_client(world: World, end: str, child_end: str) -> None:
    """When a client writes the end of a run, what it left open inside ends in the next turn, and only once."""
    parent, other = world.flow_run(proposal("RUNNING")), world.flow_run(proposal("RUNNING"))
    task, others_task = (world.task_run(proposal("RUNNING"), flow_run_id=id) for id in (parent, other))
    child = world.flow_run(proposal("RUNNING"), parent_task_run_id=task)
    world.propose(parent, end)

    turns = [turn(world, cancelling), turn(world, cancelling)]

    assert turns == [1, 0]
    assert world.type(child) == StateType(child_end)
    assert world.task(task).state_type == child_end
    assert world.task(others_task).state_type == "RUNNING"


def test_g12_a_pause_ends_with_its_time_out(world: World, clock: ManualClock) -> None:
    """A pause that nobody resumes in time fails its run, also while its process renews the lease."""
    timeout = clock.now().replace(minute=5)
    run_id = world.flow_run(proposal("RUNNING"))
    for_ever = world.flow_run(proposal("RUNNING"))
    world.store.write(lambda tx: set_flow_run_state(tx, run_id, proposal("PAUSED", pause_timeout=timeout)))
    world.propose(for_ever, "PAUSED")
    clock.advance(299)
    early = turn(world, paused)
    clock.advance(2)

    done = turn(world, paused)

    assert (early, done) == (0, 1)
    assert (world.type(run_id), world.type(for_ever)) == (StateType.FAILED, StateType.PAUSED)


@pytest.mark.parametrize("service", [late_runs, pending, cancelling, paused])
def test_g13_one_broken_run_harms_only_itself(world: World, clock: ManualClock, service: object) -> None:
    """A run whose row makes no sense is reported and left; the others are moved."""
    states = {late_runs: "SCHEDULED", pending: "PENDING", cancelling: "CANCELLING", paused: "PAUSED"}
    state = states[service]  # type: ignore[index]
    details = {"pause_timeout": clock.now()} if state == "PAUSED" else {}
    runs = [world.flow_run(proposal(state, **details)) for _ in range(4)]
    world.store.write(
        lambda tx: tx.execute(FLOW_RUN.update().where(FLOW_RUN.c.id == runs[0]).values(empirical_policy=[7]))
    )
    clock.advance(700)

    turn(world, service)

    def index(run_id: UUID) -> int:
        return int(world.column(run_id, "state_index"))

    assert [index(run_id) for run_id in runs] == [1, 2, 2, 2]


def test_services_do_nothing_when_nothing_is_overdue(world: World) -> None:
    """A turn on runs that are in time changes no row."""
    for state in ("SCHEDULED", "PENDING", "RUNNING", "COMPLETED"):
        world.flow_run(proposal(state))

    assert [turn(world, service) for service in (late_runs, pending, cancelling, paused)] == [0, 0, 0, 0]
