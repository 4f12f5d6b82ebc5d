"""The rules of flow runs, one by one, and what a change writes into the run."""

from uuid import UUID

import pytest

from headrace.schemas.states import SetStateStatus, StateType
from headrace.server.rules.facts import FOREVER
from headrace.server.rules.flow_runs import FORCED_FLOW_RUN_RULES, LATE_FLOW_RUN_RULES, RECONCILING_FLOW_RUN_RULES
from tests.unit.rules.runs import FlowRunWorld, seconds

SCHEDULED, PENDING, RUNNING, PAUSED = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED
CANCELLING, CANCELLED, COMPLETED = StateType.CANCELLING, StateType.CANCELLED, StateType.COMPLETED
FAILED, CRASHED = StateType.FAILED, StateType.CRASHED
ACCEPT, REJECT, WAIT, ABORT = SetStateStatus.ACCEPT, SetStateStatus.REJECT, SetStateStatus.WAIT, SetStateStatus.ABORT

TRANSITION = UUID(int=77)


def running(**fields: object) -> FlowRunWorld:
    """A world whose run is running."""
    world = FlowRunWorld(**fields)  # type: ignore[arg-type]
    world.propose(RUNNING)
    return world


def test_a_request_sent_twice_changes_nothing_the_second_time() -> None:
    """The same transition id gives REJECT with the current state, which the first request had made."""
    world = FlowRunWorld()
    world.propose(RUNNING, transition_id=TRANSITION)

    again = world.propose(RUNNING, transition_id=TRANSITION)

    assert (again.status, again.state) == (REJECT, None)
    assert world.run.run_count == 1


def test_nothing_runs_before_its_time() -> None:
    """RUNNING on a run scheduled for later is answered by WAIT, with the seconds left, rounded up."""
    world = FlowRunWorld()
    world.propose(SCHEDULED, scheduled_time=seconds(9.2))

    verdict = world.propose(RUNNING)

    assert (verdict.status, verdict.wait_seconds, verdict.state) == (WAIT, 10, None)


def test_a_claim_keeps_the_scheduled_time() -> None:
    """PENDING takes over scheduled_time, and RUNNING still waits for it."""
    world = FlowRunWorld()
    world.propose(SCHEDULED, scheduled_time=seconds(5))

    pending = world.propose(PENDING)

    assert pending.state is not None
    assert pending.state.state_details.scheduled_time == seconds(5)
    assert world.propose(RUNNING).status is WAIT


def test_a_pending_state_can_be_renamed_but_not_taken_twice() -> None:
    """PENDING under another name is accepted and keeps the scheduled time; under the same name it is ABORTed."""
    world = FlowRunWorld()
    world.propose(SCHEDULED, scheduled_time=seconds(0))
    world.propose(PENDING)

    renamed = world.propose(PENDING, "Submitting")

    assert renamed.status is ACCEPT
    assert renamed.state is not None
    assert renamed.state.state_details.scheduled_time == seconds(0)
    assert world.propose(PENDING, "Submitting").status is ABORT
    assert world.propose(PENDING).status is ABORT


def test_a_failed_run_is_tried_again_as_often_as_it_asks_for() -> None:
    """FAILED becomes AwaitingRetry while the run count is within retries; message and data are kept."""
    world = running(empirical_policy={"retries": 1, "retry_delay": 5, "pause_keys": ["a"]})

    first = world.propose(FAILED, data=3)
    waiting = world.run.state
    early = world.propose(RUNNING)
    world.now = seconds(6)
    world.propose(RUNNING)
    second = world.propose(FAILED)

    assert (first.status, second.status, early.status) == (REJECT, ACCEPT, WAIT)
    assert waiting is not None
    assert (waiting.name, waiting.data, waiting.state_details.scheduled_time) == ("AwaitingRetry", 3, seconds(5))
    assert world.run.run_count == 2
    assert world.run.empirical_policy == {
        "retries": 1,
        "retry_delay": 5,
        "pause_keys": [],
        "resuming": False,
        "retry_type": None,
    }


def test_a_retry_may_be_longer_away_than_the_calendar_goes() -> None:
    """A delay that no calendar can hold is no accident: the retry just never comes."""
    world = running(empirical_policy={"retries": 1, "retry_delay": 1e300})

    verdict = world.propose(FAILED)

    assert verdict.state is not None
    assert verdict.state.state_details.scheduled_time == FOREVER


def test_a_retry_waits_in_its_process() -> None:
    """AwaitingRetry says in the policy that the process which failed will go on."""
    world = running(empirical_policy={"retries": 1})

    world.propose(FAILED)

    assert world.run.empirical_policy["retry_type"] == "in_process"


def test_a_failure_that_is_told_twice_is_one_failure() -> None:
    """When the answer to FAILED was lost and it is sent again, the run still waits for its retry."""
    world = running(empirical_policy={"retries": 1})
    world.propose(FAILED, transition_id=TRANSITION)

    again = world.propose(FAILED, transition_id=TRANSITION)

    assert (again.status, again.state) == (REJECT, None)
    assert world.run.type is SCHEDULED


def test_a_run_may_be_paused_once_for_each_key() -> None:
    """The key of a pause is kept in the policy, and the same one again is rejected."""
    world = running()
    world.propose(PAUSED, pause_key="lunch")
    world.propose(RUNNING)

    again = world.propose(PAUSED, pause_key="lunch")

    assert (again.status, again.state) == (REJECT, None)
    assert world.run.empirical_policy["pause_keys"] == ["lunch"]
    assert world.propose(PAUSED, pause_key="tea").status is ACCEPT


@pytest.mark.parametrize(("deployment", "parent"), [(False, None), (True, UUID(int=9))])
def test_only_what_can_be_started_anew_is_suspended(deployment: bool, parent: UUID | None) -> None:
    """A child run, and a run without a deployment, cannot let their process go."""
    world = running(deployment=deployment, parent_task_run_id=parent)

    assert world.propose(PAUSED, pause_reschedule=True).status is ABORT


def test_a_run_that_resumes_is_not_counted_again() -> None:
    """RUNNING after a suspension leaves the run count; the mark of resuming goes with it."""
    world = running(deployment=True)
    world.propose(PAUSED, "Suspended", pause_reschedule=True)
    world.propose(SCHEDULED, "Resuming")
    marked = world.run.empirical_policy["resuming"]
    world.propose(PENDING)
    world.propose(RUNNING)

    assert marked is True
    assert (world.run.run_count, world.run.empirical_policy["resuming"]) == (1, False)


def test_g12_a_pause_ends_with_its_time_out() -> None:
    """Whoever resumes a pause after its time-out finds the run failed; cancelling it is still possible."""
    world = running()
    world.propose(PAUSED, pause_timeout=seconds(10))
    world.now = seconds(11)

    verdict = world.propose(RUNNING)

    assert verdict.status is REJECT
    assert world.run.type is FAILED


def test_what_does_not_run_is_cancelled_at_once() -> None:
    """CANCELLING a scheduled or suspended run makes it CANCELLED, also when it is forced."""
    scheduled, suspended = FlowRunWorld(), running(deployment=True)
    scheduled.propose(SCHEDULED)
    suspended.propose(PAUSED, pause_reschedule=True)

    verdicts = [scheduled.propose(CANCELLING, policy=FORCED_FLOW_RUN_RULES), suspended.propose(CANCELLING)]

    assert [verdict.status for verdict in verdicts] == [REJECT, REJECT]
    assert [world.run.type for world in (scheduled, suspended)] == [CANCELLED, CANCELLED]


def test_a_scheduled_run_with_infrastructure_is_cancelled_by_whoever_runs_it() -> None:
    """With infrastructure_pid set, CANCELLING is accepted, so that a worker ends the process."""
    world = FlowRunWorld(infrastructure_pid="host:1")
    world.propose(SCHEDULED)

    assert world.propose(CANCELLING).status is ACCEPT


def test_g5_a_persisted_result_is_kept() -> None:
    """A completed run with a persisted result is neither run again nor completed without one, forced or not."""
    world = running()
    world.propose(COMPLETED, data={"type": "reference", "key": "a"})

    refused = [world.propose(RUNNING), world.propose(COMPLETED), world.propose(COMPLETED, policy=FORCED_FLOW_RUN_RULES)]

    assert [verdict.status for verdict in refused] == [REJECT, REJECT, REJECT]
    assert world.propose(COMPLETED, data={"type": "reference", "key": "b"}).status is ACCEPT


def test_a_retry_of_a_final_run_forgets_what_was_before() -> None:
    """Leaving a final state empties the pause keys, notes how the retry is started, and clears the end time."""
    world = running(deployment=True, empirical_policy={"pause_keys": ["a"], "resuming": True})
    world.propose(CRASHED)
    ended = world.run.end_time

    world.propose(SCHEDULED)

    assert ended is not None
    assert world.run.end_time is None
    assert world.run.empirical_policy == {"pause_keys": [], "resuming": False, "retry_type": "reschedule"}


def test_only_scheduled_runs_are_marked_late_and_only_once() -> None:
    """Late is rejected for a run that is not scheduled, and for one that is late already."""
    late, busy = FlowRunWorld(), running()
    late.propose(SCHEDULED)

    verdicts = [late.propose(SCHEDULED, "Late", policy=LATE_FLOW_RUN_RULES) for _ in range(2)]

    assert [verdict.status for verdict in verdicts] == [ACCEPT, REJECT]
    assert busy.propose(SCHEDULED, "Late").status is REJECT


def test_a_retry_outlives_its_process() -> None:
    """A reconciler that schedules a retry anew hands it to whoever takes it on."""
    world = running(deployment=True, empirical_policy={"retries": 1})
    world.propose(FAILED)

    world.propose(SCHEDULED, "AwaitingRetry", policy=RECONCILING_FLOW_RUN_RULES)

    assert world.run.empirical_policy["retry_type"] == "reschedule"


def test_times_of_a_run_follow_its_states() -> None:
    """Expected, next scheduled, start and end times, run time and run count are set as the states go by."""
    world = FlowRunWorld()
    world.propose(SCHEDULED, scheduled_time=seconds(10))
    scheduled = world.run
    world.now = seconds(12)
    world.propose(PENDING)
    world.now = seconds(13)
    world.propose(RUNNING)
    world.now = seconds(15.5)
    world.propose(COMPLETED)
    world.now = seconds(20)
    world.propose(FAILED)

    assert (scheduled.expected_start_time, scheduled.next_scheduled_start_time) == (seconds(10), seconds(10))
    run = world.run
    assert (run.expected_start_time, run.next_scheduled_start_time) == (seconds(10), None)
    assert (run.start_time, run.end_time) == (seconds(13), seconds(15.5))
    assert (run.total_run_time, run.run_count, run.state_index) == (2.5, 1, 5)


def test_a_run_that_ends_without_having_run_has_both_times() -> None:
    """A final first state sets start and end time, and no run time."""
    world = FlowRunWorld()
    world.propose(COMPLETED)

    assert (world.run.start_time, world.run.end_time, world.run.total_run_time) == (seconds(0), seconds(0), 0.0)
