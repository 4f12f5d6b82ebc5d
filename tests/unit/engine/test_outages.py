"""The API goes away in the middle of a run: the run goes on, and all of it arrives later, in order."""

from pathlib import Path
from typing import Any

import pytest

from headrace import flow, get_client, task
from headrace.client import Client
from headrace.engine import ending
from headrace.engine.drivers import drive
from headrace.engine.ended import Ended
from headrace.engine.flow_run import FlowRunning, run_flow
from headrace.engine.recorder import Recorder
from headrace.exceptions import ApiUnreachable
from headrace.schemas.flow_runs import READ_FLOW_RUN, SET_FLOW_RUN_STATE
from headrace.schemas.recording import RECORD
from tests.unit.engine import recorded


class Line(Client):
    """A client whose connection can be cut.

    Args:
        real: the client behind it.
    """

    local = True  # so that the recorder delivers by itself, and over the spool while it is cut

    def __init__(self, real: Client) -> None:
        self.real = real
        self.cut = False
        self.calls: list[str] = []

    def call(self, endpoint: Any, *, body: Any = None, **arguments: Any) -> Any:
        """Call through, unless it is cut."""
        if self.cut:
            raise ApiUnreachable("The line is cut.")
        answer = self.real.call(endpoint, body=body, **arguments)
        if endpoint is RECORD:
            self.calls += [state.name for run in body.task_runs for state in run.states]
        elif endpoint is SET_FLOW_RUN_STATE:
            self.calls.append(f"flow {body.state.name}")
        return answer


@pytest.fixture
def line() -> Line:
    """A line to the API of this home."""
    return Line(get_client())


@pytest.fixture
def recorder(line: Line, tmp_path: Path) -> Any:
    """A recorder on that line, with a spool of its own."""
    made = Recorder(line, folder=tmp_path / "spool")
    yield made
    line.cut = False
    made.close()


def run(function: Any, line: Line, recorder: Recorder, **options: Any) -> tuple[Ended, FlowRunning]:
    """Run a flow of the function over the line."""
    running = FlowRunning(flow(**options)(function), {}, line, recorder)
    return drive(run_flow(running)), running


@task
def step() -> int:
    """A step."""
    return 1


def test_g11_the_final_state_comes_after_everything_recorded(line: Line, recorder: Recorder) -> None:
    """The recorder is flushed before the final state is proposed."""
    run(lambda: [step() for _ in range(3)], line, recorder)

    assert line.calls[0] == "flow Running"
    assert line.calls[-1] == "flow Completed"
    assert line.calls.count("Completed") == 3


def test_g11_a_run_goes_on_while_the_api_is_away(
    line: Line, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tasks run, it gives its result, and its states arrive when the API is back, the final one last."""
    monkeypatch.setattr(ending, "FLUSH_SECONDS", 0.2)

    def body() -> int:
        step()
        line.cut = True
        return step() + step()

    ended, running = run(body, line, recorder)

    assert (ended.give(), ended.state.name) == (2, "Completed")
    line.cut = False
    assert recorder.flush(20)
    assert get_client().call(READ_FLOW_RUN, id=running.id).state_name == "Completed"
    assert line.calls[-1] == "flow Completed"
    assert [one.state_name for one in recorded.task_runs(running.id)] == ["Completed"] * 3


def test_retries_go_on_while_the_api_is_away(line: Line, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow that fails then is tried again without asking."""
    monkeypatch.setattr(ending, "FLUSH_SECONDS", 0.2)
    attempts = []

    def body() -> str:
        attempts.append(1)
        line.cut = True
        if len(attempts) == 1:
            raise ValueError
        return "done"

    ended, running = run(body, line, recorder, retries=1)

    assert ended.give() == "done"
    line.cut = False
    assert recorder.flush(20)
    assert get_client().call(READ_FLOW_RUN, id=running.id).state_name == "Completed"


def test_without_an_api_no_run_begins(line: Line, recorder: Recorder) -> None:
    """A run that cannot be recorded at all raises why."""
    line.cut = True
    ran = []

    ended, _ = run(lambda: ran.append(1), line, recorder)

    with pytest.raises(ApiUnreachable):
        ended.give()
    assert ran == []
