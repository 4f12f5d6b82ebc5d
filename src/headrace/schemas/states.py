"""States of flow runs and task runs, what may be proposed, and what the rules answer."""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace

from headrace._internal.ids import uuid7
from headrace.schemas.endpoint import Endpoint


class StateType(StrEnum):
    """What the rules go by; a state's name is for people, and may be any text."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"


FINAL = frozenset({StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED})
"""The types a run leaves only by force or by a retry.  # G5"""


class StateDetails(Struct, kw_only=True, gc=False):
    """Facts that belong to a state; most states have few of them."""

    cache_expiration: datetime | None = None
    cache_key: str | None = None
    child_flow_run_id: UUID | None = None
    deferred: bool | None = False
    deployment_concurrency_lease_id: UUID | None = None
    flow_run_id: UUID | None = None
    pause_key: str | None = None
    pause_reschedule: bool = False
    pause_timeout: datetime | None = None
    refresh_cache: bool | None = None
    retriable: bool | None = None
    run_input_keyset: dict[str, str] | None = None
    scheduled_time: datetime | None = None
    task_parameters_id: UUID | None = None
    task_run_id: UUID | None = None
    traceparent: str | None = None
    transition_id: UUID | None = None
    untrackable_result: bool = False


def _no_resolver(state: "State", raise_on_failure: bool, retry_result_failure: bool) -> Any:
    raise RuntimeError("Results of states are read by headrace.results: import headrace.results before asking for one.")


_resolve: Callable[["State", bool, bool], Any] = _no_resolver


def resolve_results_with(resolver: Callable[["State", bool, bool], Any]) -> None:
    """Name the function behind `State.result`; `headrace.results` does so when it is imported.

    Args:
        resolver: called with the state, `raise_on_failure` and `retry_result_failure`.
    """
    global _resolve
    _resolve = resolver


_now = partial(datetime.now, UTC)


class State(Struct, kw_only=True):
    """A state of a run. One without a name is named for its type."""

    data: Any = None
    id: UUID = field(default_factory=uuid7)
    message: str | None = None
    name: str | None = None
    state_details: StateDetails = field(default_factory=StateDetails)
    timestamp: datetime = field(default_factory=_now)
    type: StateType

    def __post_init__(self) -> None:
        if self.name is None:
            self.name = self.type.capitalize()

    def __str__(self) -> str:
        words = [repr(self.message)] if self.message else []
        if self.name != self.type.capitalize():
            words.append(f"type={self.type.value}")
        return f"{self.name}({', '.join(words)})"

    def __repr__(self) -> str:
        return f"{self.name}(message={self.message!r}, type={self.type.value}, result={self.data!r})"

    def is_scheduled(self) -> bool:
        """Whether it waits for its time."""
        return self.type is StateType.SCHEDULED

    def is_pending(self) -> bool:
        """Whether it was taken on and has not begun."""
        return self.type is StateType.PENDING

    def is_running(self) -> bool:
        """Whether it runs."""
        return self.type is StateType.RUNNING

    def is_completed(self) -> bool:
        """Whether it ended well."""
        return self.type is StateType.COMPLETED

    def is_failed(self) -> bool:
        """Whether it ended by an error of its own."""
        return self.type is StateType.FAILED

    def is_crashed(self) -> bool:
        """Whether what ran it died."""
        return self.type is StateType.CRASHED

    def is_cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.type is StateType.CANCELLED

    def is_cancelling(self) -> bool:
        """Whether it was told to end and has not yet."""
        return self.type is StateType.CANCELLING

    def is_paused(self) -> bool:
        """Whether it waits to be resumed."""
        return self.type is StateType.PAUSED

    def is_final(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.type in FINAL

    def result(self, raise_on_failure: bool = True, retry_result_failure: bool = True) -> Any:
        """The value the run returned, or the exception it raised.

        Args:
            raise_on_failure: raise that exception; otherwise return it.
            retry_result_failure: try again when storage fails to hand out a persisted result.

        Raises:
            Exception: the run's own, or why its result cannot be had.
        """
        return _resolve(self, raise_on_failure, retry_result_failure)

    def fresh_copy(self, **changes: Any) -> "State":
        """A copy as a state of its own: new id, new timestamp, no link to a transition, and `changes`."""
        details = replace(self.state_details, transition_id=None)
        return replace(self, **{"id": uuid7(), "timestamp": _now(), "state_details": details} | changes)


class StateCreate(Struct, kw_only=True):
    """A state as a client proposes it; its id and timestamp are the server's."""

    data: Any = None
    message: str | None = None
    name: str | None = None
    state_details: StateDetails = field(default_factory=StateDetails)
    type: StateType


class SetStateStatus(StrEnum):
    """The four answers to a proposal."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    ABORT = "ABORT"
    WAIT = "WAIT"


class StateAbortDetails(Struct, kw_only=True, tag_field="type", tag="abort_details"):
    """Why the client has to stop."""

    reason: str | None = None


class StateAcceptDetails(Struct, kw_only=True, tag_field="type", tag="accept_details"):
    """Nothing more to say."""


class StateRejectDetails(Struct, kw_only=True, tag_field="type", tag="reject_details"):
    """Why another state than the proposed one is in force."""

    reason: str | None = None


class StateWaitDetails(Struct, kw_only=True, tag_field="type", tag="wait_details"):
    """How long to wait before proposing again, and why."""

    delay_seconds: int
    reason: str | None = None


class OrchestrationResult(Struct, kw_only=True):
    """The answer to a proposal.

    `state` is the one now in force, if the rules name one. `epoch` is headrace's own: the number of the attempt the
    caller now writes for, set when the proposal asked for a lease or named an epoch.  # G4
    """

    details: StateAcceptDetails | StateWaitDetails | StateRejectDetails | StateAbortDetails
    state: State | None
    status: SetStateStatus
    epoch: int | None = None


READ_FLOW_RUN_STATES = Endpoint("GET", "/flow_run_states/", returns=list[State])
READ_FLOW_RUN_STATE = Endpoint("GET", "/flow_run_states/{id}", returns=State)
READ_TASK_RUN_STATES = Endpoint("GET", "/task_run_states/", returns=list[State])
READ_TASK_RUN_STATE = Endpoint("GET", "/task_run_states/{id}", returns=State)
