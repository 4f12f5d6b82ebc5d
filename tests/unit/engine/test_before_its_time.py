"""A run that was claimed before its time: who sleeps, and for how long."""

from headrace import flow, get_client
from headrace.engine import beginning
from headrace.engine.flow_run import FlowRunning
from headrace.engine.recorder import current
from headrace.engine.steps import Blocking, Outcome, Sleep
from headrace.schemas.states import OrchestrationResult, SetStateStatus, StateWaitDetails


def test_the_server_holds_a_run_for_the_last_part_of_a_second() -> None:
    """The delay it is told is rounded up, so the run sleeps a second less and asks to be held until its time."""
    running = FlowRunning(flow(lambda: None, name="early"), {}, get_client(), current())
    steps = beginning.begin(running, "Running")
    waits, sleeps = [], []

    effect = next(steps)
    for seconds in (3, 1, 0):
        assert isinstance(effect, Blocking)
        waits.append(effect.kwargs["wait"])
        details = StateWaitDetails(delay_seconds=seconds)
        told = steps.send(Outcome(OrchestrationResult(state=None, status=SetStateStatus.WAIT, details=details)))
        assert isinstance(told, Sleep)
        sleeps.append(told.seconds)
        effect = steps.send(Outcome())

    assert waits == [beginning.HELD_SECONDS] * 3
    assert sleeps == [2, 1, 0]
