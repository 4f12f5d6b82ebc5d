"""The rules of task runs, one by one."""

import pytest

from headrace.schemas.states import SetStateStatus, StateType
from headrace.server.rules.facts import EnclosingRun, Slots, TaskRunFacts
from headrace.server.rules.task_effects import Enqueue, KeepInCache, TakeTagSlots
from headrace.server.rules.task_runs import BACKGROUND_TASK_RUN_RULES, FORCED_TASK_RUN_RULES
from tests.unit.rules.runs import ID, TaskRunWorld, seconds, state

SCHEDULED, PENDING, RUNNING, PAUSED = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED
COMPLETED, FAILED, CRASHED = StateType.COMPLETED, StateType.FAILED, StateType.CRASHED
ACCEPT, REJECT, WAIT, ABORT = SetStateStatus.ACCEPT, SetStateStatus.REJECT, SetStateStatus.WAIT, SetStateStatus.ABORT


def inside(type: StateType | None, run_count: int = 1, **details: object) -> TaskRunFacts:
    """The facts of a task run whose flow run is in a state of this type."""
    enclosing = None if type is None else state(type, **details)  # type: ignore[arg-type]
    return TaskRunFacts(flow_run=EnclosingRun(id=ID, run_count=run_count, state=enclosing))


@pytest.mark.parametrize("type", [None, PENDING, COMPLETED, StateType.CANCELLING])
def test_a_task_run_begins_only_in_a_running_flow_run(type: StateType | None) -> None:
    """In a flow run that does not run, RUNNING is ABORTed."""
    assert TaskRunWorld(inside(type)).propose(RUNNING).status is ABORT


def test_a_task_run_waits_with_its_flow_run() -> None:
    """In a paused flow run a task run becomes NotReady, with the pause's time-out."""
    world = TaskRunWorld(inside(PAUSED, pause_timeout=seconds(60), pause_reschedule=True))

    verdict = world.propose(RUNNING)

    assert verdict.status is REJECT
    assert verdict.state is not None
    assert (verdict.state.type, verdict.state.name) == (PAUSED, "NotReady")
    assert verdict.state.state_details.pause_timeout == seconds(60)
    assert verdict.state.state_details.pause_reschedule


def test_a_failed_task_run_is_tried_again_with_its_delays() -> None:
    """Delays in a list are used in turn; jitter makes them longer; past the retries FAILED is accepted."""
    facts = TaskRunFacts(jitter=1.0)
    policy = {"retries": 2, "retry_delay": [1, 10], "retry_jitter_factor": 0.5}
    world = TaskRunWorld(facts, empirical_policy=policy)
    delays = []
    for _ in range(2):
        world.propose(RUNNING)
        verdict = world.propose(FAILED)
        assert verdict.state is not None
        scheduled = verdict.state.state_details.scheduled_time
        assert scheduled is not None
        delays.append((scheduled - world.now).total_seconds())
        world.now = scheduled
    world.propose(RUNNING)

    assert delays == [1.5, 15.0]
    assert world.run.state is not None
    assert world.run.state.name == "Retrying"
    assert world.propose(FAILED).status is ACCEPT


def test_a_failure_that_says_so_is_not_tried_again() -> None:
    """retriable = false in the proposed state ends the task run."""
    world = TaskRunWorld(empirical_policy={"retries": 2})
    world.propose(RUNNING)

    assert world.propose(FAILED, retriable=False).status is ACCEPT


def test_g5_a_task_run_with_a_result_is_not_run_again() -> None:
    """COMPLETED with data stays; without, the task run may run again and counts from zero."""
    kept, plain = TaskRunWorld(), TaskRunWorld()
    for world, data in ((kept, {"type": "reference"}), (plain, None)):
        world.propose(RUNNING)
        world.propose(COMPLETED, data=data)

    assert kept.propose(RUNNING).status is REJECT
    assert plain.propose(RUNNING).status is ACCEPT
    assert plain.run.run_count == 1
    assert kept.propose(CRASHED).status is ABORT


def test_a_known_result_is_used() -> None:
    """RUNNING with a cache key that is known becomes a COMPLETED state named Cached; refresh_cache runs anyway."""
    known = state(COMPLETED, data={"type": "reference"}, cache_key="k", transition_id=ID)
    world, fresh = TaskRunWorld(TaskRunFacts(cached=known)), TaskRunWorld(TaskRunFacts(cached=known))

    verdict = world.propose(RUNNING, cache_key="k")

    assert verdict.status is REJECT
    assert verdict.state is not None
    assert (verdict.state.type, verdict.state.name, verdict.state.data) == (COMPLETED, "Cached", known.data)
    assert verdict.state.id != known.id
    assert verdict.state.state_details.transition_id is None
    assert fresh.propose(RUNNING, cache_key="k", refresh_cache=True).status is ACCEPT


def test_a_result_is_kept_by_its_key() -> None:
    """COMPLETED with a cache key is stored under it; one whose key is too long is rejected as proposed."""
    world = TaskRunWorld()

    verdict = world.propose(COMPLETED, cache_key="k", cache_expiration=seconds(9))
    long = TaskRunWorld().propose(COMPLETED, cache_key="k" * 2001)

    assert KeepInCache("k", seconds(9)) in verdict.effects
    assert long.status is REJECT
    assert long.state is not None
    assert long.state.type is COMPLETED


def test_g7_a_task_run_needs_a_slot_for_each_tag() -> None:
    """All free: all are taken; one full: wait a while; one of size 0: ABORT."""
    limits = [Slots(limit_id=ID, limit=1, used=0), Slots(limit_id=ID, limit=2, used=2)]
    free, full = TaskRunFacts(limits=(limits[0],)), TaskRunFacts(limits=tuple(limits), jitter=0.5)
    none = TaskRunFacts(limits=(Slots(limit_id=ID, limit=0, used=0), *limits))

    verdicts = [TaskRunWorld(facts).propose(RUNNING) for facts in (free, full, none)]

    assert [verdict.status for verdict in verdicts] == [ACCEPT, WAIT, ABORT]
    assert TakeTagSlots((ID,)) in verdicts[0].effects
    assert verdicts[1].wait_seconds == 8


def test_reruns_are_named() -> None:
    """RUNNING again is Rerunning; after AwaitingRetry it is Retrying; the flow run's attempt is noted."""
    world = TaskRunWorld(inside(RUNNING, run_count=3))
    world.propose(RUNNING)

    again = world.propose(RUNNING)

    assert again.state is not None
    assert again.state.name == "Rerunning"
    assert (world.run.run_count, world.run.flow_run_run_count) == (2, 3)


def test_a_background_task_run_is_taken_on_once() -> None:
    """Of two that propose PENDING, one is refused; its parameters' id goes along."""
    world = TaskRunWorld(task_key="m.f")
    scheduled = world.propose(
        SCHEDULED, policy=BACKGROUND_TASK_RUN_RULES, deferred=True, task_parameters_id=ID, scheduled_time=seconds(0)
    )
    first = world.propose(PENDING, policy=BACKGROUND_TASK_RUN_RULES, deferred=True)
    second = world.propose(PENDING, policy=BACKGROUND_TASK_RUN_RULES, deferred=True)

    assert scheduled.state is not None
    assert Enqueue("m.f", scheduled.state.id, seconds(0)) in scheduled.effects
    assert (first.status, second.status) == (ACCEPT, ABORT)
    assert first.state is not None
    assert first.state.state_details.task_parameters_id == ID


def test_what_is_forced_is_written() -> None:
    """Force accepts every change of a task run."""
    world = TaskRunWorld(inside(COMPLETED))

    answers = {world.propose(type, policy=FORCED_TASK_RUN_RULES).status for type in [COMPLETED, *StateType]}

    assert answers == {ACCEPT}
