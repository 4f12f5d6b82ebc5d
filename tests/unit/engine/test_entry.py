"""The entry: how a worker's child process carries out a run that exists already."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from headrace import get_client
from headrace.engine.entry import run_flow_run
from headrace.exceptions import MissingFlowError, ScriptError
from headrace.flows import load_flow_from_entrypoint, select_flow
from headrace.schemas.deployments import (
    CREATE_DEPLOYMENT,
    CREATE_FLOW_RUN_FROM_DEPLOYMENT,
    DeploymentCreate,
    DeploymentFlowRunCreate,
)
from headrace.schemas.flow_runs import READ_FLOW_RUN, SET_FLOW_RUN_STATE, FlowRun, FlowRunPolicy, SetFlowRunState
from headrace.schemas.flows import CREATE_FLOW, FlowCreate
from headrace.schemas.states import StateCreate, StateType
from tests.unit.engine import recorded

SOURCE = """
import time
from headrace import flow, task

@task(persist_result=True)
def step(x):
    print("step", x, flush=True)
    return x

@flow
def total(x: int, y: int = 2):
    return step(x) + y

@flow
def once(marker: str):
    from pathlib import Path
    step(1)
    if not Path(marker).exists():
        Path(marker).touch()
        raise SystemExit(3)
    return step(2)

@flow(retries=1, version="7")
def moody(marker: str):
    from pathlib import Path
    if not Path(marker).exists():
        Path(marker).touch()
        raise ValueError("not today")
    return 3

@flow
def slow():
    print("ready", flush=True)
    time.sleep(30)

def no_flow():
    pass
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file with flows."""
    path = tmp_path / "some flows.py"
    path.write_text(SOURCE)
    return path


def scheduled(entrypoint: str, parameters: dict[str, object], policy: FlowRunPolicy | None = None) -> FlowRun:
    """A run of a deployment of the flow at `entrypoint`."""
    client = get_client()
    flow_id = client.call(CREATE_FLOW, body=FlowCreate(name="total")).id
    body = DeploymentCreate(flow_id=flow_id, name=f"d-{os.urandom(4).hex()}", entrypoint=entrypoint)
    deployment = client.call(CREATE_DEPLOYMENT, body=body)
    wanted = DeploymentFlowRunCreate(parameters=parameters, empirical_policy=policy or FlowRunPolicy())
    return client.call(CREATE_FLOW_RUN_FROM_DEPLOYMENT, id=deployment.id, body=wanted)


def claim(run: FlowRun) -> int:
    """Claim a run as a worker does, and give the epoch."""
    body = SetFlowRunState(state=StateCreate(type=StateType.PENDING, name="Pending"), lease_seconds=30)
    answer = get_client().call(SET_FLOW_RUN_STATE, id=run.id, body=body)
    assert answer.epoch is not None
    return answer.epoch


def read(id: UUID) -> FlowRun:
    """The run as the API has it."""
    return get_client().call(READ_FLOW_RUN, id=id)


def test_a_claimed_run_is_carried_out(source: Path) -> None:
    """Parameters of the run are coerced, defaults filled in; the states are the claiming attempt's."""
    run = scheduled(f"{source}:total", {"x": "40"})

    state = run_flow_run(run.id, claim(run))

    assert state.result() == 42
    assert recorded.flow_run_states(run.id) == ["Scheduled", "Pending", "Running", "Completed"]


@pytest.mark.parametrize("own", [None, 0])
def test_a_run_of_a_deployment_is_tried_again_as_its_flow_says(source: Path, tmp_path: Path, own: int | None) -> None:
    """Unless the run was created with a number of its own."""
    run = scheduled(f"{source}:moody", {"marker": str(tmp_path / "marker")}, FlowRunPolicy(retries=own))

    state = run_flow_run(run.id, claim(run))

    ended = read(run.id)
    assert (state.name, ended.run_count) == (("Completed", 2) if own is None else ("Failed", 1))
    assert (ended.empirical_policy.retries, ended.flow_version) == (1 if own is None else 0, "7")


def test_an_attempt_that_was_replaced_does_not_run(source: Path) -> None:
    """G4: the epoch is too old by the time it starts."""
    run = scheduled(f"{source}:total", {"x": 1})
    old = claim(run)
    again = StateCreate(type=StateType.SCHEDULED, name="Scheduled")
    get_client().call(SET_FLOW_RUN_STATE, id=run.id, body=SetFlowRunState(state=again, force=True))
    claim(run)

    run_flow_run(run.id, old)

    assert read(run.id).state_name == "Pending"
    assert recorded.task_runs(run.id) == []


@pytest.mark.parametrize(
    ("entrypoint", "words"),
    [
        ("nowhere.py:total", "There is no file"),
        ("{source}:missing", "'missing' not found"),
        ("{source}:no_flow", "is not a flow"),
        ("no_such_module.anywhere:total", "There is no module"),
    ],
)
def test_a_flow_that_cannot_be_loaded_fails_its_run(source: Path, entrypoint: str, words: str) -> None:
    """The state says what is missing."""
    run = scheduled(entrypoint.format(source=source), {"x": 1})

    state = run_flow_run(run.id, claim(run))

    assert state.name == "Failed"
    assert words in (read(run.id).state.message or "")  # type: ignore[union-attr]


def test_parameters_that_the_flow_does_not_have_fail_its_run(source: Path) -> None:
    """Missing ones too."""
    for parameters in ({}, {"x": 1, "z": 2}):
        run = scheduled(f"{source}:total", parameters)

        assert run_flow_run(run.id, claim(run)).name == "Failed"


def test_g10_a_further_attempt_in_another_process_adopts_results(source: Path, tmp_path: Path) -> None:
    """A run that crashed and is scheduled again does not repeat the task whose result is stored."""
    run = scheduled(f"{source}:once", {"marker": str(tmp_path / "marker")})
    run_flow_run(run.id, claim(run))
    assert read(run.id).state_name == "Crashed"
    again = StateCreate(type=StateType.SCHEDULED, name="AwaitingRetry")
    get_client().call(SET_FLOW_RUN_STATE, id=run.id, body=SetFlowRunState(state=again))

    state = run_flow_run(run.id, claim(run))

    assert state.result() == 2
    assert [one.run_count for one in recorded.task_runs(run.id)] == [1, 1]


def engine(run_id: UUID, home: Path) -> subprocess.Popen[str]:
    """`python -m headrace.engine` for a run."""
    environment = {**os.environ, "HEADRACE_HOME": str(home), "PREFECT__FLOW_RUN_ID": str(run_id)}
    return subprocess.Popen(
        [sys.executable, "-m", "headrace.engine"], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_the_engine_runs_as_a_module(source: Path, engine_home: Path) -> None:
    """It claims the run itself when nobody did, and exits with 0."""
    run = scheduled(f"{source}:total", {"x": 1})

    process = engine(run.id, engine_home)

    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "step 1\n")
    assert read(run.id).state_name == "Completed"


def test_a_terminated_engine_ends_by_its_signal(source: Path, engine_home: Path) -> None:
    """The run is Crashed, and whoever started the process sees what ended it."""
    run = scheduled(f"{source}:slow", {})
    process = engine(run.id, engine_home)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == -signal.SIGTERM
    process.stdout.close()
    assert read(run.id).state_name == "Crashed"


def test_entrypoints(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and modules both name flows; a file that raises says so."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "a_module_of_flows.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("1 / 0")

    assert load_flow_from_entrypoint(f"{source}:total").name == "total"
    assert load_flow_from_entrypoint("a_module_of_flows:total").name == "total"
    with pytest.raises(ScriptError, match="ZeroDivisionError"):
        load_flow_from_entrypoint(f"{tmp_path}/broken.py:total")
    with pytest.raises(MissingFlowError, match="is no entrypoint"):
        load_flow_from_entrypoint("total")


def test_of_several_flows_one_is_selected_by_name(source: Path) -> None:
    """Without a name there must be one only."""
    flows = [load_flow_from_entrypoint(f"{source}:{name}") for name in ("total", "slow")]

    assert select_flow(flows, "slow") is flows[1]
    assert select_flow(flows[:1]) is flows[0]
    with pytest.raises(MissingFlowError, match="'other' not found"):
        select_flow(flows, "other")
