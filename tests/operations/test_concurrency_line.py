"""First in, first out: whoever has waited longest for a slot gets it, runs and clients alike.  # G7"""

from typing import Any
from uuid import UUID, uuid4

import pytest

from headrace._internal.clock import ManualClock
from headrace.client.local import LocalClient
from headrace.schemas.states import SetStateStatus, StateType
from headrace.server.services.slots import run_once
from headrace.server.store.transaction import Store
from headrace.settings import get_settings
from tests.operations.concurrency_world import Limits
from tests.operations.transitions_world import World, proposal, state_of

SCHEDULED, PENDING, RUNNING, COMPLETED = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED


@pytest.fixture
def limits(api: LocalClient) -> Limits:
    """The calls about limits, on an empty store."""
    return Limits(api)


@pytest.fixture
def world(store: Store) -> World:
    """Runs in the same store."""
    return World(store)


def claim(world: World, run: UUID) -> Any:
    """Claim a run as a worker of headrace's does, and return the answer."""
    return world.propose(run, PENDING, lease_seconds=1_000)


def test_g7_a_freed_slot_goes_to_whoever_has_waited_longest(limits: Limits, clock: ManualClock) -> None:
    """Also when somebody else comes first, newcomer or not."""
    limits.make()
    lease = limits.take()
    first, second, third = uuid4(), uuid4(), uuid4()
    wait = limits.refused(holder=first)
    limits.refused(holder=second)
    limits.free(lease)
    clock.advance(wait)

    limits.refused(holder=third)
    limits.refused(holder=second)
    lease = limits.take(holder=first)
    limits.free(lease)
    limits.refused(holder=third)
    limits.take(holder=second)


def test_g7_who_does_not_come_back_loses_the_place(limits: Limits, clock: ManualClock) -> None:
    """After one and a half of the announced wait and two seconds, the next one is served."""
    limits.make()
    lease = limits.take()
    gone, here = uuid4(), uuid4()
    wait = limits.refused(holder=gone)
    limits.free(lease)

    clock.advance(1.5 * wait + 1.9)
    limits.refused(holder=here)
    clock.advance(0.2)
    limits.take(holder=here)


def test_g7_clients_that_cannot_be_told_apart_wait_in_line_too(limits: Limits, clock: ManualClock) -> None:
    """One that comes when a place is due has that place; one that comes earlier is a new one at the end."""
    limits.make(limit=2)
    lease = limits.take(slots=2)
    wait = limits.refused()
    known = uuid4()
    limits.refused(holder=known)
    limits.free(lease)

    clock.advance(wait + 0.01)
    limits.take(slots=1)
    limits.take(holder=known)
    limits.refused()


def test_g7_a_large_request_is_not_starved_by_small_ones(limits: Limits, clock: ManualClock) -> None:
    """What it waits for is kept together for it."""
    limits.make(limit=3)
    leases = [limits.take() for _ in range(3)]
    large = uuid4()
    limits.refused(holder=large, slots=3)

    for lease in leases:
        limits.free(lease)
        limits.refused(holder=uuid4())
        clock.advance(0.1)
    limits.take(holder=large, slots=3)


def test_g7_who_waits_for_several_limits_holds_nobody_up_for_ever(limits: Limits, clock: ManualClock) -> None:
    """Two that wait for the same two limits, named in either order, are served one after the other."""
    limits.make("a")
    limits.make("b")
    lease = limits.take("b")
    one, two = uuid4(), uuid4()
    limits.refused("a", "b", holder=one)
    limits.refused("b", "a", holder=two)
    limits.free(lease)
    clock.advance(1)

    limits.refused("b", "a", holder=two)
    limits.free(limits.take("b", "a", holder=one))
    limits.take("a", "b", holder=two)


def test_g7_runs_that_wait_for_their_deployment_are_woken_in_turn(world: World, clock: ManualClock) -> None:
    """The one that waited longest is scheduled for now when the slot is free, and a newcomer has to wait."""
    deployment = world.deployment(slots=1)
    runs = [world.flow_run(proposal(SCHEDULED), deployment_id=deployment) for _ in range(4)]
    claim(world, runs[0])
    for run in runs[1:3]:
        assert state_of(claim(world, run)).name == "AwaitingConcurrencySlot"
        clock.advance(1)
    assert run_once(world.store, get_settings()) == 0
    world.propose(runs[0], COMPLETED)

    assert run_once(world.store, get_settings()) == 1
    assert run_once(world.store, get_settings()) == 0
    assert world.column(runs[1], "next_scheduled_start_time") == clock.now()
    assert world.column(runs[2], "next_scheduled_start_time") > clock.now()
    assert state_of(claim(world, runs[3])).name == "AwaitingConcurrencySlot"
    assert claim(world, runs[1]).status is SetStateStatus.ACCEPT


def test_g7_a_run_that_is_called_off_leaves_the_line(world: World) -> None:
    """Cancelled, or scheduled for another time, it holds up nobody."""
    deployment = world.deployment(slots=1)
    runs = [world.flow_run(proposal(SCHEDULED), deployment_id=deployment) for _ in range(4)]
    for run in runs[:3]:
        claim(world, run)
    world.propose(runs[1], "CANCELLED")
    world.propose(runs[2], SCHEDULED)
    world.propose(runs[0], COMPLETED)

    assert claim(world, runs[3]).status is SetStateStatus.ACCEPT


def test_g7_task_runs_wait_in_line_for_the_slots_of_their_tags(world: World, clock: ManualClock) -> None:
    """A task run that is told to wait is served before one that comes later."""
    flow_run = world.flow_run(proposal(PENDING))
    world.propose(flow_run, RUNNING)
    world.limit("tag:db", 1)
    tasks = [world.task_run(proposal(PENDING), flow_run_id=flow_run, tags=["db"]) for _ in range(3)]
    answers = [world.propose_task(task, proposal(RUNNING)).status for task in tasks[:2]]
    assert answers == [SetStateStatus.ACCEPT, SetStateStatus.WAIT]
    world.propose_task(tasks[0], proposal(COMPLETED))
    clock.advance(5)

    assert world.propose_task(tasks[2], proposal(RUNNING)).status is SetStateStatus.WAIT
    assert world.propose_task(tasks[1], proposal(RUNNING)).status is SetStateStatus.ACCEPT


def test_g7_a_run_that_lost_its_slot_before_it_began_need_not_wait_in_line(world: World, clock: ManualClock) -> None:
    """Prefect's engine is given another slot when it begins late and one is free, though others wait."""
    deployment = world.deployment(slots=1)
    runs = [world.flow_run(proposal(SCHEDULED), deployment_id=deployment) for _ in range(2)]
    world.propose(runs[0], PENDING)
    clock.advance(290)
    claim(world, runs[1])
    clock.advance(11)

    assert world.propose(runs[0], RUNNING).status is SetStateStatus.ACCEPT
    assert world.slots_in_use() == 1
