"""Proposing states of a flow run to the server, and what its answer means."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headrace._internal.ids import uuid7
from headrace.engine import run_log
from headrace.engine.steps import Blocking, Outcome, Sleep, Steps
from headrace.exceptions import Abort, ApiUnreachable, ObjectNotFound, RateLimited
from headrace.schemas.flow_runs import SET_FLOW_RUN_STATE, SetFlowRunState
from headrace.schemas.states import OrchestrationResult, SetStateStatus, State, StateCreate, StateType, StateWaitDetails

if TYPE_CHECKING:
    from headrace.engine.flow_run import FlowRunning

FLUSH_SECONDS = 30.0
"""How long a run waits for what it recorded to arrive, before it leaves its final state to the spool as well."""

AWAY = (ApiUnreachable, RateLimited, OSError)


class Verdict:
    """The answer to a proposal.

    Args:
        state: the state now in force.
        aborted: the order to stop, if that was the answer.
        retry_after: seconds until the run is to be tried again, if that was the answer.
        error: why there is no answer.
    """

    __slots__ = ("aborted", "error", "retry_after", "state")

    def __init__(
        self,
        state: State,
        aborted: Abort | None = None,
        retry_after: float | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.state = state
        self.aborted = aborted
        self.retry_after = retry_after
        self.error = error


def propose(run: "FlowRunning", state: StateCreate) -> Steps[Verdict]:
    """Propose the state a run ends in, once all it recorded has arrived.  # G11

    Args:
        run: the run.
        state: the state.

    Returns:
        The verdict. While the server is away the state is put into the spool, and counts as accepted.
    """
    state.state_details.flow_run_id = run.id
    state.state_details.transition_id = uuid7()  # so that it can be sent again
    body = SetFlowRunState(state=state, epoch=run.epoch or None)
    flushed, answer = not run.recorder.behind, None
    if flushed:
        waited = yield Blocking(run.recorder.flush_and_propose, run.id, body, FLUSH_SECONDS)
        flushed, answer = waited.value or (False, None)
    while flushed:
        if answer is None:
            outcome = yield Blocking(run.client.call, SET_FLOW_RUN_STATE, id=run.id, body=body)
        else:
            outcome, answer = Outcome(answer), None
        if outcome.error is None:
            verdict: OrchestrationResult = outcome.value
            if isinstance(verdict.details, StateWaitDetails):
                yield Sleep(verdict.details.delay_seconds)
                continue
            return read_answer(run, verdict)
        if isinstance(outcome.error, ObjectNotFound):
            run_log.flow_error(run, "The flow run was deleted while it ran; it ends without a record.", None)
            return _accepted_here(run, state)
        if not isinstance(outcome.error, AWAY):
            run_log.flow_error(run, "The final state could not be proposed, it is kept for later", outcome.error)
        break
    if state.type is StateType.FAILED and run.failures <= run.flow.retries:
        return Verdict(_state_here(state), retry_after=0.0)
    body.force = True  # by the time it arrives the server may have taken this process for dead
    run.recorder.flow_run_state(run.id, body)
    return _accepted_here(run, state)


def read_answer(run: "FlowRunning", answer: OrchestrationResult) -> Verdict:
    """What an answer means for the run, whose present state becomes the one in force."""
    state = answer.state or run.state
    assert state is not None
    if answer.status is SetStateStatus.ABORT:
        return Verdict(state, aborted=Abort(getattr(answer.details, "reason", None) or "The server said ABORT."))
    if answer.epoch is not None:
        run.epoch = answer.epoch
    run.take(state)
    if answer.status is SetStateStatus.REJECT and state.type is StateType.SCHEDULED:
        until = state.state_details.scheduled_time or state.timestamp
        return Verdict(state, retry_after=max((until - datetime.now(UTC)).total_seconds(), 0.0))
    return Verdict(state)


def _state_here(proposed: StateCreate) -> State:
    return State(
        id=uuid7(),
        type=proposed.type,
        name=proposed.name,
        message=proposed.message,
        data=proposed.data,
        state_details=proposed.state_details,
    )


def _accepted_here(run: "FlowRunning", proposed: StateCreate) -> Verdict:
    state = _state_here(proposed)
    run.take(state)
    return Verdict(state)
