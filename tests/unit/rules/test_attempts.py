"""Who may write for a run: claims, epochs, leases."""

import pytest

from headrace.schemas.states import SetStateStatus, StateType
from headrace.server.rules.flow_runs import FORCED_FLOW_RUN_RULES, RECONCILING_FLOW_RUN_RULES
from tests.unit.rules.runs import FlowRunWorld, seconds

SCHEDULED, PENDING, RUNNING, PAUSED = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED
CANCELLING, COMPLETED, CRASHED = StateType.CANCELLING, StateType.COMPLETED, StateType.CRASHED
ACCEPT, REJECT, ABORT = SetStateStatus.ACCEPT, SetStateStatus.REJECT, SetStateStatus.ABORT


def claimed(deployment: bool = True, **fields: object) -> FlowRunWorld:
    """A world whose run a worker has claimed, as attempt 1 with a lease of 30 s."""
    world = FlowRunWorld(deployment=deployment, **fields)  # type: ignore[arg-type]
    world.propose(SCHEDULED)
    world.propose(PENDING, lease=30)
    return world


def test_g4_a_claim_begins_an_attempt_with_a_lease() -> None:
    """PENDING with a lease raises the epoch, and says until when the holder has to renew."""
    run = claimed().run

    assert (run.epoch, run.lease_until, run.lease_seconds) == (1, seconds(30), 30)


def test_g4_a_run_by_hand_claims_as_it_begins() -> None:
    """RUNNING with a lease and without an epoch is a claim."""
    world = FlowRunWorld()
    world.propose(PENDING)

    world.propose(RUNNING, lease=90)

    assert (world.run.epoch, world.run.lease_until) == (1, seconds(90))


@pytest.mark.parametrize("type", [PENDING, RUNNING])
def test_g4_a_second_claim_is_told_to_stop(type: StateType) -> None:
    """While an attempt holds the run, neither a worker nor a run by hand can claim it."""
    world = claimed()

    assert world.propose(type, lease=30).status is ABORT
    assert world.propose(type, "Submitting", lease=30).status is ABORT
    assert world.run.epoch == 1


def test_g4_running_on_a_held_running_run_is_refused() -> None:
    """A client that knows no epoch cannot start a run that runs, while its lease lives; after that it can."""
    world = claimed()
    world.propose(RUNNING, epoch=1)

    early = world.propose(RUNNING)
    world.now = seconds(31)
    late = world.propose(RUNNING)

    assert (early.status, late.status) == (ABORT, ACCEPT)
    assert world.run.epoch == 2
    assert world.propose(COMPLETED, epoch=1).status is ABORT


def test_g4_the_child_of_a_worker_may_begin_without_an_epoch() -> None:
    """A client without epochs that a worker of headrace started begins to run under the worker's lease."""
    world = claimed()

    assert world.propose(RUNNING).status is ACCEPT
    assert (world.run.epoch, world.run.lease_until) == (1, seconds(30))
    assert world.propose(RUNNING).status is ABORT


@pytest.mark.parametrize("policy", [None, FORCED_FLOW_RUN_RULES])
def test_g4_a_replaced_attempt_is_told_to_stop(policy: object) -> None:
    """A write with an old epoch is ABORTed whatever it proposes, forced or not."""
    world = claimed()
    world.propose(SCHEDULED, policy=RECONCILING_FLOW_RUN_RULES)
    world.propose(PENDING, lease=30)
    old = 1
    options = {} if policy is None else {"policy": policy}

    answers = {world.propose(type, epoch=old, **options).status for type in StateType}  # type: ignore[arg-type]

    assert answers == {ABORT}
    assert world.run.type is PENDING


def test_g4_each_write_of_the_holder_renews_its_lease() -> None:
    """A proposal with the run's epoch extends the lease by its length."""
    world = claimed()
    world.now = seconds(20)

    world.propose(RUNNING, epoch=1)

    assert world.run.lease_until == seconds(50)


def test_g5_an_ended_attempt_does_not_go_on() -> None:
    """A process that was declared dead changes nothing any more, neither by running on nor by an end of its own."""
    world = claimed()
    world.propose(RUNNING, epoch=1)
    world.propose(CRASHED, policy=RECONCILING_FLOW_RUN_RULES)

    go_on, tell = world.propose(RUNNING, epoch=1), world.propose(COMPLETED, epoch=1)

    assert (go_on.status, tell.status) == (ABORT, ABORT)
    assert world.run.type is CRASHED


def test_g6_the_end_that_came_while_the_server_was_away_counts() -> None:
    """A forced end of the same attempt, as a spool delivers it, corrects the reaper's; running on is refused."""
    world = claimed()
    world.propose(RUNNING, epoch=1)
    world.propose(CRASHED, policy=RECONCILING_FLOW_RUN_RULES)

    go_on = world.propose(RUNNING, epoch=1, policy=FORCED_FLOW_RUN_RULES)
    tell = world.propose(COMPLETED, epoch=1, policy=FORCED_FLOW_RUN_RULES)

    assert (go_on.status, tell.status) == (ABORT, ACCEPT)
    assert world.run.type is COMPLETED


def test_g5_a_retry_begins_a_new_epoch() -> None:
    """Once a run is scheduled again after its end, the attempt before is heard no more."""
    world = claimed()
    world.propose(RUNNING, epoch=1)
    world.propose(CRASHED)

    world.propose(SCHEDULED)

    assert world.run.epoch == 2
    assert world.propose(COMPLETED, epoch=1).status is ABORT


def test_g5_a_final_state_ends_the_lease() -> None:
    """A run that has ended is held by nobody."""
    world = claimed()

    world.propose(COMPLETED, epoch=1)

    assert (world.run.lease_until, world.run.lease_seconds, world.run.epoch) == (None, None, 1)


def test_a_holder_that_gives_its_run_back_leaves_it_to_others() -> None:
    """A worker that stops puts its claim back: no lease, same epoch until the next claim."""
    world = claimed()

    world.propose(SCHEDULED, epoch=1)

    assert (world.run.epoch, world.run.lease_until) == (1, None)
    assert world.propose(PENDING, lease=30).status is ACCEPT
    assert world.run.epoch == 2


def test_g4_a_run_scheduled_anew_by_someone_else_is_lost_to_its_holder() -> None:
    """A person who schedules a running run again takes it from its process."""
    world = claimed()
    world.propose(RUNNING, epoch=1)

    world.propose(SCHEDULED)

    assert world.propose(COMPLETED, epoch=1).status is ABORT


def test_a_retry_in_process_is_kept_for_its_process() -> None:
    """While a process sleeps until its retry, its lease lives, and nobody else can take the run on."""
    world = claimed(empirical_policy={"retries": 1, "retry_delay": 60})
    world.propose(RUNNING, epoch=1)
    world.propose(StateType.FAILED, epoch=1)

    others = [world.propose(PENDING), world.propose(PENDING, lease=30), world.propose(RUNNING, lease=30)]

    assert [verdict.status for verdict in others] == [ABORT, ABORT, ABORT]
    assert world.run.lease_until == seconds(30)
    assert world.propose(CANCELLING).status is ACCEPT


def test_a_paused_run_is_resumed_under_its_lease() -> None:
    """Whoever resumes a pause lets its process go on; a suspended run is held by nobody."""
    world = claimed()
    world.propose(RUNNING, epoch=1)
    world.propose(PAUSED, epoch=1)
    assert world.propose(RUNNING, lease=30).status is ABORT

    assert world.propose(RUNNING).status is ACCEPT
    assert (world.run.epoch, world.run.lease_until) == (1, seconds(30))

    world.propose(PAUSED, epoch=1, pause_reschedule=True)
    assert world.run.lease_until is None


def test_g4_a_claim_does_not_take_over_a_run_without_a_lease() -> None:
    """A run that a client without leases runs cannot be claimed by RUNNING."""
    world = FlowRunWorld()
    world.propose(RUNNING)

    assert world.propose(RUNNING, lease=30).status is ABORT
    assert world.propose(RUNNING).status is ACCEPT


def test_g4_a_claim_does_not_join_a_run_that_was_taken_on_without_a_lease() -> None:
    """PENDING under another name is how a Prefect worker proceeds; a worker with a lease cannot take the run so."""
    world = FlowRunWorld(deployment=True)
    world.propose(PENDING)

    assert world.propose(PENDING, "Submitting", lease=30).status is ABORT
    assert world.propose(PENDING, "Submitting").status is ACCEPT
