"""Which final state a function's return value or exception stands for, and the words for it."""

import sys
from typing import Any

from headrace.engine.identity import ATOMS
from headrace.engine.timeouts import TimeLimitReached
from headrace.engine.upstream import RunFuture, is_simple
from headrace.exceptions import TerminationSignal
from headrace.schemas.states import State, StateType
from headrace.states import StateGroup, exception_of, is_state_iterable


class Returned:
    """A state that a function returned, directly or as states or futures.

    Args:
        state: the state that the run ends in.
        value: the run's result.
    """

    __slots__ = ("error", "state", "value")

    def __init__(self, state: State, value: Any) -> None:
        self.state = state
        self.value = value
        self.error = None if state.is_completed() else exception_of(state, value)


def state_of_value(value: Any) -> Returned | None:
    """The state that a function asks for by returning it; None when it returned an ordinary value.

    A state is taken as it is, with its data as the result. Of several states, in a list, tuple or set, all must be
    completed for the run to be so; the states are the result.
    """
    if type(value) in ATOMS:
        return None
    if isinstance(value, State):
        if value.is_completed() and value.data is None:
            return Returned(value, None)
        return Returned(value, value.result(raise_on_failure=False) if value.data is not None else None)
    if is_state_iterable(value):
        return Returned(_state_of_group(list(value)), value)
    return None


def state_of_flow_value(value: Any) -> tuple[Any, Returned | None]:
    """As `state_of_value`, for flows: futures among what is returned count as the states they end in.

    Returns:
        The value with states in place of futures, and the state that it asks for, if it does.
    """
    value = futures_to_states(value)
    if isinstance(value, State) and value.state_details.task_run_id is not None:
        # The state of a task run is judged like a list of one: its result stays a state.
        return value, Returned(_state_of_group([value]), value)
    return value, state_of_value(value)


def futures_to_states(value: Any) -> Any:
    """`value` with each future in it, in lists, tuples, sets and dicts, waited for and replaced by its state."""
    kind = type(value)
    if kind in ATOMS:
        return value
    if isinstance(value, RunFuture):
        value.wait()
        return value.state
    if kind in (list, tuple, set) and not is_simple(value):
        parts = [futures_to_states(part) for part in value]
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else kind(parts)
    if isinstance(value, list) and hasattr(value, "wait"):  # a list of futures
        return [futures_to_states(part) for part in value]
    if kind is dict:
        items = {key: futures_to_states(item) for key, item in value.items()}
        return items if any(items[key] is not item for key, item in value.items()) else value
    return value


def _state_of_group(states: list[State]) -> State:
    group = StateGroup(states)
    if group.all_completed():
        return State(type=StateType.COMPLETED, name="Completed", message="All states completed.")
    if group.any_cancelled():
        cancelled = sum(state.is_cancelled() for state in states)
        return State(
            type=StateType.CANCELLED, name="Cancelled", message=f"{cancelled}/{group.total_count} states cancelled."
        )
    if group.any_paused():
        return State(type=StateType.PAUSED, name="Paused", message="Some states are paused.")
    if group.any_failed():
        message = f"{group.fail_count}/{group.total_count} states failed."
    else:
        message = f"{group.not_final_count}/{group.total_count} states are not final."
    return State(type=StateType.FAILED, name="Failed", message=message)


def failure_message(what: str, error: BaseException | None) -> str:
    """What the state of a run says whose function raised.

    Args:
        what: "Flow run" or "Task run".
        error: what it raised.
    """
    if error is None:
        return f"{what} failed."
    text = str(error)
    kind = type(error).__name__
    separator = ":" if what == "Flow run" else ""
    return f"{what} encountered an exception{separator} {kind}{': ' + text if text or not separator else ''}"


def crash_message(error: BaseException) -> str:
    """What the state of a run says that was torn out of its work."""
    if isinstance(error, KeyboardInterrupt):
        return "Execution was aborted by an interrupt signal."
    if isinstance(error, TerminationSignal):
        return "Execution was aborted by a termination signal."
    if isinstance(error, SystemExit):
        return "Execution was aborted by Python system exit call."
    if is_cancellation(error):
        return "Execution was cancelled by the runtime environment."
    if isinstance(error, TimeLimitReached):
        return "Execution was ended by the time limit of the run around it."
    return f"Execution was interrupted by an unexpected exception: {type(error).__name__}: {error}"


def is_cancellation(error: BaseException | None) -> bool:
    """Whether it is asyncio's cancellation; asks without importing asyncio."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)
