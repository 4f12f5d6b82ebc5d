"""The rules of task runs, as tables.

headrace's engine decides about its task runs itself and records them; what is proposed here are the task runs that
stand for child flow runs, background tasks, and those of clients that ask for every change. `TASK_RUN_RULES` is for
what is proposed, `FORCED_TASK_RUN_RULES` for what is forced and for first states, `BACKGROUND_TASK_RUN_RULES` for any
state with `deferred` set.
"""

from msgspec.structs import replace

from headrace.schemas.states import FINAL, StateDetails, StateType
from headrace.server.rules.change import (
    ACCEPT,
    ANY,
    ENDED,
    Abort,
    Accept,
    Asked,
    Change,
    Decision,
    Policy,
    Reject,
    Rule,
    TaskRunNow,
    Wait,
    after,
    instead,
    is_persisted,
    only,
    with_details,
)
from headrace.server.rules.facts import CACHED, FLOW_RUN, TAG_LIMITS, TaskRunFacts
from headrace.server.rules.slots import StandInLine
from headrace.server.rules.task_effects import (
    CountFromZero,
    Enqueue,
    FreeTagSlots,
    KeepInCache,
    SeenFlowRunCount,
    TakeTagSlots,
)

SCHEDULED, PENDING, RUNNING, PAUSED = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED
CANCELLING, COMPLETED, CRASHED = StateType.CANCELLING, StateType.COMPLETED, StateType.CRASHED

TaskRunChange = Change[TaskRunNow]


def use_cache(change: TaskRunChange, facts: TaskRunFacts) -> Decision:
    """A task run does not run when the result it asks for is known."""
    if facts.cached is None or change.proposed.state_details.cache_key is None:
        return ACCEPT
    if change.proposed.state_details.refresh_cache:
        return ACCEPT
    cached = facts.cached
    details = replace(cached.state_details, transition_id=None)
    known = instead(change, COMPLETED, "Cached", message=cached.message, data=cached.data, details=details)
    return Reject("The state was found in the cache.", known)


def keep_final_state(change: TaskRunChange, facts: TaskRunFacts) -> Decision:
    """A final state is left only to run again, and then attempts are counted anew."""
    run, current, proposed = change.run, change.run.state, change.proposed
    if current is None:
        return ACCEPT
    if proposed.type in (CANCELLING, PAUSED, CRASHED):
        return Abort(f"This task run has ended as {current.type}.")
    if current.type is COMPLETED and is_persisted(current.data):
        return Reject("This task run has completed, and its result is kept.")
    if proposed.type in FINAL:
        return ACCEPT
    flow_run = facts.flow_run
    retried = proposed.type is RUNNING and flow_run is not None and run.flow_run_run_count < flow_run.run_count
    return Accept(replace(proposed, name="Retrying") if retried else None, (CountFromZero(),))


def only_in_running_flows(change: TaskRunChange, facts: TaskRunFacts) -> Decision:
    """A task run begins only while its flow run runs."""
    flow_run = facts.flow_run
    if flow_run is None:
        return ACCEPT
    state = flow_run.state
    if state is not None and state.type is PAUSED:
        details = StateDetails(
            pause_timeout=state.state_details.pause_timeout, pause_reschedule=state.state_details.pause_reschedule
        )
        waiting = instead(change, PAUSED, "NotReady", message="Its flow run is paused.", details=details)
        return Reject(f"Flow run {flow_run.id} is paused: its task runs begin after it is resumed.", waiting)
    if state is None or state.type is not RUNNING:
        return Abort(f"Flow run {flow_run.id} is not running: none of its task runs may begin.")
    return ACCEPT


def take_tag_slots(change: TaskRunChange, facts: TaskRunFacts) -> Decision:
    """A task run needs a slot of the limit of each of its tags; where one is full it waits a while, each its own."""
    limits, ids = facts.limits, tuple(limit.limit_id for limit in facts.limits)
    if any(limit.limit <= 0 for limit in limits):
        return Abort("The concurrency limit of one of its tags is 0: none of its task runs may begin.")
    if not all(limit.free for limit in limits):
        retry = after(change.now, facts.times.tag_slot_wait * (0.5 + facts.jitter / 2))
        return Wait("The concurrency limit of one of its tags is full.", retry, (StandInLine(ids, retry),))
    return Accept(effects=(TakeTagSlots(ids),)) if limits else ACCEPT


def copy_scheduled_time(change: TaskRunChange, _: TaskRunFacts) -> Decision:
    """A task run that is taken on keeps the time it was scheduled for."""
    if change.run.state is None or change.proposed.state_details.scheduled_time is not None:
        return ACCEPT
    return Accept(with_details(change.proposed, scheduled_time=change.run.state.state_details.scheduled_time))


def copy_parameters(change: TaskRunChange, _: TaskRunFacts) -> Decision:
    """A background task run keeps the id of its parameters."""
    if change.run.state is None or change.proposed.state_details.task_parameters_id is not None:
        return ACCEPT
    return Accept(with_details(change.proposed, task_parameters_id=change.run.state.state_details.task_parameters_id))


def wait_for_time(change: TaskRunChange, _: TaskRunFacts) -> Decision:
    """Nothing runs before its time."""
    time = change.run.state and change.run.state.state_details.scheduled_time
    return Wait("The task run is scheduled for a later time.", time) if time and time > change.now else ACCEPT


def retry(change: TaskRunChange, facts: TaskRunFacts) -> Decision:
    """A failed task run is tried again, as often as it asks for, unless the failure says that it is of no use."""
    run, proposed = change.run, change.proposed
    retries = run.empirical_policy.get("retries")
    if run.state is None or retries is None or run.run_count > retries or proposed.state_details.retriable is False:
        return ACCEPT
    delay = run.empirical_policy.get("retry_delay") or 0
    if isinstance(delay, list):
        delay = delay[min(max(run.run_count, 1), len(delay)) - 1] if delay else 0
    delay *= 1 + (run.empirical_policy.get("retry_jitter_factor") or 0) * facts.jitter
    details = StateDetails(scheduled_time=after(change.now, delay), deferred=run.state.state_details.deferred)
    waiting = instead(change, SCHEDULED, "AwaitingRetry", message=proposed.message, data=proposed.data, details=details)
    return Reject("The task run failed and is tried again.", waiting)


def name_rerun(change: TaskRunChange, _: TaskRunFacts) -> Decision:
    """A task run that runs again is named for it."""
    run = change.run
    if run.state is None or run.run_count == 0 or run.type in FINAL:
        return ACCEPT
    name = "Retrying" if run.state.name == "AwaitingRetry" else "Rerunning"
    return Accept(replace(change.proposed, name=name))


def see_flow_run_count(_: TaskRunChange, facts: TaskRunFacts) -> Decision:
    """A task run remembers in which attempt of its flow run it began."""
    return ACCEPT if facts.flow_run is None else Accept(effects=(SeenFlowRunCount(facts.flow_run.run_count),))


def keep_in_cache(change: TaskRunChange, facts: TaskRunFacts) -> Decision:
    """A completed state with a cache key can be found by it."""
    details = change.proposed.state_details
    if details.cache_key is None:
        return ACCEPT
    longest = facts.times.max_cache_key_length
    if len(details.cache_key) > longest:
        return Reject(f"The cache key is longer than {longest} characters.", change.proposed)
    return Accept(effects=(KeepInCache(details.cache_key, details.cache_expiration),))


def free_tag_slots(_: TaskRunChange, __: TaskRunFacts) -> Decision:
    """A task run that does not run gives its slots back."""
    return Accept(effects=(FreeTagSlots(),))


def enqueue(change: TaskRunChange, _: TaskRunFacts) -> Decision:
    """A background run waits for whoever serves its task."""
    written = change.written
    if written is None or not written.state_details.deferred:
        return ACCEPT
    due = written.state_details.scheduled_time or change.now
    return Accept(effects=(Enqueue(change.run.task_key, written.id, due),))


def claim_once(change: TaskRunChange, _: TaskRunFacts) -> Decision:
    """A background task run is taken on by one server of tasks only."""
    current, proposed = change.run.state, change.proposed
    if current is None or current.type is not PENDING or proposed.name in ("Pending", current.name):
        return Abort(f"This task run is {change.run.type} and cannot be taken on.")
    return Accept(with_details(proposed, scheduled_time=current.state_details.scheduled_time))


_CACHE = Rule("a known result is used", use_cache, ANY, only(RUNNING), frozenset({CACHED}))
_FINAL = Rule("final states stay", keep_final_state, ENDED, ANY, frozenset({FLOW_RUN}))
_TIME = Rule("the scheduled time is kept", copy_scheduled_time, only(SCHEDULED), only(PENDING))
_WAIT = Rule("not before its time", wait_for_time, only(PENDING, SCHEDULED), only(RUNNING))
_RETRY = Rule("retries", retry, only(RUNNING), only(StateType.FAILED))
_RERUN = Rule("reruns are named", name_rerun, ANY, only(RUNNING))
_COUNT = Rule("the flow run's attempt is noted", see_flow_run_count, ANY, only(RUNNING), frozenset({FLOW_RUN}))
_KEEP = Rule("results are kept by their key", keep_in_cache, ANY, only(COMPLETED))
_FREE = Rule("slots are given back", free_tag_slots, ANY, ANY - only(RUNNING, CANCELLING), asked=Asked.AT_THE_END)

TASK_RUN_RULES = Policy(
    "task runs",
    (
        _CACHE,
        _FINAL,
        Rule("only in running flow runs", only_in_running_flows, ANY, only(RUNNING), frozenset({FLOW_RUN})),
        Rule("a slot for each tag", take_tag_slots, ANY, only(RUNNING), frozenset({TAG_LIMITS})),
        _TIME,
        _WAIT,
        _RETRY,
        _RERUN,
        _COUNT,
        _KEEP,
        _FREE,
    ),
)

FORCED_TASK_RUN_RULES = Policy("forced task runs", (_FREE,))

BACKGROUND_TASK_RUN_RULES = Policy(
    "background task runs",
    (
        Rule(
            "taken on once",
            claim_once,
            only(StateType.CANCELLED, CANCELLING, PENDING, RUNNING),
            only(PENDING),
        ),
        _CACHE,
        _FINAL,
        _TIME,
        Rule("parameters are kept", copy_parameters, only(PENDING, SCHEDULED), only(PENDING, RUNNING)),
        _WAIT,
        _RETRY,
        _RERUN,
        _COUNT,
        _KEEP,
        _FREE,
        Rule("task servers are told", enqueue, ANY, only(SCHEDULED), asked=Asked.AT_THE_END),
    ),
)
