"""What the engine knows of one task run: its parameters, its states, and what is reported of it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from headrace._internal.ids import uuid7
from headrace.context import FlowRunContext, TaskRunContext
from headrace.engine import keeping, recorder
from headrace.engine.identity import inputs_hash
from headrace.engine.recorder import Recorder
from headrace.engine.upstream import NotReady, Resolver, RunInput, as_list
from headrace.schemas.recording import TaskRunRecord
from headrace.schemas.states import State, StateDetails, StateType
from headrace.schemas.task_runs import TaskRun, TaskRunResult

if TYPE_CHECKING:
    from headrace.engine.flow_run import FlowRunning
    from headrace.tasks import Task

_EPOCH_ZERO = datetime.min.replace(tzinfo=UTC)


class TaskRunning:
    """One run of a task in this process.

    Args:
        task: the task.
        parameters: its parameters by name, as given: futures and marks still in them.
        wait_for: runs that must have completed before.
        tags: the tags in force where it was called.
    """

    __slots__ = (
        "cache_key",
        "dynamic_key",
        "end_time",
        "expected_start_time",
        "extra_inputs",
        "failures",
        "flow",
        "flow_context",
        "id",
        "inputs",
        "name",
        "parameters",
        "persist",
        "recorder",
        "result_store",
        "run_count",
        "running_since",
        "start_time",
        "state",
        "tags",
        "task",
        "total_run_time",
        "unrecorded",
        "wait_for",
    )

    def __init__(
        self,
        task: "Task[..., Any]",
        parameters: dict[str, Any],
        wait_for: Any,
        tags: frozenset[str],
    ) -> None:
        self.task = task
        self.parameters = parameters
        self.wait_for = wait_for
        self.id: UUID = uuid7()
        self.flow_context = FlowRunContext.get()
        self.flow: FlowRunning | None = self.flow_context.run if self.flow_context is not None else None
        self.recorder: Recorder = self.flow.recorder if self.flow is not None else recorder.current()
        self.tags = list(task.tags | tags) if tags else task.tag_list
        outer = TaskRunContext.get()
        self.extra_inputs: list[RunInput] | None = [TaskRunResult(id=outer.run.id)] if outer is not None else None
        self.inputs: dict[str, list[Any]] = {}
        self.name = ""
        self.dynamic_key = ""
        self.cache_key: str | None = None
        self.run_count = self.failures = 0
        self.start_time: datetime | None = None
        self.end_time: datetime | None = None
        self.expected_start_time = _EPOCH_ZERO
        self.running_since = _EPOCH_ZERO
        self.total_run_time = 0.0
        self.persist = keeping.persists(task, self.flow)
        self.result_store: Any = None
        self.unrecorded: list[State] = []
        self.state: State | None = None

    # States

    def enter(self, type_: StateType, name: str, message: str | None = None, data: Any = None, **details: Any) -> State:
        """Take a new state, to be recorded with the next report."""
        flow = self.flow
        flow_run_id = flow.id if flow is not None else None
        state = State(
            type=type_,
            name=name,
            message=message,
            data=data,
            state_details=StateDetails(flow_run_id=flow_run_id, task_run_id=self.id, **details),
        )
        return self.take(state)

    def take(self, state: State) -> State:
        """Make `state` the present one, and keep the times that go with it."""
        earlier, self.state = self.state, state
        now = state.timestamp
        if earlier is None:
            self.expected_start_time = now
        elif earlier.type is StateType.RUNNING:
            self.total_run_time += (now - self.running_since).total_seconds()
        if state.type is StateType.RUNNING:
            self.running_since = now
            self.run_count += 1
            self.start_time = self.start_time or now
        elif state.is_final():
            self.end_time = now
        self.unrecorded.append(state)
        return state

    def report(self) -> None:
        """Hand the news to the recorder."""
        flow = self.flow
        states, self.unrecorded = self.unrecorded, []
        self.recorder.task_run(
            TaskRunRecord(
                id=self.id,
                flow_run_id=flow.id if flow is not None else None,
                epoch=flow.epoch if flow is not None else 0,
                task_key=self.task.task_key,
                dynamic_key=self.dynamic_key,
                name=self.name,
                task_version=self.task.version,
                tags=self.tags,
                task_inputs=self.inputs,
                empirical_policy=self.task.policy,
                cache_key=self.cache_key,
                expected_start_time=self.expected_start_time,
                start_time=self.start_time,
                end_time=self.end_time,
                total_run_time=self.total_run_time,
                run_count=self.run_count,
                flow_run_run_count=flow.run_count if flow is not None else 0,
                states=states,
            )
        )

    # Before it runs

    def identify(self) -> None:
        """Find its dynamic key, which says which call of the flow run it is.  # G10"""
        flow = self.flow
        if flow is not None:
            deep = self.persist and flow.may_be_tried_again
            inputs = inputs_hash(self.parameters, deep)
            self.dynamic_key = flow.occurrences.dynamic_key(self.task.task_key, inputs)
        else:
            self.dynamic_key = self.id.hex
        self.name = f"{self.task.name}-{self.id.int & 0xFFF:03x}"

    def announce(self) -> None:
        """Report it as pending before it is its turn. Only for a run whose inputs are all there."""
        if self.flow is None or self.flow.earlier is None:
            self.identify()
            self.enter(StateType.PENDING, "Pending")
            self.report()

    def resolve(self) -> None:
        """Replace futures, states and marks among its parameters by results, and note where they came from.

        Raises:
            NotReady: an upstream run did not complete.
        """
        flow = self.flow
        resolver = Resolver(flow.provenance if flow is not None else None)
        unmet: NotReady | None = None
        resolved = {}
        for name, value in self.parameters.items():
            resolver.inputs = self.inputs[name] = []
            try:
                resolved[name] = resolver.resolve(value)
            except NotReady as trouble:
                unmet = unmet or trouble
        if self.wait_for is not None:
            resolver.inputs = self.inputs["wait_for"] = []
            try:
                resolver.resolve(as_list(self.wait_for))
            except NotReady as trouble:
                unmet = unmet or trouble
        if unmet is not None:
            raise unmet
        self.parameters = resolved

    # What users see

    def shown_to_hooks(self) -> TaskRun:
        """The run as hooks get it."""
        return self.as_task_run()

    def log_fields(self) -> dict[str, Any]:
        """What a log record says about the run."""
        fields = {"task_run_id": str(self.id), "task_run_name": self.name, "task_name": self.task.name}
        return fields | self.flow.log_fields() if self.flow is not None else fields

    def as_task_run(self) -> TaskRun:
        """The run as the API shows it."""
        state = self.state
        return TaskRun(
            id=self.id,
            name=self.name,
            flow_run_id=self.flow.id if self.flow is not None else None,
            task_key=self.task.task_key,
            dynamic_key=self.dynamic_key,
            task_version=self.task.version,
            cache_key=self.cache_key,
            tags=self.tags,
            task_inputs=self.inputs,
            empirical_policy=self.task.policy,
            run_count=self.run_count,
            flow_run_run_count=self.flow.run_count if self.flow is not None else 0,
            expected_start_time=self.expected_start_time,
            start_time=self.start_time,
            end_time=self.end_time,
            total_run_time=self.total_run_time,
            state=state,
            state_id=state.id if state is not None else None,
            state_type=state.type if state is not None else None,
            state_name=state.name if state is not None else None,
            created=self.expected_start_time,
            updated=state.timestamp if state is not None else None,
        )

    @property
    def log_prints(self) -> bool:
        """Whether `print` goes to its log: as the task says, else as the flow."""
        own = self.task.log_prints
        return own if own is not None else bool(self.flow is not None and self.flow.log_prints)
