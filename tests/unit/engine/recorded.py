"""What the API has of a run, for tests."""

from uuid import UUID

from headrace.client import get_client
from headrace.engine import recorder
from headrace.schemas.filters import FlowRunFilter, IdInOrNot
from headrace.schemas.flow_runs import READ_FLOW_RUN, FlowRun
from headrace.schemas.states import READ_FLOW_RUN_STATES, READ_TASK_RUN_STATES, State
from headrace.schemas.task_runs import READ_TASK_RUNS, ReadTaskRuns, TaskRun


def flow_run(state: State) -> FlowRun:
    """The flow run that a state is of."""
    assert state.state_details.flow_run_id is not None
    return get_client().call(READ_FLOW_RUN, id=state.state_details.flow_run_id)


def flow_run_states(id: UUID) -> list[str]:
    """The names of a flow run's states, in order."""
    states = get_client().call(READ_FLOW_RUN_STATES, flow_run_id=id)
    return [state.name or "" for state in sorted(states, key=lambda state: state.timestamp)]


def task_runs(flow_run_id: UUID) -> list[TaskRun]:
    """The task runs of a flow run, in the order they were expected to start."""
    recorder.current().flush(5)
    only = FlowRunFilter(id=IdInOrNot(any_=[flow_run_id]))
    found = get_client().call(READ_TASK_RUNS, body=ReadTaskRuns(flow_runs=only))
    return sorted(found, key=lambda run: (run.expected_start_time is None, run.expected_start_time, run.id))


def task_run_states(id: UUID) -> list[str]:
    """The names of a task run's states, in order."""
    states = get_client().call(READ_TASK_RUN_STATES, task_run_id=id)
    return [state.name or "" for state in sorted(states, key=lambda state: state.timestamp)]
