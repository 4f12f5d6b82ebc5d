"""When a run is overdue, and what becomes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.schemas.states import FINAL, StateCreate, StateType
from headrace.server.rules.change import FlowRunNow
from headrace.server.rules.deadlines import (
    Watch,
    due,
    lease_has_ended,
    look,
    when_cancelling_lasts,
    when_holder_died,
    when_late,
    when_never_begun,
    when_parent_ended,
    when_pause_lasts,
)
from headrace.server.rules.facts import Times
from tests.unit.rules.runs import DEPLOYMENT, ID, FlowRunWorld, seconds, state

TIMES = Times()
SCHEDULED, PENDING, RUNNING, PAUSED = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED
CANCELLING, CANCELLED, CRASHED, FAILED = (
    StateType.CANCELLING,
    StateType.CANCELLED,
    StateType.CRASHED,
    StateType.FAILED,
)


def made(proposed: StateCreate | None) -> StateType | None:
    """The type of what is proposed."""
    return None if proposed is None else proposed.type


def test_g2_every_state_that_can_last_for_ever_has_a_deadline() -> None:
    """Each kind of waiting names its time; final states, and runs whose clients have no lease, have none."""
    leased = seconds(30)
    deadlines = {
        "scheduled": due(state(SCHEDULED, scheduled_time=seconds(5)), None, None, TIMES),
        "late": due(state(SCHEDULED, "Late", scheduled_time=seconds(5)), None, None, TIMES),
        "retry of a foreign process": due(
            state(SCHEDULED, "AwaitingRetry", scheduled_time=seconds(5)), None, "in_process", TIMES
        ),
        "retry of a process": due(state(SCHEDULED, "AwaitingRetry"), leased, "in_process", TIMES),
        "claimed": due(state(PENDING), leased, None, TIMES),
        "claimed without a lease": due(state(PENDING), None, None, TIMES),
        "running": due(state(RUNNING), leased, None, TIMES),
        "running without a lease": due(state(RUNNING), None, None, TIMES),
        "paused": due(state(PAUSED, pause_timeout=seconds(9)), leased, None, TIMES),
        "paused by a process": due(state(PAUSED, pause_timeout=seconds(900)), leased, None, TIMES),
        "cancelling": due(state(CANCELLING), leased, None, TIMES),
        "final": due(state(StateType.COMPLETED), None, None, TIMES),
    }

    assert deadlines == {
        "scheduled": seconds(20),
        "late": None,
        "retry of a foreign process": seconds(605),
        "retry of a process": leased,
        "claimed": leased,
        "claimed without a lease": seconds(600),
        "running": leased,
        "running without a lease": None,
        "paused": seconds(9),
        "paused by a process": leased,
        "cancelling": seconds(60),
        "final": None,
    }


def held(
    type: StateType, until: float = 30, lease: float = 30, deployment: bool = True, **fields: object
) -> FlowRunNow:
    """A run that an attempt holds."""
    return FlowRunNow(
        id=ID,
        deployment_id=DEPLOYMENT if deployment else None,
        state=state(type),
        lease_until=seconds(until),
        lease_seconds=lease,
        epoch=1,
        **fields,  # type: ignore[arg-type]
    )


def watched(*looks: float) -> Watch:
    """The watch of a reaper that looked at these seconds."""
    watch = None
    for moment in looks:
        watch = look(watch, seconds(moment))
    assert watch is not None
    return watch


def test_g6_a_lease_that_ended_under_watch_has_ended() -> None:
    """With the reaper looking each second, a lease ends when its time is over and not before."""
    watch = watched(*range(-60, 31))

    assert not lease_has_ended(held(RUNNING), seconds(29), watch, 3)
    assert lease_has_ended(held(RUNNING), seconds(30), watch, 3)


def test_g6_nothing_ends_within_one_lease_time_of_the_first_look() -> None:
    """A server that was away for an hour gives every holder its whole lease time to renew."""
    run = held(RUNNING, until=30)

    assert not lease_has_ended(run, seconds(3629), watched(3600, *range(3601, 3629)), 3)
    assert lease_has_ended(run, seconds(3630), watched(3600, *range(3601, 3630)), 3)


@pytest.mark.parametrize("looks", [(0, 1, 2, 61, 62), (0, 1, 2, -30, -29, 31)])
def test_g6_a_gap_or_a_jump_of_the_clock_crashes_nothing(looks: tuple[float, ...]) -> None:
    """A reaper that was stopped, cut off its database, or whose clock was set, begins to watch anew."""
    assert not lease_has_ended(held(RUNNING, until=30), seconds(looks[-1]), watched(*looks), 3)


def test_g6_short_delays_of_the_reaper_do_not_keep_the_dead_alive() -> None:
    """Looks that come a little late, on a busy machine, do not put off expiry for ever."""
    watch = watched(*(moment * 2.9 for moment in range(40)))

    assert lease_has_ended(held(RUNNING, until=30, lease=3), seconds(39 * 2.9), watch, 3)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=40), st.floats(1, 90))
def test_g6_expiry_means_a_whole_lease_time_without_a_gap(gaps: list[float], lease: float) -> None:
    """When a lease counts as ended, the reaper looked all through the last lease time without a long gap."""
    moments = [sum(gaps[:number]) for number in range(len(gaps) + 1)]
    watch, now = watched(*moments), moments[-1]
    run = held(RUNNING, until=moments[0], lease=lease)

    if lease_has_ended(run, seconds(now), watch, 3):
        harmless = max(3, lease / 3)
        ends = [end for end, gap in zip(moments[1:], gaps, strict=True) if gap > harmless + 1e-3]
        assert now - max([moments[0], *ends]) >= lease - 1e-3


def test_g6_the_dead_are_crashed_or_scheduled_anew() -> None:
    """Who had begun is crashed; who had not, or waits for its retry, is scheduled anew if a worker can take it on."""
    retrying = {"retry_type": "in_process"}

    assert made(when_holder_died(held(RUNNING), seconds(31))) is CRASHED
    assert made(when_holder_died(held(PAUSED), seconds(31))) is CRASHED
    assert made(when_holder_died(held(PENDING), seconds(31))) is SCHEDULED
    assert made(when_holder_died(held(PENDING, deployment=False), seconds(31))) is CRASHED
    assert made(when_holder_died(held(SCHEDULED, empirical_policy=retrying), seconds(31))) is SCHEDULED
    assert made(when_holder_died(held(StateType.COMPLETED), seconds(31))) is None


def test_g6_a_cancelling_has_its_own_deadline() -> None:
    """The reaper leaves a run that is being cancelled to the deadline of its cancelling."""
    assert not lease_has_ended(held(CANCELLING), seconds(31), watched(*range(-60, 31)), 3)


def test_g12_who_takes_a_run_on_without_a_lease_has_to_begin() -> None:
    """A claim without a lease goes back after a while; where no worker can take it on, the run is crashed."""
    worlds = [FlowRunWorld(deployment=deployment) for deployment in (True, False)]
    for world in worlds:
        world.propose(PENDING)

    early = [made(when_never_begun(world.run, seconds(599), TIMES)) for world in worlds]
    late = [made(when_never_begun(world.run, seconds(600), TIMES)) for world in worlds]

    assert (early, late) == ([None, None], [SCHEDULED, CRASHED])


def test_late_runs_are_those_nobody_took_on() -> None:
    """A scheduled run is late some seconds after its time, and keeps that time."""
    world = FlowRunWorld()
    world.propose(SCHEDULED, scheduled_time=seconds(10))

    late = when_late(world.run, seconds(25), TIMES)

    assert when_late(world.run, seconds(24), TIMES) is None
    assert late is not None
    assert (late.name, late.state_details.scheduled_time) == ("Late", seconds(10))


def test_g12_cancelling_and_pausing_end() -> None:
    """A cancelling becomes CANCELLED by its deadline, a pause FAILED by its time-out."""
    cancelling, paused = FlowRunWorld(), FlowRunWorld()
    for world in (cancelling, paused):
        world.propose(RUNNING)
    cancelling.propose(CANCELLING)
    paused.propose(PAUSED, pause_timeout=seconds(10))

    assert made(when_cancelling_lasts(cancelling.run, seconds(59), TIMES)) is None
    assert made(when_cancelling_lasts(cancelling.run, seconds(61), TIMES)) is CANCELLED
    assert made(when_pause_lasts(paused.run, seconds(9))) is None
    assert made(when_pause_lasts(paused.run, seconds(10))) is FAILED


def test_g12_children_follow_their_parent() -> None:
    """What ran inside its parent ends as the parent did; a child with a deployment is told to cancel, or lives on."""
    inside, elsewhere = held(RUNNING, deployment=False), held(RUNNING)

    assert made(when_parent_ended(inside, CRASHED)) is CRASHED
    assert made(when_parent_ended(inside, CANCELLED)) is CANCELLED
    assert made(when_parent_ended(elsewhere, CRASHED)) is None
    assert made(when_parent_ended(elsewhere, CANCELLED)) is CANCELLING
    assert made(when_parent_ended(held(CANCELLING), CANCELLED)) is None
    for type in FINAL:
        assert when_parent_ended(held(type, deployment=False), CRASHED) is None
