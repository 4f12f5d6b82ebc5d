"""The rules of flow runs, as tables.

Each table is read from top to bottom; see `change.py` for how. `FLOW_RUN_RULES` is for what clients propose,
`FORCED_FLOW_RUN_RULES` for what is forced and for first states, `LATE_FLOW_RUN_RULES` for the service that marks runs
late, `RECONCILING_FLOW_RUN_RULES` for the services that move runs which are overdue.
"""

from collections.abc import Mapping
from typing import Any

from headrace.schemas.states import FINAL, StateDetails, StateType
from headrace.server.rules.attempts import fence, fence_forced, is_retry_in_process, is_sent_again, one_attempt
from headrace.server.rules.change import (
    ACCEPT,
    ANY,
    ENDED,
    Abort,
    Accept,
    Asked,
    Change,
    Decision,
    FlowRunNow,
    Policy,
    Reject,
    Rule,
    SetPolicy,
    Wait,
    after,
    any_but,
    instead,
    is_persisted,
    only,
    with_details,
)
from headrace.server.rules.facts import SLOTS, FlowRunFacts
from headrace.server.rules.slots import (
    drop_lease_id,
    free_slots,
    keep_lease_id,
    keep_slot,
    no_slot_when_late,
    take_slot,
)

SCHEDULED, PENDING, RUNNING, PAUSED = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED
CANCELLING, CANCELLED, COMPLETED = StateType.CANCELLING, StateType.CANCELLED, StateType.COMPLETED
FAILED, CRASHED = StateType.FAILED, StateType.CRASHED

FlowRunChange = Change[FlowRunNow]


def refuse_duplicate(change: FlowRunChange, _: FlowRunFacts) -> Decision:
    """A request that was sent twice changes nothing the second time."""
    return Reject("This change of state was made before.") if is_sent_again(change) else ACCEPT


def keep_final_state(change: FlowRunChange, facts: FlowRunFacts) -> Decision:
    """A final state is left only to run again, and a persisted result is not given up."""
    run, current, proposed = change.run, change.run.state, change.proposed
    if current is None:
        return ACCEPT
    if proposed.type in (CANCELLING, PAUSED, CRASHED):
        return Abort(f"This run has ended as {current.type}.")
    if current.type is COMPLETED and is_persisted(current.data) and proposed.type not in FINAL:
        return Reject("This run has completed, and its result is kept.")
    if (kept := keep_result(change, facts)) is not ACCEPT:
        return kept
    if proposed.type is SCHEDULED and run.deployment_id is None:
        return Abort("This run has no deployment: nothing would start it if it were scheduled.")
    if proposed.type in FINAL:
        return ACCEPT
    retry_type = "reschedule" if proposed.type is SCHEDULED else None
    return Accept(effects=(SetPolicy({"resuming": False, "pause_keys": [], "retry_type": retry_type}),))


def keep_result(change: FlowRunChange, _: FlowRunFacts) -> Decision:
    """A completed run whose result is persisted is not completed again without one."""
    current, proposed = change.run.state, change.proposed
    if current is None or current.type is not COMPLETED or proposed.type is not COMPLETED:
        return ACCEPT
    if is_persisted(current.data) and not is_persisted(proposed.data):
        return Reject("This run has completed with a persisted result, which the proposed state does not have.")
    return ACCEPT


def only_cancelled(_: FlowRunChange, __: FlowRunFacts) -> Decision:
    """A run that is being cancelled can only become cancelled."""
    return Reject("This run is being cancelled: it can only become Cancelled.")


def cancel_at_once(change: FlowRunChange, _: FlowRunFacts) -> Decision:
    """Where nothing runs, there is nothing to wait for."""
    run, current = change.run, change.run.state
    if current is None:
        return ACCEPT
    if current.type is PAUSED and not current.state_details.pause_reschedule:
        return ACCEPT
    if current.type is SCHEDULED and run.infrastructure_pid is not None and current.name != "Resuming":
        return ACCEPT
    if is_retry_in_process(run) and run.lease_until is not None:
        return ACCEPT  # its process sleeps until the retry, and has to hear of it
    return Reject("Nothing runs for this run, so it is cancelled at once.", instead(change, CANCELLED))


def claim_once(change: FlowRunChange, _: FlowRunFacts) -> Decision:
    """A run is taken on by one worker only; that one may rename the state as it proceeds."""
    current, proposed = change.run.state, change.proposed
    if current is None or current.type is not PENDING or proposed.name in ("Pending", current.name):
        return Abort(f"This run is {change.run.type} and cannot be taken on.")
    before = current.state_details
    return Accept(
        with_details(
            proposed,
            scheduled_time=before.scheduled_time,
            deployment_concurrency_lease_id=before.deployment_concurrency_lease_id,
        )
    )


def mark_late(change: FlowRunChange, _: FlowRunFacts) -> Decision:
    """Only a run that is scheduled can be late, and only once."""
    if change.proposed.name != "Late":
        return ACCEPT
    current = change.run.state
    if current is None or current.type is not SCHEDULED:
        return Reject("Only a run that is scheduled can be late.")
    return Reject("This run is marked late already.") if current.name == "Late" else ACCEPT


def pause(change: FlowRunChange, _: FlowRunFacts) -> Decision:
    """A run pauses while it runs, once for each key; only one that can be started anew lets its process go."""
    run, current, details = change.run, change.run.state, change.proposed.state_details
    if current is None:
        return Abort("A run that has not begun cannot be paused.")
    if current.type is not RUNNING:
        return Reject("Only a run that is running can be paused.")
    keys = list(run.empirical_policy.get("pause_keys") or ())
    if details.pause_key is not None and details.pause_key in keys:
        return Reject("This pause has taken place before.")
    if details.pause_reschedule and run.parent_task_run_id is not None:
        return Abort("A child run cannot be suspended.")
    if details.pause_reschedule and run.deployment_id is None:
        return Abort("A run without a deployment cannot be suspended: nothing would start it again.")
    key = details.pause_key or str(change.proposed.id)
    return Accept(effects=(SetPolicy({"pause_keys": [*keys, key]}, after=True),))


def resume(change: FlowRunChange, _: FlowRunFacts) -> Decision:
    """A pause ends by running, by being scheduled or cancelled, or by its time-out."""
    current, proposed = change.run.state, change.proposed
    if current is None:
        return ACCEPT
    if proposed.type not in (RUNNING, SCHEDULED, CANCELLING) and proposed.type not in FINAL:
        return Reject(f"A run cannot become {proposed.type} while it is paused.")
    if current.state_details.pause_reschedule and change.run.deployment_id is None:
        return Reject("A suspended run without a deployment cannot be resumed: nothing would start it.")
    resuming = (SetPolicy({"resuming": True}, after=True),)
    timeout = current.state_details.pause_timeout
    if proposed.type is not CANCELLING and timeout is not None and timeout < change.now:
        failed = instead(change, FAILED, message="The run was paused and not resumed in time.")
        return Reject("The pause has timed out, and can no longer end otherwise.", failed, resuming)
    return Accept(effects=resuming)


def copy_scheduled_time(change: FlowRunChange, _: FlowRunFacts) -> Decision:
    """A run that is taken on keeps the time it was scheduled for."""
    current = change.run.state
    if current is None or change.proposed.state_details.scheduled_time is not None:
        return ACCEPT
    return Accept(with_details(change.proposed, scheduled_time=current.state_details.scheduled_time))


def wait_for_time(change: FlowRunChange, _: FlowRunFacts) -> Decision:
    """Nothing runs before its time."""
    time = change.run.state and change.run.state.state_details.scheduled_time
    return Wait("The run is scheduled for a later time.", time) if time and time > change.now else ACCEPT


def retry(change: FlowRunChange, _: FlowRunFacts) -> Decision:
    """A failed run is tried again, as often as it asks for."""
    policy: Mapping[str, Any] = change.run.empirical_policy
    retries = policy.get("retries")
    if retries is None or change.run.run_count > retries:
        return Accept(effects=(SetPolicy({"retry_type": None}),))
    proposed = change.proposed
    details = StateDetails(
        scheduled_time=after(change.now, policy.get("retry_delay") or 0),
        deployment_concurrency_lease_id=proposed.state_details.deployment_concurrency_lease_id,
        transition_id=proposed.state_details.transition_id,  # or FAILED sent twice would be accepted the second time
    )
    waiting = instead(change, SCHEDULED, "AwaitingRetry", message=proposed.message, data=proposed.data, details=details)
    effects = (SetPolicy({"retry_type": "in_process", "resuming": False, "pause_keys": []}),)
    return Reject("The run failed and is tried again.", waiting, effects)


def leave_process(change: FlowRunChange, _: FlowRunFacts) -> Decision:
    """A retry whose process is gone is for whoever takes it on."""
    if not is_retry_in_process(change.run):
        return ACCEPT
    return Accept(effects=(SetPolicy({"retry_type": "reschedule"}),))


_FENCE = Rule("a replaced attempt stops", fence)
_NO_RESULT_LOSS = Rule("a persisted result is kept", keep_result, leaving=ENDED, entering=ENDED)
_CANCEL_AT_ONCE = Rule(
    "nothing runs, nothing to cancel", cancel_at_once, leaving=only(PAUSED, SCHEDULED), entering=only(CANCELLING)
)
_LATE_ONCE = Rule("only scheduled runs are late", mark_late, entering=only(SCHEDULED))
_FREE_SLOTS = Rule(
    "slots are given back", free_slots, entering=any_but(PENDING, RUNNING, CANCELLING), asked=Asked.AT_THE_END
)

FLOW_RUN_RULES = Policy(
    "flow runs",
    (
        _FENCE,
        Rule("the slot's lease is carried on", keep_lease_id),
        Rule("no change is made twice", refuse_duplicate),
        Rule("one attempt at a time", one_attempt, any_but(None) - ENDED, only(PENDING, RUNNING)),
        Rule("final states stay", keep_final_state, leaving=ENDED),
        Rule("cancelling ends in cancelled", only_cancelled, only(CANCELLING), any_but(CANCELLED)),
        _CANCEL_AT_ONCE,
        Rule("taken on once", claim_once, only(CANCELLED, CANCELLING, PENDING, RUNNING), only(PENDING)),
        Rule("a slot still held at the start", keep_slot, only(PENDING), only(RUNNING), frozenset({SLOTS})),
        Rule(
            "a slot before the start",
            take_slot,
            any_but(PENDING, RUNNING, CANCELLING),
            only(PENDING),
            frozenset({SLOTS}),
        ),
        Rule("a slot without renewals", drop_lease_id, only(PENDING), only(CANCELLING, RUNNING)),
        _LATE_ONCE,
        Rule("pausing", pause, ANY, only(PAUSED)),
        Rule("resuming", resume, only(PAUSED)),
        Rule("the scheduled time is kept", copy_scheduled_time, only(SCHEDULED), only(PENDING)),
        Rule("not before its time", wait_for_time, only(PENDING, SCHEDULED), only(RUNNING)),
        Rule("retries", retry, only(RUNNING), only(FAILED)),
        _FREE_SLOTS,
    ),
)

FORCED_FLOW_RUN_RULES = Policy(
    "forced flow runs", (Rule("a replaced attempt stops", fence_forced), _NO_RESULT_LOSS, _CANCEL_AT_ONCE, _FREE_SLOTS)
)

LATE_FLOW_RUN_RULES = Policy(
    "late flow runs",
    (
        _LATE_ONCE,
        Rule("cancelled when late and full", no_slot_when_late, only(SCHEDULED), only(SCHEDULED), frozenset({SLOTS})),
    ),
)

RECONCILING_FLOW_RUN_RULES = Policy(
    "overdue flow runs",
    (Rule("a retry outlives its process", leave_process, only(SCHEDULED), only(SCHEDULED)), _FREE_SLOTS),
)
