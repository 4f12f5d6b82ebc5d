"""When a run has to be looked at, and what becomes of one that is overdue.  # G2, G6, G12

Each non-final state has a deadline in the run's row, `due`; a service per state looks for rows whose deadline has
passed and asks here what to do. What is decided depends on the row alone, so looking twice or late does no harm.

A lease that ended says that its holder is dead, unless all were kept from renewing: so nothing expires for one lease
time after the reaper starts, or comes back from a gap in which it, the database or the clock stood still.
"""

from datetime import datetime
from math import inf

from msgspec import Struct

from headrace.schemas.states import FINAL, State, StateCreate, StateDetails, StateType
from headrace.server.rules.attempts import is_retry_in_process
from headrace.server.rules.change import FlowRunNow, after
from headrace.server.rules.facts import Times

SCHEDULED, PENDING, RUNNING, PAUSED = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED
CANCELLING, CANCELLED = StateType.CANCELLING, StateType.CANCELLED
CRASHED, FAILED = StateType.CRASHED, StateType.FAILED


def due(state: State, lease_until: datetime | None, retry_type: str | None, times: Times) -> datetime | None:
    """When a run in `state` is overdue; None when it waits for nobody who could be late.

    Args:
        state: the state in force.
        lease_until: the end of its holder's lease, if it has one.
        retry_type: the policy's; `in_process` for a retry that a process sleeps for.
        times: how long things may last.
    """
    if state.type in FINAL:
        return None
    if state.type is CANCELLING:
        return after(state.timestamp, times.cancelling_timeout)
    if state.type is PAUSED:
        ends = [moment for moment in (state.state_details.pause_timeout, lease_until) if moment is not None]
        return min(ends, default=None)
    if lease_until is not None:
        return lease_until
    if state.type is PENDING:
        return after(state.timestamp, times.pending_timeout)
    if state.type is RUNNING:
        return None  # a client without leases: only it can say that it has ended
    scheduled = state.state_details.scheduled_time or state.timestamp
    if retry_type == "in_process":
        return after(scheduled, times.pending_timeout)
    return after(scheduled, times.late_after) if state.name == "Scheduled" else None


class Gap(Struct, frozen=True):
    """A time in which the reaper did not look, by its end and its length in seconds."""

    end: datetime
    seconds: float


class Watch(Struct, frozen=True):
    """When the reaper looked: its latest look, and the gaps that still count, each shorter than the one before."""

    last: datetime
    gaps: tuple[Gap, ...]

    def since(self, gap: float) -> datetime:
        """Since when it has looked without a gap longer than `gap` seconds."""
        return max(one.end for one in self.gaps if one.seconds > gap)


def look(before: Watch | None, now: datetime) -> Watch:
    """The reaper's watch after a look at `now`; the time before its first look, or before time ran back, is a gap."""
    seconds = inf if before is None or now < before.last else (now - before.last).total_seconds()
    longer = () if before is None else tuple(gap for gap in before.gaps if gap.seconds > seconds)
    return Watch(now, (*longer, Gap(now, seconds)))


def lease_has_ended(run: FlowRunNow, now: datetime, watch: Watch, harmless_gap: float) -> bool:
    """Whether the holder of the run had a whole lease time to renew its lease and did not.  # G6

    Args:
        run: the run.
        now: the moment of the transaction.
        watch: when the reaper looked.
        harmless_gap: seconds the reaper may be late without having missed something.
    """
    if run.lease_until is None or run.lease_seconds is None or run.type is CANCELLING:
        return False
    since = watch.since(max(harmless_gap, run.lease_seconds / 3))  # leases are renewed each third of their length
    return now >= max(run.lease_until, after(since, run.lease_seconds))


def when_holder_died(run: FlowRunNow, now: datetime) -> StateCreate | None:
    """What becomes of a run whose lease has ended.

    One that had not begun, or waits for its retry, is scheduled anew if a worker can take it on; all else is crashed.
    """
    if run.state is None or run.type in FINAL:
        return None
    if run.deployment_id is not None and (run.type is PENDING or is_retry_in_process(run)):
        return scheduled_anew(run, now)
    silent = "" if run.lease_until is None else f" It was due by {run.lease_until.isoformat(timespec='seconds')}."
    return StateCreate(type=CRASHED, message=f"Its process stopped renewing its lease: it has died.{silent}")


def when_never_begun(run: FlowRunNow, now: datetime, times: Times) -> StateCreate | None:
    """What becomes of a run that was taken on without a lease and has not begun in time."""
    waits = run.type is PENDING or is_retry_in_process(run)
    if run.state is None or run.lease_until is not None or not waits:
        return None
    deadline = due(run.state, None, run.empirical_policy.get("retry_type"), times)
    if deadline is None or deadline > now:
        return None
    if run.deployment_id is not None:
        return scheduled_anew(run, now)
    return StateCreate(type=CRASHED, message=f"It was {run.type} for {times.pending_timeout:g} s and did not begin.")


def scheduled_anew(run: FlowRunNow, now: datetime) -> StateCreate:
    """The state of a run that is to be taken on once more, at the time it was meant for."""
    time = (run.state and run.state.state_details.scheduled_time) or now
    name = "AwaitingRetry" if is_retry_in_process(run) else "Scheduled"
    message = "Whoever took this run on has not begun it; it is scheduled anew."
    return StateCreate(type=SCHEDULED, name=name, message=message, state_details=StateDetails(scheduled_time=time))


def when_late(run: FlowRunNow, now: datetime, times: Times) -> StateCreate | None:
    """Mark a scheduled run late that nobody has taken on in time."""
    if run.state is None or run.type is not SCHEDULED or run.state.name != "Scheduled" or is_retry_in_process(run):
        return None
    time = run.state.state_details.scheduled_time or run.state.timestamp
    if after(time, times.late_after) > now:
        return None
    return StateCreate(type=SCHEDULED, name="Late", state_details=StateDetails(scheduled_time=time))


def when_cancelling_lasts(run: FlowRunNow, now: datetime, times: Times) -> StateCreate | None:
    """End a cancelling that nobody has carried out in time."""
    if run.state is None or run.type is not CANCELLING or after(run.state.timestamp, times.cancelling_timeout) > now:
        return None
    message = f"Nobody ended this run within {times.cancelling_timeout:g} s of its cancelling; the server did."
    return StateCreate(type=CANCELLED, message=message)


def when_pause_lasts(run: FlowRunNow, now: datetime) -> StateCreate | None:
    """End a pause whose time-out has passed."""
    timeout = run.state.state_details.pause_timeout if run.state is not None and run.type is PAUSED else None
    if timeout is None or timeout > now:
        return None
    return StateCreate(type=FAILED, message="The run was paused and not resumed in time.")


def when_parent_ended(run: FlowRunNow, parent: StateType) -> StateCreate | None:
    """What becomes of an unfinished child of a run that was cancelled or has crashed.

    A child with a deployment of its own runs elsewhere, under a lease of its own: it outlives a crash, and is told to
    cancel. Any other child ran inside its parent.
    """
    if run.type in FINAL:
        return None
    if parent is CRASHED and run.deployment_id is None:
        return StateCreate(type=CRASHED, message="It ran inside a flow run that crashed.")
    if parent is not CANCELLED:
        return None
    if run.deployment_id is None:
        return StateCreate(type=CANCELLED, message="Its parent flow run was cancelled.")
    return (
        None if run.type is CANCELLING else StateCreate(type=CANCELLING, message="Its parent flow run was cancelled.")
    )
