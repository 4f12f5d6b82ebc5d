"""Who may write for a flow run: its epoch, and the lease of the attempt that holds it.  # G4, G6

The row of the run is authoritative: `epoch` is the number of the attempt, `lease_until` the moment its holder has to
have renewed by, null when nobody holds the run by a lease. The epoch rises whenever the right to write passes on:

- a claim: PENDING (a worker's) or RUNNING without an epoch (run by hand) proposed with `lease_seconds`;
- PENDING or RUNNING begun by a client that knows no epochs, and a final state left for another one;
- a run scheduled anew by somebody else than its holder.

A caller that names its epoch is heard only while that is the run's, whatever policy applies: a replaced attempt is
told to abort and stops itself. A caller that names none (Prefect's clients, a person) may do what the measured tables
allow, except start a run that an attempt holds.

When a holder dies, its lease ends, and the reaper (`services/leases.py`) makes the run CRASHED or SCHEDULED. When it
was only frozen, its next write finds the run ended and is refused, whatever it says: final is final.  # G5
By force it may correct how its run ended: so does the spool with the end of a run that came while the server was away,
and which the reaper, when it was back, could not know of.
"""

from datetime import datetime

from msgspec import Struct

from headrace.schemas.states import FINAL, State, StateType
from headrace.server.rules.change import ACCEPT, Abort, Change, Decision, FlowRunNow, after
from headrace.server.rules.facts import FlowRunFacts

PENDING, RUNNING, PAUSED, SCHEDULED = StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.SCHEDULED


class Attempt(Struct, frozen=True):
    """The columns of a run that say whose it is."""

    epoch: int
    lease_until: datetime | None = None
    lease_seconds: float | None = None


def is_held(run: FlowRunNow, now: datetime) -> bool:
    """Whether an attempt holds the run by a lease that has not ended."""
    return run.lease_until is not None and run.lease_until > now


def is_retry_in_process(run: FlowRunNow) -> bool:
    """Whether the run is scheduled to be tried again by the very process that failed."""
    return run.type is SCHEDULED and run.empirical_policy.get("retry_type") == "in_process"


def fence(change: Change[FlowRunNow], _: FlowRunFacts) -> Decision:
    """Stop an attempt that was replaced, or that goes on after its run has ended."""
    replaced = fence_forced(change, _)
    if replaced is not ACCEPT or change.epoch is None:
        return replaced
    if change.run.type in FINAL and not is_sent_again(change):
        return Abort(f"This attempt has ended as {change.run.type}; only a new one can run again.")
    return ACCEPT


def fence_forced(change: Change[FlowRunNow], _: FlowRunFacts) -> Decision:
    """Stop an attempt that was replaced; one that was not may correct how it ended, but not run on."""
    run = change.run
    if change.epoch is None:
        return ACCEPT
    if change.epoch != run.epoch:
        return Abort(f"Attempt {change.epoch} of this run was replaced by attempt {run.epoch}.")
    if run.type in FINAL and change.proposed.type not in FINAL:
        return Abort(f"This attempt has ended as {run.type}; only a new one can run again.")
    return ACCEPT


def is_sent_again(change: Change[FlowRunNow]) -> bool:
    """Whether the state in force was proposed by this very request: its answer was lost, and it came again."""
    current, transition = change.run.state, change.proposed.state_details.transition_id
    return current is not None and transition is not None and current.state_details.transition_id == transition


def one_attempt(change: Change[FlowRunNow], _: FlowRunFacts) -> Decision:
    """Refuse to start a run that another attempt holds."""
    run, claims = change.run, change.lease_seconds is not None
    if change.epoch is not None:
        return ACCEPT
    if claims and change.proposed.type is PENDING and run.type is PENDING:
        return Abort("This run was claimed before.")
    if claims and run.type is RUNNING and run.lease_until is None:
        return Abort("This run is being run by a client that holds it without a lease.")
    if not is_held(run, change.now) or _may_join(change):
        return ACCEPT
    return Abort(f"This run is held by attempt {run.epoch}, whose lease lasts until {run.lease_until}.")


def _may_join(change: Change[FlowRunNow]) -> bool:
    """Whether a caller without epoch or lease may act on a run that is held.

    It may be the child of a worker that holds the run, which renames PENDING or begins to run; or someone who resumes
    a pause, whose process goes on.
    """
    if change.lease_seconds is not None:
        return False
    return change.run.type is PENDING or (change.run.type is PAUSED and change.proposed.type is RUNNING)


def attempt_after(change: Change[FlowRunNow], written: State) -> Attempt:
    """The attempt and its lease once `written` is the run's state."""
    run = change.run
    begins = _begins(change, written)
    epoch = run.epoch + begins
    if not _is_kept(change, written):
        return Attempt(epoch)
    if change.epoch is None and change.lease_seconds is None:  # someone else's change: the holder's lease goes on
        return Attempt(epoch) if begins else Attempt(epoch, run.lease_until, run.lease_seconds)
    seconds = change.lease_seconds or run.lease_seconds
    return Attempt(epoch, None if seconds is None else after(change.now, seconds), seconds)


def retries_in_process(change: Change[FlowRunNow], written: State) -> bool:
    """Whether a failure was answered by a retry, for which the process and its slot are kept."""
    return change.run.type is RUNNING and change.proposed.type is StateType.FAILED and written.type is SCHEDULED


def _is_kept(change: Change[FlowRunNow], written: State) -> bool:
    """Whether a process goes on holding the run in this state."""
    if written.type is SCHEDULED:
        return retries_in_process(change, written)
    if written.type is PAUSED:
        return not written.state_details.pause_reschedule
    return written.type not in FINAL


def _begins(change: Change[FlowRunNow], written: State) -> bool:
    """Whether a new attempt begins, or the old one loses its right to write."""
    run, leaving = change.run, change.run.type
    if written.type in FINAL or leaving is None:
        return False
    if leaving in FINAL:
        return True
    if written.type is PENDING:
        return leaving is not PENDING
    if change.epoch is not None:
        return False
    if written.type is RUNNING:
        return change.lease_seconds is not None or leaving in (SCHEDULED, RUNNING) or _is_suspended(run)
    return written.type is SCHEDULED and run.lease_until is not None and not retries_in_process(change, written)


def _is_suspended(run: FlowRunNow) -> bool:
    return run.state is not None and run.state.state_details.pause_reschedule
