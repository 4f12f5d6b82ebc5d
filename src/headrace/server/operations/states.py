"""Reading the states of runs, and proposing new ones."""

import re
from typing import Any
from uuid import UUID

from sqlalchemy import Table, select

from headrace.exceptions import ObjectNotFound
from headrace.schemas.flow_runs import (
    BULK_SET_FLOW_RUN_STATE,
    RESUME_FLOW_RUN,
    SET_FLOW_RUN_STATE,
    BulkSetFlowRunState,
    FlowRunBulkSetStateResponse,
    FlowRunOrchestrationResult,
    ResumeFlowRun,
    SetFlowRunState,
)
from headrace.schemas.states import (
    READ_FLOW_RUN_STATE,
    READ_FLOW_RUN_STATES,
    READ_TASK_RUN_STATE,
    READ_TASK_RUN_STATES,
    OrchestrationResult,
    SetStateStatus,
    State,
    StateAbortDetails,
    StateCreate,
    StateType,
)
from headrace.schemas.task_runs import SET_TASK_RUN_STATE, SetTaskRunState
from headrace.server.operations.facts import lock_flow_run, read_state
from headrace.server.operations.registry import Existing, implements
from headrace.server.operations.run_inputs import check_run_input, keep_run_input
from headrace.server.operations.transitions import Outcome, propose_flow_run_state, propose_task_run_state
from headrace.server.store.filters import where
from headrace.server.store.tables import FLOW_RUN, FLOW_RUN_STATE, TASK_RUN_STATE
from headrace.server.store.transaction import Tx

_PREFECT = re.compile(rb"prefect/(\d{1,4})\.(\d{1,4})\.(\d{1,4})")


def _answered(outcome: Outcome) -> OrchestrationResult | Existing:
    """A state that was written is new (201); any other answer is about what was there (200)."""
    return outcome.result if outcome.written else Existing(outcome.result)


@implements(SET_FLOW_RUN_STATE, access="runs:write")
def set_flow_run_state(tx: Tx, id: UUID, body: SetFlowRunState) -> OrchestrationResult | Existing:
    """Propose a state for a flow run; the answer says what became of it."""
    return _answered(
        propose_flow_run_state(
            tx,
            id,
            body.state,
            force=body.force,
            epoch=body.epoch,
            lease_seconds=body.lease_seconds,
            renews_slot=_renews_slots(tx.agent),
        )
    )


def _renews_slots(agent: bytes) -> bool:
    """Whether a program renews the lease of its deployment's slot: Prefect does from 3.4.11 on."""
    version = _PREFECT.match(agent)
    return version is not None and tuple(int(part) for part in version.groups()) >= (3, 4, 11)


@implements(SET_TASK_RUN_STATE, access="runs:write")
def set_task_run_state(tx: Tx, id: UUID, body: SetTaskRunState) -> OrchestrationResult | Existing:
    """Propose a state for a task run; the answer says what became of it."""
    return _answered(propose_task_run_state(tx, id, body.state, body.force))


@implements(BULK_SET_FLOW_RUN_STATE, access="runs:write")
def bulk_set_flow_run_state(tx: Tx, body: BulkSetFlowRunState) -> FlowRunBulkSetStateResponse:
    """Propose one state for each flow run a filter finds, at most `limit` of them."""
    found = select(FLOW_RUN.c.id).order_by(FLOW_RUN.c.id).limit(body.limit)  # locked in id order  # G16
    if body.flow_runs is not None:
        found = found.where(where(FLOW_RUN, body.flow_runs))
    results = []
    for run_id in tx.execute(found).scalars().all():
        result = propose_flow_run_state(tx, run_id, body.state, force=body.force).result
        results.append(
            FlowRunOrchestrationResult(
                flow_run_id=run_id, state=result.state, status=result.status, details=result.details
            )
        )
    return FlowRunBulkSetStateResponse(results=results)


@implements(RESUME_FLOW_RUN, access="runs:write")
def resume_flow_run(tx: Tx, id: UUID, body: ResumeFlowRun) -> OrchestrationResult | Existing:
    """Let a paused flow run go on: in its process if that waits, else as a newly scheduled run."""
    state = lock_flow_run(tx, id).state
    if state is None or state.type is not StateType.PAUSED:
        return _refused(SetStateStatus.ABORT, None, "This flow run is not paused, so it cannot be resumed.")
    keyset = state.state_details.run_input_keyset
    if keyset is not None and (fault := check_run_input(tx, id, keyset, body.run_input)) is not None:
        return _refused(SetStateStatus.REJECT, state, fault)
    proposed = StateCreate(type=StateType.RUNNING)
    if state.state_details.pause_reschedule:
        proposed = StateCreate(type=StateType.SCHEDULED, name="Resuming")
    outcome = propose_flow_run_state(tx, id, proposed)
    if keyset is not None and outcome.result.status is SetStateStatus.ACCEPT:
        keep_run_input(tx, id, keyset, body.run_input)
    return _answered(outcome)


def _refused(status: SetStateStatus, state: State | None, reason: str) -> Existing:
    return Existing(OrchestrationResult(state=state, status=status, details=StateAbortDetails(reason=reason)))


@implements(READ_FLOW_RUN_STATE, access="runs:read")
def read_flow_run_state(tx: Tx, id: UUID) -> State:
    """One state of a flow run."""
    return _read_state(tx, FLOW_RUN_STATE, id, "Flow run state")


@implements(READ_FLOW_RUN_STATES, access="runs:read")
def read_flow_run_states(tx: Tx, flow_run_id: UUID) -> list[State]:
    """All states a flow run has had, in their order."""
    return _read_states(tx, FLOW_RUN_STATE, FLOW_RUN_STATE.c.flow_run_id == flow_run_id, FLOW_RUN_STATE.c.state_index)


@implements(READ_TASK_RUN_STATE, access="runs:read")
def read_task_run_state(tx: Tx, id: UUID) -> State:
    """One state of a task run."""
    return _read_state(tx, TASK_RUN_STATE, id, "Task run state")


@implements(READ_TASK_RUN_STATES, access="runs:read")
def read_task_run_states(tx: Tx, task_run_id: UUID) -> list[State]:
    """All states a task run has had, in their order."""
    return _read_states(tx, TASK_RUN_STATE, TASK_RUN_STATE.c.task_run_id == task_run_id, TASK_RUN_STATE.c.timestamp)


def _read_state(tx: Tx, table: Table, id: UUID, kind: str) -> State:
    row = tx.execute(select(table).where(table.c.id == id)).one_or_none()
    state = None if row is None else read_state(row, prefix="")
    if state is None:
        raise ObjectNotFound(kind, id)
    return state


def _read_states(tx: Tx, table: Table, condition: Any, order: Any) -> list[State]:
    rows = tx.execute(select(table).where(condition).order_by(order, table.c.id))
    return [state for row in rows if (state := read_state(row, prefix="")) is not None]
