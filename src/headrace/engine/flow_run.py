"""How a flow run proceeds: the core, written once for synchronous and asynchronous flows.

    create it (or take the one that a worker claimed) ── validate parameters, name it
         │
      propose RUNNING ── WAIT: sleep and propose again; ABORT: leave; REJECT: the state in force counts
         │                                                                        ^
       call the function, wait for its submitted tasks, flush the recorder  # G11 │
         │                                                                        │
      propose the final state ── REJECT with AwaitingRetry: sleep ────────────────┘ Retrying
         │
       hooks, release the lease

The server decides each change of state. It carries the epoch that the claim answered with, so once another process has
taken over, nothing of this attempt is accepted any more and it ends by `Abort`.  # G4

When the server goes away after RUNNING was accepted, the run goes on: its final state goes into the spool behind
everything that was recorded, and arrives in its place.
"""

from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from headrace._internal.ids import uuid7
from headrace.context import FlowRunContext
from headrace.engine import beginning, keeping, lease, run_log
from headrace.engine.adoption import Earlier
from headrace.engine.drivers import TimedOut
from headrace.engine.ended import Ended
from headrace.engine.ending import propose
from headrace.engine.hook_calls import call_hooks
from headrace.engine.identity import Occurrences
from headrace.engine.outcomes import Returned, crash_message, failure_message, is_cancellation, state_of_flow_value
from headrace.engine.recorder import Recorder
from headrace.engine.retries import delay_after
from headrace.engine.steps import Blocking, Call, Sleep, Steps
from headrace.engine.upstream import Provenance
from headrace.exceptions import Abort, Pause, SignatureMismatchError
from headrace.logging.configuration import ensure_logging_setup
from headrace.logging.prints import patch_print
from headrace.schemas.flow_runs import FlowRun
from headrace.schemas.states import OrchestrationResult, State, StateCreate, StateDetails, StateType

if TYPE_CHECKING:
    from headrace.client import Client
    from headrace.flows import Flow


class FlowRunning:
    """One run of a flow in this process.

    Args:
        flow: the flow.
        parameters: its parameters by name, as given.
        client: whom its states are proposed to.
        recorder: who records its task runs and logs.
        flow_run: the run, when it exists already.
        epoch: the attempt that it was claimed for, when a worker claimed it.
        wait_for: runs that must have completed before.
    """

    def __init__(
        self,
        flow: "Flow[..., Any]",
        parameters: dict[str, Any],
        client: "Client",
        recorder: Recorder,
        flow_run: FlowRun | None = None,
        epoch: int | None = None,
        wait_for: Any = None,
    ) -> None:
        self.flow = flow
        self.parameters = parameters
        self.client = client
        self.recorder = recorder
        self.flow_run: FlowRun = flow_run  # type: ignore[assignment]  # `beginning.prepare` makes it when it is None
        self.claim_answer: OrchestrationResult | None = None  # to the first RUNNING, when it was proposed ahead
        self.id: UUID = flow_run.id if flow_run is not None else uuid7()
        self.claimed = epoch
        self.epoch = epoch or 0
        self.run_count = flow_run.run_count if flow_run is not None else 0
        outer = FlowRunContext.get()
        self.parent: FlowRunning | None = outer.run if outer is not None else None
        self.wait_for = wait_for
        self.task_run: beginning.ParentTaskRun | None = None
        self.invalid: BaseException | None = None
        self.log_prints = flow.log_prints_in(self.parent)
        self.persist_result = keeping.flow_persists(flow, self.parent)
        self.result_store = keeping.store_of_flow(flow)
        self.provenance = Provenance()
        self.occurrences = Occurrences()
        self.earlier: Earlier | None = None
        self.finished: Earlier | None = Earlier() if flow.retries else None
        self.failures = 0
        self.started = datetime.now(UTC)
        self.state: State | None = flow_run.state if flow_run is not None else None
        self.interrupted: BaseException | None = None
        self.leased = False
        self.open_task_runner: Any = None

    @property
    def may_be_tried_again(self) -> bool:
        """Whether a later attempt of this run may look for results of this one."""
        return self.finished is not None or self.flow_run.deployment_id is not None

    @property
    def task_runner(self) -> Any:
        """What runs submitted tasks; made when it is first asked for."""
        if self.open_task_runner is None:
            self.open_task_runner = self.flow.task_runner.duplicate().__enter__()
        return self.open_task_runner

    @property
    def flow_runner(self) -> Any:
        """What runs submitted child flows: the task runner, if it can."""
        runner = self.task_runner
        if not hasattr(runner, "start"):
            raise TypeError(f"{type(runner).__name__} cannot run flows; use a ThreadPoolTaskRunner to submit them.")
        return runner

    def log_fields(self) -> dict[str, Any]:
        """What a log record says about the run."""
        name = self.flow_run.name if self.flow_run is not None else None
        return {"flow_run_id": str(self.id), "flow_run_name": name, "flow_name": self.flow.name}

    def shown_to_hooks(self) -> FlowRun:
        """The run as hooks get it."""
        return self.flow_run

    def take(self, state: State) -> None:
        """Make `state` the present one."""
        self.state = state
        shown = self.flow_run
        shown.state, shown.state_id, shown.state_type, shown.state_name = state, state.id, state.type, state.name
        if state.type is StateType.RUNNING:
            self.run_count += 1
            shown.run_count = self.run_count
            shown.start_time = shown.start_time or state.timestamp
        elif state.is_final():
            shown.end_time = state.timestamp

    def bind(self) -> None:
        """Fill in the defaults of parameters that a run made by the API does not name.

        A parameter that is missing, or one too many, makes the run invalid: it will fail and say so.
        """
        signature, given = self.flow.signature, self.parameters
        try:
            named = signature.variadic_named()
            extra = {k: v for k, v in given.items() if k not in signature.takes}
            known = {k: v for k, v in given.items() if k in signature.takes}
            if extra and named is not None:
                known[named] = {**known.get(named, {}), **extra}
            elif extra:
                raise SignatureMismatchError(
                    f"Function expects parameters {list(signature.names)} but was provided with {list(given)}."
                )
            missing = [n for n in signature.required if n not in known]
            if missing:
                raise SignatureMismatchError(f"The flow needs parameters that the run does not have: {missing}.")
            self.parameters = signature.defaults | known
        except SignatureMismatchError as error:
            self.invalid = error

    def try_again(self) -> None:
        """Make ready for the next attempt in this process."""
        earlier = self.finished
        if earlier is not None and self.earlier is not None:
            earlier.keep(self.earlier)
        self.earlier, self.finished = earlier, Earlier() if self.flow.retries else None
        self.provenance = Provenance()
        self.occurrences = Occurrences()


def run_flow(run: FlowRunning) -> Steps[Ended]:
    """Carry a flow run to its end.

    Args:
        run: the run.

    Returns:
        Its final state with its value or exception, interrupts and `Abort` among them.
    """
    ensure_logging_setup()
    ended = yield from beginning.prepare(run)
    if ended is not None:
        return ended
    name = "Running"
    while ended is None:
        begun = yield from beginning.begin(run, name)
        if begun is not None:
            ended = yield from _not_begun(run, begun)
            break
        ended = yield from _attempt(run)
        name = "Retrying"
    if run.leased:
        lease.release(run.id)
    if run.task_run is not None:
        run.task_run.ended(ended.recorded)
    run_log.flow_finished(run)
    if hooks := run.flow.hooks_for(ended.recorded):
        with FlowRunContext(run):
            yield from call_hooks(hooks, run.flow, run, ended.state)
    return ended


def _attempt(run: FlowRunning) -> Steps[Ended | None]:
    """One attempt, up to a final state; None when there is to be another."""
    flow = run.flow
    returned: Returned | None = None
    with FlowRunContext(run), patch_print() if run.log_prints else nullcontext():
        if flow.on_running_hooks:
            yield from call_hooks(flow.on_running_hooks, flow, run, run.state)
        if run.invalid is not None:
            error: BaseException | None = run.invalid
            value = None
        else:
            args, kwargs = flow.signature.arguments(run.parameters)
            called = yield Call(flow.run_fn, args, kwargs, flow.timeout_seconds)
            error, value = called.error, called.value
        if error is None:
            judged = yield Blocking(state_of_flow_value, value)
            error = judged.error
            value, returned = judged.value or (None, None)
        error = (yield from _wait_for_tasks(run, error)) or error
        if error is not None and not isinstance(error, Exception):
            return (yield from _interrupted(run, error))
        if error is not None:
            run_log.flow_error(run, "Encountered exception during execution: %r", error, error)
            return (yield from _failed(run, error))
        return (yield from _returned(run, value, returned))


def _wait_for_tasks(run: FlowRunning, error: BaseException | None) -> Steps[BaseException | None]:
    """Wait until the tasks the flow submitted have ended; when it was interrupted or timed out, call them off."""
    runner, run.open_task_runner = run.open_task_runner, None
    if runner is None:
        return None
    if error is None or (isinstance(error, Exception) and not isinstance(error, TimedOut)):
        waited = yield Blocking(runner.__exit__, None, None, None)
        if waited.error is None or isinstance(waited.error, Exception):
            return None
        error = waited.error
    yield Blocking(runner.cancel_all)
    return error


def _returned(run: FlowRunning, value: Any, returned: Returned | None) -> Steps[Ended | None]:
    """The function returned: an ordinary value, or states that say how the run ended."""
    if returned is None:
        state, error = StateCreate(type=StateType.COMPLETED, name="Completed"), None
    else:
        given = returned.state
        value, error = returned.value, returned.error
        state = StateCreate(type=given.type, name=given.name, message=given.message)
    if state.type is StateType.COMPLETED:
        kept = yield from keeping.keep_of_flow(run, value)
        if isinstance(kept, BaseException):
            return (yield from _failed(run, kept))
        state.data = kept
    state.state_details = StateDetails(untrackable_result=state.data is None)
    return (yield from _end(run, state, value, error))


def _failed(run: FlowRunning, error: BaseException) -> Steps[Ended | None]:
    run.failures += 1
    if isinstance(error, TimedOut):
        message = f"Flow run exceeded timeout of {run.flow.timeout_seconds:g} second(s)"
        return (yield from _end(run, StateCreate(type=StateType.FAILED, name="TimedOut", message=message), None, error))
    if error is run.invalid:
        message = f"Validation of flow parameters failed with error: {type(error).__name__}: {error}"
    else:
        message = failure_message("Flow run", error)
    return (yield from _end(run, StateCreate(type=StateType.FAILED, name="Failed", message=message), None, error))


def _end(run: FlowRunning, state: StateCreate, value: Any, error: BaseException | None) -> Steps[Ended | None]:
    """Propose the final state; None when the server answers that the run is to be tried again."""
    verdict = yield from propose(run, state)
    if verdict.retry_after is not None:
        slept = yield Sleep(max(verdict.retry_after, delay_after(run.failures, run.flow.delays, None)))
        if slept.error is not None:
            return (yield from _interrupted(run, slept.error))
        run.try_again()
        return None
    if verdict.aborted is not None:
        return Ended(verdict.state, None, verdict.aborted)
    if verdict.state.is_cancelling():
        return (yield from _end(run, StateCreate(type=StateType.CANCELLED, name="Cancelled"), value, error))
    return Ended(verdict.state, value, error)


def _interrupted(run: FlowRunning, error: BaseException) -> Steps[Ended | None]:
    """The run was torn out of its work: cancelled, replaced, paused, or its process is asked to end."""
    if run.interrupted is not None and is_cancellation(error):
        error = run.interrupted
    assert run.state is not None
    if isinstance(error, Pause | Abort):
        return Ended(error.state if isinstance(error, Pause) and error.state else run.state, None, error)
    fate = lease.fate(run.id) if run.leased else "held"
    if fate == "lost":  # G4: another attempt has the run, or the server has given this one up
        lost = Abort("This attempt of the flow run has been replaced or given up; it stops and changes nothing.")
        run_log.flow_error(run, "%s", None, lost)
        return Ended(run.state, None, lost)
    if fate == "cancelling":
        return (yield from _end(run, StateCreate(type=StateType.CANCELLED, name="Cancelled"), None, error))
    message = crash_message(error)
    run_log.flow_error(run, "Crash detected! %s", error, message)
    return (yield from _end(run, StateCreate(type=StateType.CRASHED, name="Crashed", message=message), None, error))


def _not_begun(run: FlowRunning, begun: Ended) -> Steps[Ended]:
    """The run could not begin; when that was an interrupt, its state says so."""
    error = begun.error
    if error is None or isinstance(error, Exception | Pause | Abort):
        return begun
    return (yield from _interrupted(run, error)) or begun
