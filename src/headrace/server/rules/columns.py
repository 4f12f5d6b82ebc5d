"""What the row of a run says once a state is written: computed in one place, from the run as it was.

The same for every policy. `flow_run_columns` and `task_run_columns` return values for all columns that a change of
state may touch, so that one prepared statement writes them.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypedDict
from uuid import UUID

from msgspec.structs import replace

from headrace.schemas.states import FINAL, State, StateType
from headrace.server.rules.attempts import attempt_after
from headrace.server.rules.change import Change, Effect, FlowRunNow, Run, SetPolicy, TaskRunNow
from headrace.server.rules.deadlines import due
from headrace.server.rules.facts import Times
from headrace.server.rules.task_effects import CountFromZero, SeenFlowRunCount

RUNNING, SCHEDULED = StateType.RUNNING, StateType.SCHEDULED


class RunColumns(TypedDict):
    """Columns of both kinds of runs."""

    state_id: UUID
    state_type: str
    state_name: str | None
    state_timestamp: datetime
    start_time: datetime | None
    end_time: datetime | None
    total_run_time: float
    expected_start_time: datetime | None
    next_scheduled_start_time: datetime | None
    run_count: int


class AttemptColumns(TypedDict):
    """Columns of flow runs that say whose the run is and when it is overdue."""

    state_index: int
    epoch: int
    lease_until: datetime | None
    lease_seconds: float | None
    due: datetime | None


def later(timestamp: datetime, current: State | None) -> datetime:
    """`timestamp`, or the first moment after the current state's: no two states of a run have the same."""
    if current is None or timestamp > current.timestamp:
        return timestamp
    return current.timestamp + timedelta(microseconds=1)


def belonging(state: State, flow_run_id: UUID | None, task_run_id: UUID | None) -> State:
    """`state` with the ids of the run it belongs to."""
    return replace(state, state_details=replace(state.state_details, flow_run_id=flow_run_id, task_run_id=task_run_id))


def _run_columns(run: Run, written: State) -> RunColumns:
    leaving, entering, moment = run.type, written.type, written.timestamp
    start, end, scheduled = run.start_time, run.end_time, written.state_details.scheduled_time
    if entering in FINAL:
        start, end = start or moment, end or moment
    elif leaving in FINAL:
        end = None
    if entering is RUNNING:
        start = start or moment
    ran = (moment - run.state.timestamp).total_seconds() if run.state is not None and leaving is RUNNING else 0.0
    return RunColumns(
        state_id=written.id,
        state_type=entering.value,
        state_name=written.name,
        state_timestamp=moment,
        start_time=start,
        end_time=end,
        total_run_time=run.total_run_time + max(0.0, ran),
        expected_start_time=run.expected_start_time or (scheduled if entering is SCHEDULED else None) or moment,
        next_scheduled_start_time=scheduled if entering is SCHEDULED else None,
        run_count=run.run_count + (entering is RUNNING),
    )


def flow_run_columns(
    change: Change[FlowRunNow], written: State, effects: Iterable[Effect], times: Times
) -> dict[str, Any]:
    """The columns of a flow run once `written` is its state.

    Args:
        change: the change that was decided.
        written: the state that is written.
        effects: what the rules asked for; those that concern the run's policy are carried out here.
        times: how long things may last.
    """
    run, settings = change.run, [effect for effect in effects if isinstance(effect, SetPolicy)]
    policy = {**run.empirical_policy, **_merged(effect for effect in settings if not effect.after)}
    columns = _run_columns(run, written)
    if written.type is RUNNING and policy.get("resuming"):
        columns["run_count"] = run.run_count
    if policy.get("resuming") and (written.type is RUNNING or written.type in FINAL):
        policy["resuming"] = False
    policy |= _merged(effect for effect in settings if effect.after)
    attempt = attempt_after(change, written)
    owner = AttemptColumns(
        state_index=run.state_index + 1,
        epoch=attempt.epoch,
        lease_until=attempt.lease_until,
        lease_seconds=attempt.lease_seconds,
        due=due(written, attempt.lease_until, policy.get("retry_type"), times),
    )
    return {**columns, **owner, "empirical_policy": policy, "updated": change.now}


def task_run_columns(change: Change[TaskRunNow], written: State, effects: Iterable[Effect]) -> dict[str, Any]:
    """The columns of a task run once `written` is its state."""
    run, seen = change.run, change.run.flow_run_run_count
    for effect in effects:
        if isinstance(effect, CountFromZero):
            run = replace(run, run_count=0)
        elif isinstance(effect, SeenFlowRunCount):
            seen = effect.run_count
    return {**_run_columns(run, written), "flow_run_run_count": seen, "updated": change.now}


def _merged(effects: Iterable[SetPolicy]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for effect in effects:
        merged |= effect.values
    return merged


def first_flow_run_columns(values: Mapping[str, Any], state: State, now: datetime, times: Times) -> dict[str, Any]:
    """The columns of a flow run that begins its life in `state`.

    Args:
        values: the other columns of the row about to be inserted.
        state: its first state, with id and timestamp.
        now: the moment of the transaction.
        times: how long things may last.
    """
    run = FlowRunNow(
        id=values["id"],
        empirical_policy=_plain(values.get("empirical_policy")),
        run_count=values.get("run_count") or 0,
        total_run_time=values.get("total_run_time") or 0.0,
        expected_start_time=values.get("expected_start_time"),
        start_time=values.get("start_time"),
        end_time=values.get("end_time"),
    )
    columns = flow_run_columns(Change(run=run, proposed=state, now=now), state, (), times)
    del columns["empirical_policy"]
    return columns


def _plain(policy: Any) -> Mapping[str, Any]:
    """A policy that is a struct has only its defaults and what a client set: nothing of it counts for a first state."""
    return policy if isinstance(policy, Mapping) else {}
