"""The rules answer to every change of state as Prefect 3.8.8 was measured to do."""

from typing import Any

import pytest

from headrace.schemas.states import OrchestrationResult, SetStateStatus, StateAcceptDetails, StateType
from headrace.server.rules.change import Run, Verdict
from headrace.server.rules.facts import EnclosingRun, TaskRunFacts
from headrace.server.rules.flow_runs import FLOW_RUN_RULES, FORCED_FLOW_RUN_RULES
from headrace.server.rules.task_runs import FORCED_TASK_RUN_RULES, TASK_RUN_RULES
from tests.unit.rules import runs
from tests.unit.rules.measured import MEASURED, cells, said


def answer(verdict: Verdict, run: Run) -> OrchestrationResult:
    """A verdict as the caller sees it."""
    state = verdict.state or run.state
    return OrchestrationResult(status=verdict.status, state=state, details=StateAcceptDetails())


def answers(table: str) -> dict[tuple[str, str], str]:
    """What the rules say to each change of a table."""
    found = {}
    for leaving, entering, _ in cells(table):
        if table.startswith("flow_run"):
            world: Any = runs.FlowRunWorld(deployment=table.endswith("deployment"))
            world.propose(StateType.PENDING)
            world.propose(leaving, policy=FORCED_FLOW_RUN_RULES)
            verdict = world.propose(entering, policy=FLOW_RUN_RULES)
        else:
            flow_run = EnclosingRun(id=runs.ID, run_count=1, state=runs.state(StateType.RUNNING))
            facts = TaskRunFacts(flow_run=flow_run if table.endswith("flow") else None)
            world = runs.TaskRunWorld(facts)
            world.propose(leaving, policy=FORCED_TASK_RUN_RULES)
            verdict = world.propose(entering, policy=TASK_RUN_RULES)
        found[leaving.value, entering.value] = said(answer(verdict, world.before), leaving, entering)
    return found


@pytest.mark.parametrize("table", MEASURED)
def test_every_change_is_answered_as_measured(table: str) -> None:
    """For each pair of states the status, the name and the state in force are those of the measured table."""
    measured = {(leaving.value, entering.value): answer for leaving, entering, answer in cells(table)}

    assert answers(table) == measured


def test_a_refused_change_writes_nothing() -> None:
    """ABORT and a rejection that keeps the state leave the run as it was, without effects."""
    for leaving, entering, measured in cells("flow_run"):
        world = runs.FlowRunWorld()
        world.propose(leaving, policy=FORCED_FLOW_RUN_RULES)

        verdict = world.propose(entering)

        if measured in ("keep", "stop"):
            assert verdict.state is None
            assert verdict.effects == ()
            assert verdict.status in (SetStateStatus.ABORT, SetStateStatus.REJECT)
            assert world.run == world.before
