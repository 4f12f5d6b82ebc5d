"""Counts of runs by state, over time and at a moment."""

from datetime import datetime

from msgspec import Struct

from headrace.schemas.states import StateType


class HistoryResponseState(Struct, kw_only=True):
    """The runs of one state in a bucket of time; sums are in seconds."""

    count_runs: int
    state_name: str
    state_type: StateType
    sum_estimated_lateness: float
    sum_estimated_run_time: float


class HistoryResponse(Struct, kw_only=True):
    """A bucket of time, and the runs expected in it by state."""

    interval_end: datetime
    interval_start: datetime
    states: list[HistoryResponseState]


class CountByState(Struct, kw_only=True):
    """How many runs are in each type of state."""

    CANCELLED: int = 0
    CANCELLING: int = 0
    COMPLETED: int = 0
    CRASHED: int = 0
    FAILED: int = 0
    PAUSED: int = 0
    PENDING: int = 0
    RUNNING: int = 0
    SCHEDULED: int = 0
