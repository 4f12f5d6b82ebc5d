"""Results of an earlier attempt of a flow run, found again by the identity of the calls.  # G10

An earlier task run is adopted when it completed and its persisted result can be read. If not, the call runs again
under the same id, so the run's history stays in one place. The same goes for child flow runs. Calls that the earlier
attempt did not make run as new ones.
"""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from headrace.engine import keeping
from headrace.engine.ended import Ended
from headrace.engine.steps import Blocking, Steps
from headrace.schemas.filters import FlowRunFilter, IdInOrNot
from headrace.schemas.flow_runs import READ_FLOW_RUN, FlowRun
from headrace.schemas.states import State
from headrace.schemas.task_runs import READ_TASK_RUNS, ReadTaskRuns

if TYPE_CHECKING:
    from headrace.client import Client
    from headrace.engine.flow_run import FlowRunning
    from headrace.engine.task_running import TaskRunning

PAGE = 200


class EarlierRun:
    """What is known of one call of an earlier attempt.

    Args:
        id: its task run.
        state: the last state of that.
        run_count: how often it was tried.
    """

    __slots__ = ("id", "run_count", "state")

    def __init__(self, id: UUID, state: State | None, run_count: int) -> None:
        self.id = id
        self.state = state
        self.run_count = run_count


class Earlier:
    """The calls of an earlier attempt, by task key and dynamic key."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], EarlierRun] = {}

    def note(self, task_key: str, dynamic_key: str, id: UUID, state: State | None, run_count: int = 1) -> None:
        """Remember how a call ended."""
        self._runs[(task_key, dynamic_key)] = EarlierRun(id, state, run_count)

    def keep(self, other: "Earlier") -> None:
        """Take over what is known of calls that this attempt did not come to."""
        self._runs = other._runs | self._runs

    def adopt(self, run: "TaskRunning") -> Steps[Ended | None]:
        """The end of the same call in the earlier attempt; None when the call has to run (again)."""
        found = self._runs.get((run.task.task_key, run.dynamic_key))
        if found is None:
            return None
        if not run.task.refreshes and (ended := (yield from _read(found.state))) is not None:
            run.id = found.id
            return ended
        run.id, run.run_count = found.id, found.run_count
        return None

    def adopt_child(self, run: "FlowRunning") -> Steps[Ended | None]:
        """The end of the same child run in the earlier attempt; None when it has to run (as that run, if it exists)."""
        assert run.task_run is not None
        found = self._runs.get((run.task_run.task_key, run.task_run.dynamic_key))
        child = found.state.state_details.child_flow_run_id if found is not None and found.state is not None else None
        if found is None or child is None:
            return None
        read = yield Blocking(run.client.call, READ_FLOW_RUN, id=child)
        if read.error is not None:
            return None
        flow_run: FlowRun = read.value
        if (ended := (yield from _read(flow_run.state))) is not None:
            return ended
        run.task_run.id = found.id
        run.flow_run, run.id, run.run_count, run.state = flow_run, flow_run.id, flow_run.run_count, flow_run.state
        return None


def _read(state: State | None) -> Steps[Ended | None]:
    if state is None or not state.is_completed() or not keeping.is_persisted(state.data):
        return None
    outcome: Any = yield Blocking(state.result)
    return Ended(state, outcome.value) if outcome.error is None else None


def load(client: "Client", flow_run_id: UUID) -> Earlier:
    """What the server knows of the task runs of a flow run, for an attempt in a new process.

    Args:
        client: whom to ask.
        flow_run_id: the flow run.
    """
    earlier = Earlier()
    only = FlowRunFilter(id=IdInOrNot(any_=[flow_run_id]))
    offset = 0
    while True:
        page = client.call(READ_TASK_RUNS, body=ReadTaskRuns(flow_runs=only, limit=PAGE, offset=offset))
        for task_run in page:
            earlier.note(task_run.task_key, task_run.dynamic_key, task_run.id, task_run.state, task_run.run_count)
        if len(page) < PAGE:
            return earlier
        offset += PAGE
