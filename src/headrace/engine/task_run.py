"""How a task run proceeds: the core, written once for synchronous and asynchronous tasks.

    gather inputs ── not ready ──────────────────────────────> Pending "NotReady"
         │
      identify ── the same call completed in an earlier attempt ─> that result  # G10
         │
    Pending, then a result under its cache key ────────────────> Completed "Cached"
         │
      Running ──> call ── value ──> persist ───────────────────> Completed
         ^         ├── exception, retries left ──> AwaitingRetry, sleep ──┐
         └─────────┼──────────────────────── Retrying <──────────────────┘
                   ├── exception ──────────────────────────────> Failed (or "TimedOut")
                   └── interrupted ────────────────────────────> Crashed

Every state is recorded when it is entered, by the background recorder. The core returns an `Ended` and never raises the
user's exception; the caller does (`Ended.give`).
"""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.context import TaskRunContext
from headrace.engine import keeping, run_log
from headrace.engine.drivers import TimedOut
from headrace.engine.ended import Ended
from headrace.engine.hook_calls import call_hooks
from headrace.engine.outcomes import Returned, crash_message, failure_message, state_of_value
from headrace.engine.retries import delay_after, wants_retry
from headrace.engine.steps import Blocking, Call, Sleep, Steps
from headrace.engine.task_running import TaskRunning
from headrace.engine.upstream import NotReady, is_simple, search, wait_for_all
from headrace.exceptions import UpstreamTaskError
from headrace.logging.prints import patch_print
from headrace.schemas.states import State, StateType
from headrace.schemas.task_runs import TaskRunResult

NOTHING = nullcontext()


def run_task(run: TaskRunning) -> Steps[Ended]:
    """Carry a task run to its end.

    Args:
        run: the run; `parameters` hold what the caller gave.

    Returns:
        Its final state with its value or exception. An interrupt (`KeyboardInterrupt`, a cancellation, ...) is among
        the exceptions, so that the caller raises it again.
    """
    simple = is_simple(run.parameters.values())
    if not simple or run.wait_for is not None:
        futures, to_replace = search((*run.parameters.values(), run.wait_for))
        if any(not future.done() for future in futures):
            waited = yield Blocking(wait_for_all, futures)
            if waited.error is not None:
                return _crashed_early(run, waited.error)
        if to_replace or not simple:
            try:
                run.resolve()
            except NotReady as trouble:
                return _not_ready(run, trouble)
    if run.extra_inputs is not None:
        run.inputs = {**run.inputs, "__parents__": run.extra_inputs}
    if run.state is None:
        run.identify()
        if run.flow is not None and run.flow.earlier is not None:
            adopted = yield from run.flow.earlier.adopt(run)
            if adopted is not None:
                return adopted
        run.enter(StateType.PENDING, "Pending")
    with TaskRunContext(run), patch_print() if run.task.log_prints else NOTHING:
        return (yield from _run_here(run))


def _run_here(run: TaskRunning) -> Steps[Ended]:
    task = run.task
    if task.name_template is not None:
        named = yield Call(task.run_name, (run.parameters,))
        if named.error is not None:
            return (yield from _fail(run, named.error))
        run.name = named.value
    return (yield from keeping.run_kept(run, _attempts, finish, _fail))


def _attempts(run: TaskRunning, keep: keeping.Keep) -> Steps[Ended]:
    """Call the function until it succeeds or may not be tried again.

    Args:
        run: the run.
        keep: what persists its value and enters the final state; gives the error when it cannot.
    """
    task = run.task
    args, kwargs = task.signature.arguments(run.parameters)
    run.enter(StateType.RUNNING, "Running")
    while True:
        run.report()
        if task.on_running_hooks:
            yield from call_hooks(task.on_running_hooks, task, run, run.state)
        outcome = yield Call(task.run_fn, args, kwargs, task.timeout_seconds)
        error = outcome.error
        if error is None:
            value = outcome.value
            if (returned := state_of_value(value)) is None:
                return (yield from _complete(run, value, keep))
            if not returned.state.is_failed() or not (yield from _try_again(run, None, returned.state)):
                return (yield from _end_in(run, returned))
        elif not isinstance(error, Exception):
            return (yield from _crash(run, error))
        elif not (yield from _try_again(run, error, None)):
            return (yield from _fail(run, error))


def _complete(run: TaskRunning, value: Any, keep: keeping.Keep) -> Steps[Ended]:
    trouble = yield from keep(value)
    if trouble is not None:
        return (yield from _fail(run, trouble))
    return (yield from finish(run, value, None))


def _try_again(run: TaskRunning, error: Exception | None, returned: State | None) -> Steps[bool]:
    """Whether there is another attempt; if so, wait until it is time for it and begin it."""
    task = run.task
    run.failures += 1
    if run.failures > task.retries:
        return False
    if task.retry_condition_fn is not None:
        failed = returned or State(type=StateType.FAILED, name="Failed", message=_failed_message(task, error))
        asked = yield Call(
            wants_retry, (task.retry_condition_fn, task, run.as_task_run(), keeping.shown(failed, error))
        )
        if asked.error is not None:
            run_log.task_error(run, "The retry_condition_fn raised, so the task is not tried again.", asked.error)
        if asked.error is not None or not asked.value:
            return False
    delay = delay_after(run.failures, task.delays, task.retry_jitter_factor)
    what = repr(error) if error is not None else repr(returned)
    again = f"Retry {run.failures}/{task.retries} will start" + (
        f" {delay:g} second(s) from now" if delay else " immediately"
    )
    run_log.task_info(run, "Task run failed with %s - %s", what, again)
    if delay > 0:
        until = datetime.now(UTC) + timedelta(seconds=delay)
        run.enter(StateType.SCHEDULED, "AwaitingRetry", scheduled_time=until)
        run.report()
        slept = yield Sleep(delay)
        if slept.error is not None:
            return False
    run.enter(StateType.RUNNING, "Retrying")
    return True


def _failed_message(task: Any, error: BaseException | None) -> str:
    if isinstance(error, TimedOut):
        return f"Task run exceeded timeout of {task.timeout_seconds:g} second(s)"
    return failure_message("Task run", error)


def _fail(run: TaskRunning, error: BaseException) -> Steps[Ended]:
    name = "TimedOut" if isinstance(error, TimedOut) else "Failed"
    run_log.task_error(run, "Task run failed with exception: %r", error, error)
    run.enter(StateType.FAILED, name, _failed_message(run.task, error))
    return (yield from finish(run, None, error))


def _crash(run: TaskRunning, error: BaseException) -> Steps[Ended]:
    """The function was torn out of its work: note it and let the caller raise the interrupt again."""
    if isinstance(error, GeneratorExit):  # whoever read the generator has had enough
        run.enter(StateType.COMPLETED, "Completed", untrackable_result=True)
        return (yield from finish(run, None, error))
    run.enter(StateType.CRASHED, "Crashed", crash_message(error))
    run_log.task_error(run, "Crash detected! %s", error, run.state.message if run.state else "")
    return (yield from finish(run, None, error))


def _crashed_early(run: TaskRunning, error: BaseException) -> Ended:
    """Interrupted while waiting for its inputs."""
    run.identify()
    run.enter(StateType.PENDING, "Pending")
    state = run.enter(StateType.CRASHED, "Crashed", crash_message(error))
    run.report()
    return Ended(state, None, error)


def _not_ready(run: TaskRunning, trouble: NotReady) -> Ended:
    run.identify()
    run.enter(StateType.PENDING, "Pending")
    state = run.enter(StateType.PENDING, "NotReady", str(trouble))
    run.report()
    run_log.task_finished(run)
    return Ended(state, None, UpstreamTaskError(str(trouble)))


def _end_in(run: TaskRunning, returned: Returned) -> Steps[Ended]:
    """End in the state that the function returned; a plain call gives that state."""
    given = returned.state
    run.enter(given.type, given.name or given.type.capitalize(), given.message, untrackable_result=True)
    return (yield from finish(run, returned.value, returned.error, gives=run.state))


def finish(run: TaskRunning, value: Any, error: BaseException | None, gives: State | None = None) -> Steps[Ended]:
    """Report the final state and call the hooks for it."""
    run.report()
    state, flow = run.state, run.flow
    assert state is not None
    run_log.task_finished(run)
    if flow is not None:
        if error is None:
            flow.provenance.note(value, TaskRunResult(id=run.id))
        if flow.finished is not None:
            flow.finished.note(run.task.task_key, run.dynamic_key, run.id, state, run.run_count)
    ended = Ended(state, value, error, gives)
    if hooks := run.task.hooks_for(state):
        yield from call_hooks(hooks, run.task, run, ended.state)
    return ended
