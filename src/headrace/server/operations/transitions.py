"""Changing the state of a run: the one way for clients, for services and for our own code.

A change loads the run and its current state with one statement that locks the row, asks the rules, and writes: the
row of the run, guarded by the epoch and the state index that were read, the row of the state, whose index is unique
within the run, and what the rules asked for. All of it is one transaction.  # G4, G5

Whatever the answer, the caller gets an `OrchestrationResult`; refusing is not an error.
"""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from msgspec.structs import replace
from sqlalchemy import Table, bindparam, select

from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectNotFound
from headrace.schemas.states import (
    FINAL,
    OrchestrationResult,
    SetStateStatus,
    State,
    StateAbortDetails,
    StateAcceptDetails,
    StateCreate,
    StateDetails,
    StateRejectDetails,
    StateType,
    StateWaitDetails,
)
from headrace.server.events import hints
from headrace.server.operations.effects import carry_out
from headrace.server.operations.facts import find_task_run, flow_run_facts, lock_flow_run, task_run_facts, times
from headrace.server.operations.rows import kept_data, set_details
from headrace.server.operations.run_events import NewRun, tell_of_flow_run
from headrace.server.rules.change import Change, FlowRunNow, Policy, TaskRunNow, Verdict, decide, with_details
from headrace.server.rules.columns import (
    AttemptColumns,
    RunColumns,
    belonging,
    first_flow_run_columns,
    flow_run_columns,
    later,
    task_run_columns,
)
from headrace.server.rules.facts import FlowRunFacts, TaskRunFacts
from headrace.server.rules.flow_runs import FLOW_RUN_RULES, FORCED_FLOW_RUN_RULES, RECONCILING_FLOW_RUN_RULES
from headrace.server.rules.task_runs import BACKGROUND_TASK_RUN_RULES, FORCED_TASK_RUN_RULES, TASK_RUN_RULES
from headrace.server.store.prepared import Prepared
from headrace.server.store.tables import FLOW_RUN, FLOW_RUN_STATE, TASK_RUN, TASK_RUN_STATE, WORK_QUEUE
from headrace.server.store.tables.types import aware
from headrace.server.store.transaction import Tx

CORE = FLOW_RUN_RULES
FORCED = FORCED_FLOW_RUN_RULES


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer, and whether a state was written for it."""

    result: OrchestrationResult
    written: bool


def set_flow_run_state(
    tx: Tx,
    run_id: UUID,
    proposed: StateCreate,
    *,
    force: bool = False,
    epoch: int | None = None,
    lease_seconds: float | None = None,
    policy: Policy[FlowRunNow, FlowRunFacts] = CORE,
) -> OrchestrationResult:
    """Propose a state for a flow run; see `propose_flow_run_state`."""
    outcome = propose_flow_run_state(
        tx, run_id, proposed, force=force, epoch=epoch, lease_seconds=lease_seconds, policy=policy
    )
    return outcome.result


def propose_flow_run_state(
    tx: Tx,
    run_id: UUID,
    proposed: StateCreate,
    *,
    force: bool = False,
    epoch: int | None = None,
    lease_seconds: float | None = None,
    policy: Policy[FlowRunNow, FlowRunFacts] = CORE,
    renews_slot: bool = False,
) -> Outcome:
    """Propose a state for a flow run, and write what the rules make of it.

    Args:
        tx: a writing transaction.
        run_id: the flow run.
        proposed: the state; its id and timestamp are made here.
        force: ask only the rules that hold for forced changes.
        epoch: the attempt the caller writes for, if it knows of one.  # G4
        lease_seconds: ask for a lease of that length; with PENDING, or with RUNNING and no epoch, this is a claim.
        policy: the rules to ask when the change is not forced.
        renews_slot: whether the caller renews the lease of its deployment's slot itself.

    Raises:
        ObjectNotFound: there is no such flow run.
    """
    run = lock_flow_run(tx, run_id)
    return change_flow_run(
        tx,
        run,
        Change(
            run=run,
            proposed=_state_for(proposed, tx, run.state),
            now=tx.now,
            epoch=epoch,
            lease_seconds=lease_seconds,
            renews_slot=renews_slot,
        ),
        FORCED if force else policy,
    )


def change_flow_run(
    tx: Tx, run: FlowRunNow, change: Change[FlowRunNow], policy: Policy[FlowRunNow, FlowRunFacts]
) -> Outcome:
    """Decide on a change of a flow run that was loaded and locked, and write what follows."""
    needs = policy.needs(run.type, change.proposed.type)
    verdict = decide(policy, change, flow_run_facts(tx, change, needs))
    if verdict.state is None:
        _note_wait(tx, verdict)
        return _answer(verdict, run.state, _epoch_to_tell(change, verdict))
    written = belonging(verdict.state, run.id, run.parent_task_run_id)
    columns = flow_run_columns(change, written, verdict.effects, times())
    _update_flow_run(tx, run, columns)
    tx.send(_INSERT_FLOW_RUN_STATE, _state_row("flow_run_id", run.id, written, columns["state_index"]))
    carry_out(tx, run.id, "flow_run", verdict.effects)
    forced, run_count = policy is FORCED or run.type in FINAL, columns["run_count"]
    tell_of_flow_run(tx, run.id, written, run.state, forced=forced, run_count=run_count, around=run.around)
    _tell_others(tx, run.id, run.parent_task_run_id, run.work_queue_id, written)
    claimed = change.lease_seconds is not None and verdict.status is SetStateStatus.ACCEPT
    known = claimed or change.epoch is not None
    return _answer(verdict, written, columns["epoch"] if known else None)


def reconcile(
    tx: Tx,
    run: FlowRunNow,
    proposed: StateCreate,
    policy: Policy[FlowRunNow, FlowRunFacts] = RECONCILING_FLOW_RUN_RULES,
) -> Outcome:
    """Move a flow run that is overdue, and was loaded and locked; what clients may not do, a reconciler may.  # G2"""
    return change_flow_run(tx, run, Change(run=run, proposed=_state_for(proposed, tx, run.state), now=tx.now), policy)


def set_task_run_state(tx: Tx, run_id: UUID, proposed: StateCreate, force: bool = False) -> OrchestrationResult:
    """Propose a state for a task run; see `propose_task_run_state`."""
    return propose_task_run_state(tx, run_id, proposed, force).result


def propose_task_run_state(tx: Tx, run_id: UUID, proposed: StateCreate, force: bool = False) -> Outcome:
    """Propose a state for a task run, and write what the rules make of it.

    Args:
        tx: a writing transaction.
        run_id: the task run.
        proposed: the state; its id and timestamp are made here.
        force: ask only the rules that hold for forced changes. A state with `deferred` set has rules of its own.

    Raises:
        ObjectNotFound: there is no such task run, or its flow run is gone.
    """
    run = find_task_run(tx, run_id)
    if run is None:
        raise ObjectNotFound("Task run", run_id)
    policy = FORCED_TASK_RUN_RULES if force else TASK_RUN_RULES
    if proposed.state_details.deferred:
        policy = BACKGROUND_TASK_RUN_RULES
    change = Change(run=run, proposed=_state_for(proposed, tx, run.state), now=tx.now)
    return _change_task_run(tx, change, policy)


def _change_task_run(tx: Tx, change: Change[TaskRunNow], policy: Policy[TaskRunNow, TaskRunFacts]) -> Outcome:
    run = change.run
    facts = task_run_facts(tx, change, policy.needs(run.type, change.proposed.type))
    verdict = decide(policy, change, facts)
    if verdict.state is None:
        carry_out(tx, run.id, "task_run", verdict.effects)
        _note_wait(tx, verdict)
        return _answer(verdict, run.state, None)
    written = belonging(verdict.state, run.flow_run_id, run.id)
    columns = task_run_columns(change, written, verdict.effects)
    tx.send(_UPDATE_TASK_RUN, {**columns, "run_id": run.id})
    tx.send(_INSERT_TASK_RUN_STATE, _state_row("task_run_id", run.id, written))
    carry_out(tx, run.id, "task_run", verdict.effects)
    return _answer(verdict, written, None)


def first_flow_run_state(tx: Tx, values: MutableMapping[str, Any], proposed: StateCreate | None) -> State:
    """Make a flow run's first state and add the columns that follow from it to `values`; nothing is written."""
    state = _state_for(proposed or StateCreate(type=StateType.PENDING), tx, None)
    state = belonging(state, values["id"], values.get("parent_task_run_id"))
    values.update(first_flow_run_columns(values, state, tx.now, times()))
    return state


_OF_ITSELF = ("name", "tags", "created_by", "flow_id")
_BELONGINGS = ("deployment_id", "work_queue_id", "parent_task_run_id")


def add_first_flow_run_state(tx: Tx, values: MutableMapping[str, Any], state: State, flow: Any = None) -> None:
    """Write the first state of a flow run whose row, `values`, is there already, and tell who waits for it.

    Args:
        tx: a writing transaction.
        values: the row.
        state: from `first_flow_run_state`.
        flow: its flow, with name and tags, where that is known.
    """
    tx.send(_INSERT_FLOW_RUN_STATE, flow_run_state_row(values["id"], state, values["state_index"]))
    new = None
    if flow is not None and not any(values.get(name) for name in _BELONGINGS):
        new = NewRun(**{name: values[name] for name in _OF_ITSELF}, flow=flow.name, flow_tags=flow.tags)
    tell_of_flow_run(tx, values["id"], state, None, forced=False, run_count=values["run_count"], around=new)
    _tell_others(tx, values["id"], values.get("parent_task_run_id"), values.get("work_queue_id"), state)


def first_task_run_state(tx: Tx, values: MutableMapping[str, Any], proposed: StateCreate | None) -> State:
    """Make a task run's first state and add the columns that follow from it to `values`; nothing is written."""
    state = _state_for(proposed or StateCreate(type=StateType.PENDING), tx, None)
    state = belonging(state, values.get("flow_run_id"), values["id"])
    run = TaskRunNow(
        id=values["id"],
        run_count=values.get("run_count") or 0,
        expected_start_time=values.get("expected_start_time"),
        flow_run_run_count=values.get("flow_run_run_count") or 0,
    )
    values.update(task_run_columns(Change(run=run, proposed=state, now=tx.now), state, ()))
    return state


def add_first_task_run_state(tx: Tx, values: MutableMapping[str, Any], state: State) -> None:
    """Write the first state of a task run whose row is `values`."""
    tx.send(_INSERT_TASK_RUN_STATE, _state_row("task_run_id", values["id"], state))


def task_run_state_row(run_id: UUID, state: State) -> dict[str, Any]:
    """The row of `task_run_state` for a state."""
    return _state_row("task_run_id", run_id, state)


def flow_run_state_row(run_id: UUID, state: State, index: int) -> dict[str, Any]:
    """The row of `flow_run_state` for a state: the `index`-th of its run, counted from 1."""
    return _state_row("flow_run_id", run_id, state, index)


_INSERT_FLOW_RUN_STATE, _INSERT_TASK_RUN_STATE = Prepared(FLOW_RUN_STATE.insert()), Prepared(TASK_RUN_STATE.insert())


def _state_row(owner: str, run_id: UUID, state: State, index: int | None = None) -> dict[str, Any]:
    row = {
        "id": state.id,
        owner: run_id,
        "type": state.type.value,
        "name": state.name,
        "timestamp": state.timestamp,
        "message": state.message,
        "data": kept_data(state),
        "state_details": set_details(state.state_details),
    }
    return row if index is None else {**row, "state_index": index}


def _state_for(proposed: StateCreate, tx: Tx, current: State | None) -> State:
    """A proposed state with its id and timestamp; one that is scheduled for no time is scheduled for now."""
    details = _in_utc(proposed.state_details)
    if proposed.type is StateType.SCHEDULED and details.scheduled_time is None:
        details = replace(details, scheduled_time=tx.now)
    return State(
        id=uuid7(),
        type=proposed.type,
        name=proposed.name,
        timestamp=later(tx.now, current),
        message=proposed.message,
        data=proposed.data,
        state_details=details,
    )


def _in_utc(details: StateDetails) -> StateDetails:
    """Details whose times have a zone; JSON may leave it out, and then means UTC."""
    times = ((name, getattr(details, name)) for name in ("scheduled_time", "pause_timeout", "cache_expiration"))
    naive = {name: aware(time) for name, time in times if time is not None and time.tzinfo is None}
    return replace(details, **naive) if naive else details


_CHANGED = [*RunColumns.__annotations__, "updated"]
_CHANGED_OF_FLOW_RUNS = [*_CHANGED, "empirical_policy", *AttemptColumns.__annotations__]


def _update(table: Table, columns: list[str]) -> Any:
    statement = table.update().where(table.c.id == bindparam("run_id"))
    return statement.values({name: bindparam(name, type_=table.c[name].type) for name in columns})


_UPDATE_FLOW_RUN = Prepared(
    _update(FLOW_RUN, _CHANGED_OF_FLOW_RUNS).where(
        FLOW_RUN.c.epoch == bindparam("old_epoch"), FLOW_RUN.c.state_index == bindparam("old_index")
    )
)
_UPDATE_TASK_RUN = Prepared(_update(TASK_RUN, [*_CHANGED, "flow_run_run_count"]))


def _update_flow_run(tx: Tx, run: FlowRunNow, columns: dict[str, Any]) -> None:
    """Write the run's row, if it is still the one that was decided about.  # G4, G5

    Whether it is need not be waited for: it is locked, and were it not, the number of its new state would be taken.
    """
    tx.send(_UPDATE_FLOW_RUN, {**columns, "run_id": run.id, "old_epoch": run.epoch, "old_index": run.state_index})


_POOL_OF_QUEUE = Prepared(select(WORK_QUEUE.c.work_pool_id).where(WORK_QUEUE.c.id == bindparam("queue_id")))


def _tell_others(tx: Tx, run_id: UUID, parent_id: UUID | None, queue_id: UUID | None, written: State) -> None:
    """Copy the state to the task run that stands for this run in its parent, and wake the workers it concerns."""
    if parent_id is not None:
        _copy_to_parent(tx, parent_id, run_id, written)
    if queue_id is None or written.type not in (StateType.SCHEDULED, StateType.CANCELLING):
        return
    pool_id = tx.execute(_POOL_OF_QUEUE, {"queue_id": queue_id}).scalar()
    if pool_id is not None:
        due = written.type is StateType.SCHEDULED
        payload = {"type": "runs"} if due else {"type": "cancel", "flow_run_id": str(run_id)}
        tx.after_commit(_hint(f"work-pool:{pool_id}", payload))


def _hint(topic: str, payload: dict[str, Any]) -> Callable[[], None]:
    return lambda: hints.publish(topic, payload)


def _copy_to_parent(tx: Tx, parent_id: UUID, run_id: UUID, written: State) -> None:
    parent = find_task_run(tx, parent_id)
    if parent is None:  # its record has not arrived yet, or it was deleted
        return
    copy = with_details(replace(written, id=uuid7()), child_flow_run_id=run_id)
    copy = replace(copy, timestamp=later(written.timestamp, parent.state))
    _change_task_run(tx, Change(run=parent, proposed=copy, now=tx.now), FORCED_TASK_RUN_RULES)


def _note_wait(tx: Tx, verdict: Verdict) -> None:
    """Let a caller that is held know until when; one that waits in line is woken before that."""
    if tx.patience is not None and tx.patience.waits is None:
        tx.patience.waits = verdict.wait_until


def _epoch_to_tell(change: Change[FlowRunNow], verdict: Verdict) -> int | None:
    """The caller's epoch when its change had been made before: the answer to it was lost."""
    sent_again = verdict.rule == "no change is made twice"
    return change.run.epoch if sent_again or change.epoch == change.run.epoch else None


def _answer(verdict: Verdict, state: State | None, epoch: int | None) -> Outcome:
    reason = verdict.reason
    details: StateAcceptDetails | StateRejectDetails | StateWaitDetails | StateAbortDetails
    match verdict.status:
        case SetStateStatus.ACCEPT:
            details = StateAcceptDetails()
        case SetStateStatus.REJECT:
            details = StateRejectDetails(reason=reason)
        case SetStateStatus.WAIT:
            details = StateWaitDetails(delay_seconds=verdict.wait_seconds, reason=reason)
        case _:
            details = StateAbortDetails(reason=reason)
    result = OrchestrationResult(state=state, status=verdict.status, details=details, epoch=epoch)
    return Outcome(result, verdict.state is not None)
