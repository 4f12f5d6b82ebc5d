"""How a flow run comes to run: parameters, name, its record at the server, and the claim.

A child run has a task run in its parent that stands for it, so that the parent's graph has a node. It is recorded like
any task run; its later states are the server's doing.
"""

import threading
from typing import TYPE_CHECKING, Any
from uuid import UUID
from weakref import WeakKeyDictionary

from msgspec import UNSET
from msgspec.structs import asdict, replace

from headrace._internal.ids import uuid7
from headrace.context import TaskRunContext, current_tags
from headrace.engine import lease, run_log
from headrace.engine.ended import Ended
from headrace.engine.ending import AWAY, read_answer
from headrace.engine.identity import inputs_hash
from headrace.engine.parameters import jsonable
from headrace.engine.steps import Blocking, Call, Outcome, Sleep, Steps
from headrace.engine.upstream import NotReady, Resolver, as_list, is_simple, search, wait_for_all
from headrace.exceptions import Abort, Pause, UpstreamTaskError
from headrace.schemas.flow_runs import (
    CREATE_FLOW_RUN,
    READ_FLOW_RUN,
    SET_FLOW_RUN_STATE,
    UPDATE_FLOW_RUN,
    FlowRun,
    FlowRunCreate,
    FlowRunUpdate,
    SetFlowRunState,
)
from headrace.schemas.flows import CREATE_FLOW, FlowCreate
from headrace.schemas.recording import TaskRunRecord
from headrace.schemas.states import OrchestrationResult, State, StateCreate, StateDetails, StateType, StateWaitDetails
from headrace.schemas.task_runs import TaskRunResult
from headrace.settings import get_settings

if TYPE_CHECKING:
    from headrace.client import Client
    from headrace.client.client import Calls
    from headrace.engine.flow_run import FlowRunning

_flow_ids: WeakKeyDictionary["Client", dict[str, UUID]] = WeakKeyDictionary()
"""Ids of flows by name, for each client, so that a flow is looked up once in a process."""
_lock = threading.Lock()
HELD_SECONDS = 2.0
"""A run that was claimed a little early is held by the server until its time, rather than sent away for a second."""


class ParentTaskRun:
    """The task run that stands for a child flow run in its parent.

    Args:
        parent: the parent's run.
        run: the child's run.
    """

    def __init__(self, parent: "FlowRunning", run: "FlowRunning") -> None:
        self.id = uuid7()
        self.parent = parent
        self.run = run
        self.task_key = run.flow.flow_key
        self.inputs: dict[str, list[Any]] = {}
        inputs = inputs_hash(run.parameters, bool(run.persist_result) and parent.may_be_tried_again)
        self.dynamic_key = parent.occurrences.dynamic_key(self.task_key, inputs)
        self.pending = State(type=StateType.PENDING, name="Pending", state_details=self._details())

    def _details(self) -> StateDetails:
        child = self.run.flow_run.id if self.run.flow_run is not None else None
        return StateDetails(flow_run_id=self.parent.id, task_run_id=self.id, child_flow_run_id=child)

    def report(self) -> None:
        """Record it, as the child begins to run. What becomes of it later, the server writes with the child's state."""
        running = State(type=StateType.RUNNING, name="Running", state_details=self._details())
        ordinal = self.dynamic_key.rpartition("-")[2]
        self.pending.state_details = self._details()
        self.parent.recorder.task_run(
            TaskRunRecord(
                id=self.id,
                flow_run_id=self.parent.id,
                epoch=self.parent.epoch,
                task_key=self.task_key,
                dynamic_key=self.dynamic_key,
                name=f"{self.run.flow.name}-{ordinal}",
                task_version=self.run.flow.version,
                task_inputs=self.inputs,
                expected_start_time=self.pending.timestamp,
                start_time=running.timestamp,
                run_count=1,
                flow_run_run_count=self.parent.run_count,
                states=[self.pending, running],
            )
        )

    def ended(self, state: State) -> None:
        """Remember how the child ended, for a further attempt of the parent."""
        if self.parent.finished is not None:
            self.parent.finished.note(
                self.task_key, self.dynamic_key, self.id, replace(state, state_details=self._details())
            )


def prepare(run: "FlowRunning") -> Steps[Ended | None]:
    """Everything before the first proposal. Returns an end only when the run is not to begin."""
    inputs: dict[str, list[Any]] = {}
    if not is_simple(run.parameters.values()) or run.wait_for is not None:
        unmet = yield from _gather(run, inputs)
        if unmet is not None:
            return unmet
    if run.invalid is None:
        validated = yield Call(run.flow.validated, (run.parameters,))
        run.invalid = validated.error
        run.parameters = validated.value if validated.error is None else run.parameters
    name = None
    if run.invalid is None and run.flow.name_template is not None:
        named = yield Call(run.flow.run_name, (run.parameters,))
        name, run.invalid = named.value, named.error
    if run.flow_run is not None:
        yield from _complete(run, name)
        return None
    if run.parent is not None:
        run.task_run = ParentTaskRun(run.parent, run)
        outer = TaskRunContext.get()
        run.task_run.inputs = inputs | ({"__parents__": [TaskRunResult(id=outer.run.id)]} if outer else {})
        if run.parent.earlier is not None:
            adopted = yield from run.parent.earlier.adopt_child(run)
            if adopted is not None or run.flow_run is not None:
                return adopted
    created = yield Blocking(create, run, name)
    if created.error is not None:
        return _without_record(created.error)
    run.flow_run, run.claim_answer = created.value
    run.id = run.flow_run.id
    run.state = run.flow_run.state
    return None


def _without_record(error: BaseException) -> Ended:
    return Ended(State(type=StateType.PENDING, name="Pending", message=f"{type(error).__name__}: {error}"), None, error)


def _complete(run: "FlowRunning", name: str | None) -> Steps[None]:
    """Say of a run that exists already what only its flow knows: its name, its version, and its retries.

    A run that was created with retries of its own keeps them.
    """
    known, changes = run.flow_run, FlowRunUpdate()
    if name is not None and known.name != name:
        yield from _change(run, FlowRunUpdate(name=name))  # by itself, as it may be refused
    if run.flow.version is not None and known.flow_version != run.flow.version:
        changes.flow_version = run.flow.version
    if run.flow.retries and known.empirical_policy.retries is None:
        own, policy = run.flow.policy, known.empirical_policy
        delay = own.retry_delay if policy.retry_delay is None else policy.retry_delay
        changes.empirical_policy = replace(policy, retries=own.retries, retry_delay=delay)
    yield from _change(run, changes)


def _change(run: "FlowRunning", changes: FlowRunUpdate) -> Steps[None]:
    given = {one: value for one, value in asdict(changes).items() if value is not UNSET}
    if given:
        changed = yield Blocking(run.client.call, UPDATE_FLOW_RUN, id=run.id, body=changes)
        if changed.error is None:
            run.flow_run = replace(run.flow_run, **given)
        else:
            run_log.flow_error(run, f"The run's {', '.join(given)} could not be changed", changed.error)


def _gather(run: "FlowRunning", inputs: dict[str, list[Any]]) -> Steps[Ended | None]:
    """Wait for the runs among the parameters and in `wait_for`, and put their results in their place."""
    futures, _ = search((*run.parameters.values(), run.wait_for))
    if any(not future.done() for future in futures):
        waited = yield Blocking(wait_for_all, futures)
        if waited.error is not None:
            return _without_record(waited.error)
    resolver = Resolver(run.parent.provenance if run.parent is not None else None)
    resolved = {}
    try:
        for name, value in run.parameters.items():
            resolver.inputs = inputs[name] = []
            resolved[name] = resolver.resolve(value)
        if run.wait_for is not None:
            resolver.inputs = inputs["wait_for"] = []
            resolver.resolve(as_list(run.wait_for))
    except NotReady as trouble:
        state = State(type=StateType.PENDING, name="NotReady", message=str(trouble))
        return Ended(state, None, UpstreamTaskError(str(trouble)))
    run.parameters = resolved
    return None


def create(run: "FlowRunning", name: str | None) -> tuple[FlowRun, OrchestrationResult | None]:
    """Make the flow run at the server, and the flow if it is new there.

    In local mode RUNNING is proposed in the same transaction, as each costs a commit.

    Args:
        run: the run.
        name: its name, if its flow gives it one.

    Returns:
        The flow run, and the answer to the proposal if it was made.
    """
    flow, client = run.flow, run.client
    with _lock:
        known = _flow_ids.setdefault(client, {})
    flow_id = known.get(flow.name)
    if flow_id is None:
        flow_id = known[flow.name] = client.call(CREATE_FLOW, body=FlowCreate(name=flow.name)).id
    body = FlowRunCreate(
        flow_id=flow_id,
        name=name,
        flow_version=flow.version,
        parameters=jsonable(run.parameters),
        tags=sorted(current_tags()),
        parent_task_run_id=run.task_run.id if run.task_run is not None else None,
        empirical_policy=flow.policy,
        state=StateCreate(type=StateType.PENDING, name="Pending"),
    )
    if not client.local:
        return client.call(CREATE_FLOW_RUN, body=body), None

    def both(api: "Calls") -> tuple[FlowRun, OrchestrationResult]:
        made = api.call(CREATE_FLOW_RUN, body=body)
        return made, api.call(SET_FLOW_RUN_STATE, id=made.id, body=_claim(run, made.id, "Running"))

    return client.together(both)


def _claim(run: "FlowRunning", id: UUID, name: str) -> SetFlowRunState:
    details = StateDetails(flow_run_id=id, transition_id=uuid7())  # so that a claim can be sent again
    return SetFlowRunState(
        state=StateCreate(type=StateType.RUNNING, name=name, state_details=details),
        epoch=run.epoch or None,
        lease_seconds=get_settings().server.runs.manual_lease_seconds if _by_hand(run) else None,
    )


def _by_hand(run: "FlowRunning") -> bool:
    """Whether this process claims the run itself, so that it has to hold its lease."""
    return run.claimed is None and not run.epoch


def begin(run: "FlowRunning", name: str) -> Steps[Ended | None]:
    """Propose RUNNING until the server agrees. Returns an end when the run is not to go on.

    Args:
        run: the run.
        name: of the state: "Running", or "Retrying" for a further attempt.
    """
    by_hand = _by_hand(run)
    claim = _claim(run, run.id, name)
    while True:
        if run.claim_answer is None:
            outcome = yield Blocking(run.client.call, SET_FLOW_RUN_STATE, id=run.id, body=claim, wait=HELD_SECONDS)
        else:
            outcome, run.claim_answer = Outcome(run.claim_answer), None
        if outcome.error is not None:
            if run.failures and isinstance(outcome.error, AWAY):
                return None  # it had begun before the server went away: it goes on
            return Ended(run.state or _without_record(outcome.error).recorded, None, outcome.error)
        answer: OrchestrationResult = outcome.value
        if isinstance(answer.details, StateWaitDetails):
            delay = answer.details.delay_seconds  # rounded up: the server holds us for the last part of a second
            slept = yield Sleep(delay - 1 if delay > 1 else delay)
            if slept.error is not None:
                return Ended(run.state or _without_record(slept.error).recorded, None, slept.error)
            continue
        verdict = read_answer(run, answer)
        if verdict.aborted is not None:
            return Ended(verdict.state, None, verdict.aborted)
        if not verdict.state.is_running():
            return _refused(verdict.state)
        if by_hand and answer.epoch is not None:
            lease.hold(run.id, answer.epoch, get_settings().server.runs.manual_lease_seconds)
            run.leased = True
        if run.task_run is not None and not run.failures:
            run.task_run.report()
        run_log.flow_begun(run)
        return None


def _refused(state: State) -> Ended:
    """Another state than RUNNING is in force."""
    if state.is_paused():
        return Ended(state, None, Pause("The flow run is paused.", state=state))
    if state.is_final():
        return Ended(state, None, None if state.is_completed() else Abort(f"The flow run is {state.type.lower()}."))
    return Ended(state, None, Abort(f"The flow run may not run now; it is {state.name}."))


def read_flow_run(run: "FlowRunning", id: UUID) -> FlowRun:
    """A flow run as the server has it."""
    return run.client.call(READ_FLOW_RUN, id=id)
