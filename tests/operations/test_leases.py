"""Renewing leases, and the reaper, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import select

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.schemas.leases import RenewRunLeases, RunLease, RunLeasesRenewed
from headrace.schemas.states import SetStateStatus, StateType
from headrace.server.operations.leases import renew_run_leases
from headrace.server.services import leases
from headrace.server.services.leases import Reaper
from headrace.server.store.tables import FLOW_RUN, SLOT_LEASE, TASK_RUN_STATE
from headrace.server.store.transaction import Store
from headrace.settings import get_settings
from tests.operations.transitions_world import World, proposal

ACCEPT, REJECT, ABORT = SetStateStatus.ACCEPT, SetStateStatus.REJECT, SetStateStatus.ABORT
LEASE = 30.0


@pytest.fixture
def world(store: Store) -> World:
    """Runs on the database under test."""
    return World(store)


class Watching:
    """A reaper that looks each second of a clock that is moved."""

    def __init__(self, world: World, clock: ManualClock) -> None:
        self.world, self.clock = world, clock
        self.reaper = Reaper()

    def look(self) -> int:
        """One turn."""
        return self.reaper.run_once(self.world.store, get_settings())

    def watch(self, seconds: int) -> int:
        """Let seconds go by, with a look in each; how many things were done."""
        done = 0
        for _ in range(seconds):
            self.clock.advance(1)
            done += self.look()
        return done


@pytest.fixture
def watching(world: World, clock: ManualClock) -> Watching:
    """A reaper that has been looking for a while."""
    watching = Watching(world, clock)
    watching.look()
    watching.watch(60)
    return watching


def renew(world: World, *held: tuple[UUID, int]) -> RunLeasesRenewed:
    """Renew leases."""
    body = RenewRunLeases(leases=[RunLease(id=id, epoch=epoch) for id, epoch in held])
    return world.store.write(lambda tx: renew_run_leases(tx, body))


def claimed(world: World, **fields: object) -> UUID:
    """A run that a worker has claimed and that runs, as attempt 1."""
    run_id = world.flow_run(proposal("SCHEDULED"), **fields)
    assert world.propose(run_id, "PENDING", lease_seconds=LEASE).epoch == 1
    world.propose(run_id, "RUNNING", epoch=1)
    return run_id


def test_g6_renewing_keeps_a_run_alive(world: World, watching: Watching) -> None:
    """A run whose lease is renewed each third of its length outlives any number of them."""
    run_id = claimed(world)

    for _ in range(12):
        watching.watch(10)
        assert renew(world, (run_id, 1)) == RunLeasesRenewed(lost=[], cancelling=[])

    assert world.type(run_id) is StateType.RUNNING


def test_g6_a_run_that_is_not_renewed_crashes_within_its_lease_and_5_s(world: World, watching: Watching) -> None:
    """Nothing happens while the lease lives; then the run is CRASHED, with a message that says why."""
    run_id = claimed(world)

    watching.watch(29)
    before = world.type(run_id)
    watching.watch(6)

    run = world.run(run_id)
    assert before is StateType.RUNNING
    assert run.type is StateType.CRASHED
    assert run.state is not None
    assert "stopped renewing its lease" in str(run.state.message)
    assert (run.lease_until, world.column(run_id, "due")) == (None, None)


def test_g6_what_ran_inside_crashes_too(world: World, watching: Watching) -> None:
    """Open task runs and child runs of a dead attempt end with it; what had ended stays."""
    run_id = claimed(world)
    done = world.task_run(proposal("COMPLETED"), flow_run_id=run_id)
    busy = world.task_run(proposal("RUNNING"), flow_run_id=run_id)
    stands_for = world.task_run(proposal("RUNNING"), flow_run_id=run_id)
    child = world.flow_run(proposal("RUNNING"), parent_task_run_id=stands_for)
    grandtask = world.task_run(proposal("PENDING"), flow_run_id=child)

    watching.watch(35)

    types = [world.task(id).state_type for id in (done, busy, stands_for, grandtask)]
    assert types == ["COMPLETED", "CRASHED", "CRASHED", "CRASHED"]
    assert world.type(child) is StateType.CRASHED
    assert world.task(busy).end_time is not None
    assert world.states(busy) == ["Running", "Crashed"]


def test_g11_news_from_a_spool_may_still_correct_a_crashed_task_run(world: World, watching: Watching) -> None:
    """The end the server wrote does not count as news: what the process had recorded before it died is newer."""
    run_id = claimed(world)
    busy = world.task_run(proposal("RUNNING"), flow_run_id=run_id)
    known = world.task(busy).state_timestamp

    watching.watch(35)

    ended = world.store.read(
        lambda tx: tx.execute(
            select(TASK_RUN_STATE.c.timestamp).where(TASK_RUN_STATE.c.id == world.task(busy).state_id)
        ).scalar_one()
    )
    assert world.task(busy).state_timestamp == known
    assert ended > known


def test_g6_a_claim_that_did_not_begin_is_given_back(world: World, watching: Watching) -> None:
    """A worker that dies between its claim and the start leaves the run to the next worker."""
    deployment = world.deployment(slots=1)
    run_id = world.flow_run(proposal("SCHEDULED"), deployment_id=deployment)
    world.propose(run_id, "PENDING", lease_seconds=LEASE)

    watching.watch(35)

    assert world.type(run_id) is StateType.SCHEDULED
    assert world.slots_in_use() == 0
    assert world.propose(run_id, "RUNNING", epoch=1).status is ABORT
    assert world.propose(run_id, "PENDING", lease_seconds=LEASE).epoch == 3


def test_g6_a_retry_whose_process_died_is_for_whoever_takes_it_on(world: World, watching: Watching) -> None:
    """AwaitingRetry with a dead process is scheduled anew, and can be claimed."""
    policy = {"retries": 3, "retry_delay": 600}
    run_id = claimed(world, deployment_id=world.deployment(slots=1), empirical_policy=policy)
    world.propose(run_id, "FAILED", epoch=1)
    waiting = world.slots_in_use()

    watching.watch(35)

    run = world.run(run_id)
    assert waiting == 1
    assert run.state is not None
    assert (run.type, run.state.name) == (StateType.SCHEDULED, "AwaitingRetry")
    assert run.empirical_policy["retry_type"] == "reschedule"
    assert (run.lease_until, world.slots_in_use()) == (None, 0)
    assert world.propose(run_id, "PENDING", lease_seconds=LEASE).status is ACCEPT


def test_g6_after_an_outage_holders_get_time_to_renew(world: World, watching: Watching, clock: ManualClock) -> None:
    """A server that was away for an hour crashes nobody who renews within a lease time of its return."""
    alive, dead = claimed(world), claimed(world)
    clock.advance(3600)

    watching.look()
    watching.watch(20)
    assert renew(world, (alive, 1)).lost == []
    watching.watch(15)

    assert world.type(alive) is StateType.RUNNING
    assert world.type(dead) is StateType.CRASHED


def test_g6_a_new_reaper_waits_one_lease_time(world: World, clock: ManualClock) -> None:
    """A server that has just started ends nothing before holders had time to find it."""
    run_id = claimed(world)
    clock.advance(600)
    fresh = Watching(world, clock)

    fresh.look()
    fresh.watch(29)
    assert world.type(run_id) is StateType.RUNNING
    fresh.watch(2)

    assert world.type(run_id) is StateType.CRASHED


def test_g4_a_replaced_attempt_is_told_that_its_lease_is_lost(world: World, clock: ManualClock) -> None:
    """Lost: claimed by another, ended, given back, unknown, or never leased."""
    replaced, ended, given_back = claimed(world), claimed(world), claimed(world)
    foreign, unknown = world.flow_run(proposal("RUNNING")), uuid7()
    world.propose(replaced, "CRASHED")
    world.propose(replaced, "RUNNING", lease_seconds=LEASE)
    world.propose(ended, "COMPLETED", epoch=1)
    world.propose(given_back, "SCHEDULED", epoch=1)

    answer = renew(world, (replaced, 1), (ended, 1), (given_back, 1), (foreign, 0), (unknown, 1))

    assert answer.lost == [replaced, ended, given_back, foreign, unknown]
    assert renew(world, (replaced, 2)).lost == []


def test_g12_renewing_says_what_is_to_be_cancelled(world: World, clock: ManualClock) -> None:
    """The holder of a run that is being cancelled hears of it; the deadline of the cancelling stays."""
    run_id = claimed(world)
    world.propose(run_id, "CANCELLING")
    due = world.column(run_id, "due")
    clock.advance(5)

    answer = renew(world, (run_id, 1))

    assert answer == RunLeasesRenewed(lost=[], cancelling=[run_id])
    assert world.column(run_id, "due") == due


def test_g6_a_lease_that_has_passed_is_renewed_as_long_as_nothing_was_done(world: World, clock: ManualClock) -> None:
    """A holder that was slow, or could not reach the server, lives."""
    run_id = claimed(world)
    clock.advance(45)

    assert renew(world, (run_id, 1)).lost == []
    assert world.run(run_id).lease_until is not None


def test_g7_a_slot_without_its_run_is_freed(world: World, watching: Watching, clock: ManualClock) -> None:
    """A slot whose run was deleted, or whose time of grace is over, is free again after a turn."""
    deleted = claimed(world, deployment_id=world.deployment(slots=1))
    foreign = world.flow_run(proposal("SCHEDULED"), deployment_id=world.deployment(slots=1))
    world.propose(foreign, "PENDING")
    world.store.write(lambda tx: tx.execute(FLOW_RUN.delete().where(FLOW_RUN.c.id == deleted)))
    in_use = world.slots_in_use()

    watching.look()
    after_one_turn = world.slots_in_use()
    watching.watch(301)

    assert (in_use, after_one_turn, world.slots_in_use()) == (2, 1, 0)
    rows = world.store.read(lambda tx: tx.execute(select(SLOT_LEASE.c.id)).all())
    assert rows == []


def test_g13_a_broken_run_harms_only_itself(world: World, watching: Watching) -> None:
    """One run whose rows cannot be read is reported; the dead around it are crashed all the same."""
    runs = [claimed(world) for _ in range(5)]
    world.store.write(
        lambda tx: tx.execute(FLOW_RUN.update().where(FLOW_RUN.c.id == runs[2]).values(empirical_policy=[1, 2]))
    )

    watching.watch(35)

    types = [world.column(run_id, "state_type") for run_id in runs]
    assert types == ["CRASHED", "CRASHED", "RUNNING", "CRASHED", "CRASHED"]


def test_g7_slots_stay_below_the_limit_however_runs_end(world: World, watching: Watching) -> None:
    """Runs of a full deployment wait; each end, by whatever way, lets exactly one of them in."""
    deployment = world.deployment(slots=2)
    runs = [world.flow_run(proposal("SCHEDULED"), deployment_id=deployment) for _ in range(6)]
    ends = ["COMPLETED", "CRASHED", "CANCELLED", "FAILED"]
    seen = []
    for number, run_id in enumerate(runs):
        claim = world.propose(run_id, "PENDING", lease_seconds=LEASE)
        if claim.status is REJECT:
            world.propose(runs[number - 2], ends[number % 4])
            claim = world.propose(run_id, "PENDING", lease_seconds=LEASE)
        assert claim.status is ACCEPT
        seen.append(world.slots_in_use())

    watching.watch(36)

    assert max(seen) == 2
    assert world.slots_in_use() == 0


def test_g7_claims_that_race_for_a_slot_do_not_pass_the_limit(world: World) -> None:
    """Of many claims at one moment as many are accepted as there are slots."""
    deployment = world.deployment(slots=3)
    runs = [world.flow_run(proposal("SCHEDULED"), deployment_id=deployment) for _ in range(16)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda id: world.propose(id, "PENDING", lease_seconds=LEASE), runs))

    assert [answer.status for answer in answers].count(ACCEPT) == 3
    assert world.slots_in_use() == 3


def test_each_server_process_has_a_reaper_of_its_own() -> None:
    """What a reaper remembers belongs to the service that was made."""
    first, second = leases.service(), leases.service()

    assert first.name == second.name == "leases"
    assert first.run_once is not second.run_once


@pytest.mark.parametrize(("slots", "status"), [(0, ABORT), (1, REJECT)])
def test_a_claim_in_vain_holds_nothing(world: World, slots: int, status: SetStateStatus) -> None:
    """A claim that is refused, or put off because no slot is free, gets neither lease nor epoch."""
    deployment = world.deployment(slots=slots)
    first, run_id = (world.flow_run(proposal("SCHEDULED"), deployment_id=deployment) for _ in range(2))
    world.propose(first, "PENDING", lease_seconds=LEASE)

    answer = world.propose(run_id, "PENDING", lease_seconds=LEASE)

    assert (answer.status, answer.epoch) == (status, None)
    assert world.run(run_id).lease_until is None
