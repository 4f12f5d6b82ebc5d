"""States: what a run is, was and may become.

`State` is the one class for all of them; the functions here make the usual ones (`Completed(message="done", data=5)`).
A flow or task that returns a state ends in it.
"""

import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, TypeGuard

from headrace.exceptions import CancelledRun, CrashedRun, FailedRun, MissingResult, PausedRun, UnfinishedRun
from headrace.schemas.states import FINAL, State, StateCreate, StateDetails, StateType

TERMINAL_STATES = FINAL
"""The types of final states, under the name that Prefect gives them."""


def _make(type_: StateType, name: str, given: dict[str, Any], **details: Any) -> State:
    given.setdefault("name", name)
    given.pop("cls", None)
    base = given.pop("state_details", None) or StateDetails()
    for key, value in details.items():
        if value is not None:
            setattr(base, key, value)
    return State(type=type_, state_details=base, **given)


def _soon(scheduled_time: datetime | None) -> datetime:
    return scheduled_time or datetime.now(UTC)


def Scheduled(scheduled_time: datetime | None = None, **kwargs: Any) -> State:
    """It waits for its time.

    Args:
        scheduled_time: when it shall start; now when absent.
        kwargs: other fields of the state (`name`, `message`, `data`, `state_details`), as for all functions here.
    """
    return _make(StateType.SCHEDULED, "Scheduled", kwargs, scheduled_time=_soon(scheduled_time))


def Late(scheduled_time: datetime | None = None, **kwargs: Any) -> State:
    """Its time has passed and nobody has taken it on."""
    return _make(StateType.SCHEDULED, "Late", kwargs, scheduled_time=_soon(scheduled_time))


def AwaitingRetry(scheduled_time: datetime | None = None, **kwargs: Any) -> State:
    """It failed and will be tried again at `scheduled_time`."""
    return _make(StateType.SCHEDULED, "AwaitingRetry", kwargs, scheduled_time=_soon(scheduled_time))


def AwaitingConcurrencySlot(scheduled_time: datetime | None = None, **kwargs: Any) -> State:
    """It waits for a free slot and asks again at `scheduled_time`."""
    return _make(StateType.SCHEDULED, "AwaitingConcurrencySlot", kwargs, scheduled_time=_soon(scheduled_time))


def Pending(**kwargs: Any) -> State:
    """It was taken on and has not begun."""
    return _make(StateType.PENDING, "Pending", kwargs)


def Submitting(**kwargs: Any) -> State:
    """A worker is about to hand it to its infrastructure."""
    return _make(StateType.PENDING, "Submitting", kwargs)


def InfrastructurePending(**kwargs: Any) -> State:
    """Its infrastructure is being made."""
    return _make(StateType.PENDING, "InfrastructurePending", kwargs)


def Running(**kwargs: Any) -> State:
    """It runs."""
    return _make(StateType.RUNNING, "Running", kwargs)


def Retrying(**kwargs: Any) -> State:
    """It runs again after a failure."""
    return _make(StateType.RUNNING, "Retrying", kwargs)


def Completed(**kwargs: Any) -> State:
    """It ended well; `data` is its result."""
    return _make(StateType.COMPLETED, "Completed", kwargs)


def Failed(**kwargs: Any) -> State:
    """It ended by an error; `data` may be the exception."""
    return _make(StateType.FAILED, "Failed", kwargs)


def Crashed(**kwargs: Any) -> State:
    """What ran it died or was stopped."""
    return _make(StateType.CRASHED, "Crashed", kwargs)


def Cancelling(**kwargs: Any) -> State:
    """It was told to end."""
    return _make(StateType.CANCELLING, "Cancelling", kwargs)


def Cancelled(**kwargs: Any) -> State:
    """It was cancelled."""
    return _make(StateType.CANCELLED, "Cancelled", kwargs)


def Paused(
    timeout_seconds: float | None = None,
    pause_expiration_time: datetime | None = None,
    reschedule: bool = False,
    pause_key: str | None = None,
    **kwargs: Any,
) -> State:
    """It waits to be resumed.

    Args:
        timeout_seconds: how long it waits; for ever when neither this nor `pause_expiration_time` is given.
        pause_expiration_time: until when it waits.
        reschedule: whether it gave up its process and is scheduled again when resumed.
        pause_key: what tells several pauses of one run apart.
        kwargs: other fields of the state.
    """
    if timeout_seconds is not None:
        pause_expiration_time = datetime.now(UTC) + timedelta(seconds=timeout_seconds)
    return _make(
        StateType.PAUSED,
        "Paused",
        kwargs,
        pause_timeout=pause_expiration_time,
        pause_reschedule=reschedule or None,
        pause_key=pause_key,
    )


def Suspended(
    timeout_seconds: float | None = None,
    pause_expiration_time: datetime | None = None,
    pause_key: str | None = None,
    **kwargs: Any,
) -> State:
    """It waits to be resumed, and gave up its process; see `Paused`."""
    kwargs.setdefault("name", "Suspended")
    return Paused(timeout_seconds, pause_expiration_time, True, pause_key, **kwargs)


def is_state_iterable(obj: Any) -> TypeGuard[Iterable[State]]:
    """Whether `obj` is a list, tuple or set of states and nothing else, with at least one."""
    return isinstance(obj, list | tuple | set) and bool(obj) and all(isinstance(item, State) for item in obj)


class StateGroup:
    """Several states and what they come to together.

    Args:
        states: the states.
    """

    def __init__(self, states: list[State]) -> None:
        self.states = states
        self.total_count = len(states)
        self.final_count = sum(state.is_final() for state in states)
        self.not_final_count = self.total_count - self.final_count

    def _any(self, type_: StateType) -> bool:
        return any(state.type is type_ for state in self.states)

    @property
    def fail_count(self) -> int:
        """How many failed or crashed."""
        return sum(state.is_failed() or state.is_crashed() for state in self.states)

    def all_completed(self) -> bool:
        """Whether all ended well."""
        return all(state.is_completed() for state in self.states)

    def any_cancelled(self) -> bool:
        """Whether one was cancelled."""
        return self._any(StateType.CANCELLED)

    def any_failed(self) -> bool:
        """Whether one failed or crashed."""
        return self.fail_count > 0

    def any_paused(self) -> bool:
        """Whether one is paused."""
        return self._any(StateType.PAUSED)

    def all_final(self) -> bool:
        """Whether all have ended."""
        return self.not_final_count == 0

    def counts_message(self) -> str:
        """How many there are of each kind, in words."""
        counts = [f"total: {self.total_count}", f"not final: {self.not_final_count}" if self.not_final_count else ""]
        for type_ in StateType:
            if number := sum(state.type is type_ for state in self.states):
                counts.append(f"{type_.value.lower()}: {number}")
        return ", ".join(filter(None, counts))


def to_state_create(state: State) -> StateCreate:
    """A state as it is proposed to the API: without id, timestamp, and a result that only lives in memory."""
    data = state.data if isinstance(state.data, dict | None) else None
    return StateCreate(
        type=state.type, name=state.name, message=state.message, state_details=state.state_details, data=data
    )


def format_exception(exc: BaseException, tb: TracebackType | None = None) -> str:
    """An exception as Python prints it.

    Args:
        exc: the exception.
        tb: the traceback to print; its own when absent.
    """
    return "".join(traceback.format_exception(type(exc), exc, tb=tb or exc.__traceback__))


def exception_of(state: State, data: Any = None) -> BaseException:
    """The exception that stands for a state that is not COMPLETED.

    Args:
        state: the state.
        data: its result, if that is known: an exception, a message, a state, or states, the first bad of which counts.
    """
    if isinstance(data, BaseException):
        return data
    if isinstance(data, State):
        return exception_of(data, data.result(raise_on_failure=False))
    if is_state_iterable(data):
        for part in data:
            if not part.is_completed():
                return exception_of(part, part.result(raise_on_failure=False) if part.is_final() else None)
    message = data if isinstance(data, str) else state.message
    if state.is_failed():
        return FailedRun(message or "Run failed.")
    if state.is_crashed():
        return CrashedRun(message or "Run crashed.")
    if state.is_cancelled():
        return CancelledRun(message or "Run cancelled.")
    if state.is_paused():
        return PausedRun("Run is paused, its result is not available.", state=state)
    if state.is_completed():
        return MissingResult("The result was not persisted and is no longer available.")
    return UnfinishedRun(f"Run is in {state.type.name} state, its result is not available.")


class Held:
    """A result in the memory of this process, as the `data` of a state.

    Args:
        value: the result, or the exception.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Held({self.value!r})"


def read_result(state: State, raise_on_failure: bool, load: Callable[[Any], Any]) -> Any:
    """What `State.result` gives.

    Args:
        state: the state.
        raise_on_failure: raise what the run raised; otherwise return it.
        load: reads a result from storage, given the state's data; called for data that is neither held in memory nor
            a value that was put into the state as it is.

    Raises:
        Exception: the run's own; `UnfinishedRun`, `MissingResult` and their kin when there is no result.
    """
    data = state.data
    if isinstance(data, Held):
        data = data.value
    elif isinstance(data, dict) and ("storage_key" in data or data.get("type") == "unpersisted"):
        data = load(data)
    elif data is None and state.is_completed() and not state.state_details.untrackable_result:
        return None
    elif data is None:
        error = exception_of(state)
        if raise_on_failure or not state.is_final():
            raise error
        return error
    if state.is_completed() or not state.is_final():
        return data
    error = exception_of(state, data)
    if raise_on_failure:
        raise error
    return data
