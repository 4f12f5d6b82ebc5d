"""Slots of a deployment's concurrency limit: taken, kept, given back.  # G7"""

from uuid import UUID

import pytest

from headrace.schemas.concurrency_limits import ConcurrencyLimitStrategy
from headrace.schemas.states import SetStateStatus, StateType
from headrace.server.rules.facts import FOREVER, FlowRunFacts, Slots
from headrace.server.rules.flow_runs import (
    FLOW_RUN_RULES,
    FORCED_FLOW_RUN_RULES,
    LATE_FLOW_RUN_RULES,
    RECONCILING_FLOW_RUN_RULES,
)
from headrace.server.rules.slots import ExtendSlot, FreeSlots, StandInLine, TakeSlot
from tests.unit.rules.runs import FlowRunWorld, kinds, seconds

SCHEDULED, PENDING, RUNNING, PAUSED = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED
CANCELLING, CANCELLED, COMPLETED, FAILED = (
    StateType.CANCELLING,
    StateType.CANCELLED,
    StateType.COMPLETED,
    StateType.FAILED,
)
ACCEPT, REJECT, ABORT = SetStateStatus.ACCEPT, SetStateStatus.REJECT, SetStateStatus.ABORT
LIMIT = UUID(int=3)


def facts(
    used: int = 0,
    limit: int = 1,
    held: bool = False,
    collision: ConcurrencyLimitStrategy = ConcurrencyLimitStrategy.ENQUEUE,
    grace: float | None = None,
) -> FlowRunFacts:
    """A deployment's limit as it stands."""
    return FlowRunFacts(
        slots=Slots(limit_id=LIMIT, limit=limit, used=used, held=held, collision=collision, grace=grace)
    )


def scheduled(slots: FlowRunFacts, **fields: object) -> FlowRunWorld:
    """A scheduled run of a deployment with a limit."""
    world = FlowRunWorld(deployment=True, facts=slots, **fields)  # type: ignore[arg-type]
    world.propose(SCHEDULED)
    return world


def test_a_claim_takes_a_slot_and_says_so() -> None:
    """PENDING with a free slot takes it for a time of grace, and its details carry the lease's id."""
    world = scheduled(facts())

    verdict = world.propose(PENDING)

    assert verdict.state is not None
    lease_id = verdict.state.state_details.deployment_concurrency_lease_id
    assert verdict.effects == (TakeSlot(LIMIT, lease_id, seconds(300)),)


def test_g7_the_slot_of_a_leased_run_lasts_as_long_as_the_run_is_held() -> None:
    """A claim with a lease takes a slot without an end of its own."""
    verdict = scheduled(facts()).propose(PENDING, lease=30)

    assert [effect.until for effect in verdict.effects if isinstance(effect, TakeSlot)] == [FOREVER]


def test_a_deployment_says_how_long_its_slots_wait() -> None:
    """grace_period_seconds of the deployment replaces the server's own time of grace."""
    verdict = scheduled(facts(grace=77)).propose(PENDING)

    assert [effect.until for effect in verdict.effects if isinstance(effect, TakeSlot)] == [seconds(77)]


def test_without_a_slot_a_run_waits() -> None:
    """ENQUEUE: the run is scheduled for a later try, takes nothing, and gets a place in line."""
    world = scheduled(facts(used=1))

    verdict = world.propose(PENDING, lease=30)

    assert verdict.status is REJECT
    assert verdict.state is not None
    assert (verdict.state.type, verdict.state.name) == (SCHEDULED, "AwaitingConcurrencySlot")
    assert verdict.state.state_details.scheduled_time == seconds(30)
    assert verdict.effects == (StandInLine((LIMIT,), seconds(30)),)
    assert (world.run.epoch, world.run.lease_until) == (0, None)


def test_without_a_slot_a_run_is_cancelled_where_the_deployment_asks_for_it() -> None:
    """CANCEL_NEW: the run is cancelled."""
    world = scheduled(facts(used=1, collision=ConcurrencyLimitStrategy.CANCEL_NEW))

    assert world.propose(PENDING).status is REJECT
    assert world.run.type is CANCELLED


@pytest.mark.parametrize("none", [facts(limit=0), FlowRunFacts(deployment_exists=False)])
def test_a_run_that_can_never_start_is_stopped(none: FlowRunFacts) -> None:
    """A limit of 0, or a deployment that is gone, ABORTs the claim."""
    assert scheduled(none).propose(PENDING).status is ABORT


def test_a_run_without_a_limit_needs_no_slot() -> None:
    """No limit, no effect."""
    verdict = scheduled(FlowRunFacts()).propose(PENDING)

    assert (verdict.status, verdict.effects) == (ACCEPT, ())


def test_a_client_that_renews_its_slot_keeps_the_lease() -> None:
    """A newer Prefect client that begins to run has its slot for another time of grace, and is told the lease."""
    world = scheduled(facts())
    world.propose(PENDING)
    world.facts = facts(held=True)
    world.now = seconds(100)

    verdict = world.propose(RUNNING, renews_slot=True)

    assert verdict.effects == (ExtendSlot(seconds(400)),)
    assert verdict.state is not None
    assert verdict.state.state_details.deployment_concurrency_lease_id is not None


def test_a_client_that_does_not_renew_keeps_its_slot_until_the_end() -> None:
    """An older client is told of no lease, for it would not renew it; its slot has no end of its own."""
    world = scheduled(facts())
    world.propose(PENDING)
    world.facts = facts(held=True)

    verdict = world.propose(RUNNING)

    assert [effect.until for effect in verdict.effects if isinstance(effect, ExtendSlot)][-1] == FOREVER
    assert verdict.state is not None
    assert verdict.state.state_details.deployment_concurrency_lease_id is None


def test_g7_a_run_whose_slot_was_given_up_needs_another_one() -> None:
    """A run that begins after its time of grace takes a new slot, or is cancelled when there is none."""
    lucky, late = scheduled(facts()), scheduled(facts())
    for world in (lucky, late):
        world.propose(PENDING)
        world.now = seconds(400)
    lucky.facts, late.facts = facts(used=0), facts(used=1)

    verdicts = lucky.propose(RUNNING), late.propose(RUNNING)

    assert [verdict.status for verdict in verdicts] == [ACCEPT, REJECT]
    assert kinds(verdicts[0].effects)[0] == "TakeSlot"
    assert late.run.type is CANCELLED


@pytest.mark.parametrize("end", [COMPLETED, FAILED, CANCELLED, StateType.CRASHED, SCHEDULED])
@pytest.mark.parametrize("policy", [FLOW_RUN_RULES, FORCED_FLOW_RUN_RULES, RECONCILING_FLOW_RUN_RULES])
def test_g7_a_run_that_stops_running_gives_its_slot_back(end: StateType, policy: object) -> None:
    """Whatever ends a run, by whatever rules, frees its slot."""
    world = scheduled(facts())
    world.propose(PENDING, lease=30)
    world.propose(RUNNING, epoch=1)

    verdict = world.propose(end, policy=policy)  # type: ignore[arg-type]

    assert verdict.effects[-1:] == (FreeSlots(),)


def test_g7_a_run_that_retries_on_the_spot_keeps_its_slot() -> None:
    """AwaitingRetry keeps slot and lease id; only when the retry is given up are they free."""
    world = scheduled(facts(), empirical_policy={"retries": 1})
    world.propose(PENDING, lease=30)
    world.propose(RUNNING, epoch=1)

    failed = world.propose(FAILED, epoch=1)
    given_up = world.propose(CANCELLED)

    assert "FreeSlots" not in kinds(failed.effects)
    assert failed.state is not None
    assert failed.state.state_details.deployment_concurrency_lease_id is not None
    assert "FreeSlots" in kinds(given_up.effects)


def test_g7_a_retry_that_is_scheduled_anew_gives_its_slot_back() -> None:
    """When the process of a retry has died, whoever takes the run on takes a slot of its own."""
    world = scheduled(facts(), empirical_policy={"retries": 1})
    world.propose(PENDING, lease=30)
    world.propose(RUNNING, epoch=1)
    world.propose(FAILED, epoch=1)

    verdict = world.propose(SCHEDULED, "AwaitingRetry", policy=RECONCILING_FLOW_RUN_RULES)

    assert "FreeSlots" in kinds(verdict.effects)


def test_a_pause_gives_the_slot_back() -> None:
    """A paused run is not counted."""
    world = scheduled(facts())
    world.propose(PENDING)
    world.propose(RUNNING)

    assert "FreeSlots" in kinds(world.propose(PAUSED).effects)


def test_a_run_that_is_late_because_its_deployment_is_full_may_be_cancelled() -> None:
    """With CANCEL_NEW and no free slot, marking a run late cancels it; with ENQUEUE it is late."""
    results = []
    for collision in ConcurrencyLimitStrategy:
        world = scheduled(facts(used=1, collision=collision))
        world.propose(SCHEDULED, "Late", policy=LATE_FLOW_RUN_RULES)
        results.append((collision, world.run.type))

    assert dict(results) == {
        ConcurrencyLimitStrategy.ENQUEUE: SCHEDULED,
        ConcurrencyLimitStrategy.CANCEL_NEW: CANCELLED,
    }


def test_a_rejected_claim_takes_no_slot() -> None:
    """Effects of rules that accepted are dropped when a later rule refuses."""
    world = scheduled(facts())
    world.propose(PENDING)
    taken = len(world.effects)

    assert world.propose(PENDING).status is ABORT
    assert len(world.effects) == taken


def test_cancelling_keeps_the_slot_until_cancelled() -> None:
    """What is being cancelled still runs."""
    world = scheduled(facts())
    world.propose(PENDING, lease=30)
    world.propose(RUNNING, epoch=1)

    assert "FreeSlots" not in kinds(world.propose(CANCELLING).effects)
    assert "FreeSlots" in kinds(world.propose(CANCELLED).effects)
