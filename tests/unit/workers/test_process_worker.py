"""A process worker with a real server, real processes and real flows: what a run goes through, end to end."""

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.client import get_client
from headrace.deployments import RunnerDeployment, run_deployment
from headrace.deployments.runner import load_flow
from headrace.exceptions import ConfigurationError
from headrace.runner import Runner
from headrace.schemas.deployments import CREATE_FLOW_RUN_FROM_DEPLOYMENT, READ_DEPLOYMENT, DeploymentFlowRunCreate
from headrace.schemas.flow_runs import READ_FLOW_RUN, SET_FLOW_RUN_STATE, FlowRun, SetFlowRunState
from headrace.schemas.states import FINAL, StateCreate, StateType
from headrace.schemas.work_pools import CREATE_WORK_POOL, READ_WORK_POOL, READ_WORKERS, ReadWorkers, WorkPoolCreate
from headrace.server.store import open_store
from headrace.settings import temporary_settings
from headrace.workers import ProcessWorker
from tests.support.serving import serving

FLOWS = """
import os
import signal
import time
from pathlib import Path

from headrace import flow

@flow
def good(path: str = "", text: str = "") -> str:
    if path:
        with open(path, "a") as file:
            file.write(f"{text} {os.environ.get('LEVEL')} {os.getcwd()}\\n")
    return text

@flow
def bad() -> None:
    raise ValueError("no good")

@flow
def dies(code: int = 7) -> None:
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)

@flow
def waits(path: str) -> None:
    Path(path).with_suffix(".begun").touch()
    while not Path(path).exists():
        time.sleep(0.02)
"""


class Scene:
    """A server, a folder of flows, and a worker of the pool `main` in a thread of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker: ProcessWorker | None = None
        self.thread: threading.Thread | None = None

    def start(self, **options: Any) -> ProcessWorker:
        """Start a worker."""
        self.worker = worker = ProcessWorker("main", name="w", **options)
        ready: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=lambda: worker.start(ready=lambda: ready.put(None)), daemon=True)
        self.thread.start()
        ready.get(timeout=30)
        return worker

    def deploy(self, flow: str, **options: Any) -> RunnerDeployment:
        """Deploy a flow of the file."""
        deployment = RunnerDeployment.from_entrypoint(
            f"flows.py:{flow}", "d", path=str(self.folder), **{"work_pool_name": "main", **options}
        )
        deployment.apply()
        return deployment

    def run(self, deployment: RunnerDeployment, **options: Any) -> FlowRun:
        """Create a run and wait for its end."""
        return run_deployment(deployment.full_name, timeout=60, poll_interval=0.05, **options)

    def submit(self, deployment: RunnerDeployment, **parameters: Any) -> FlowRun:
        """Create a run and do not wait."""
        return run_deployment(deployment.full_name, timeout=0, parameters=parameters)


def until(what: Callable[[], Any]) -> None:
    """Wait for something that only the API or a file can tell."""
    ends = time.monotonic() + 60
    while not what():
        assert time.monotonic() < ends, "it never came about"
        time.sleep(0.02)


def run_now(run: FlowRun) -> FlowRun:
    """A run as it is now."""
    return get_client().call(READ_FLOW_RUN, id=run.id)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A server with the pool `main`, and flows to run."""
    (tmp_path / "flows.py").write_text(FLOWS)
    monkeypatch.chdir(tmp_path)
    store = open_store(f"sqlite:///{tmp_path}/headrace.db")
    short = {"worker.cancellation_grace_seconds": 2, "worker.query_seconds": 0.5, "home": str(tmp_path / "home")}
    with serving(store) as url, temporary_settings(short | {"api.url": url}):
        get_client().call(CREATE_WORK_POOL, body=WorkPoolCreate(name="main", type="process"))
        scene = Scene(tmp_path)
        yield scene
        if scene.worker is not None and scene.thread is not None:
            for _ in range(3):
                scene.worker.stop()
            scene.thread.join(30)
            assert not scene.thread.is_alive()
    store.close()


def test_a_run_of_a_deployment_is_carried_out(scene: Scene) -> None:
    """In the deployment's folder, with its parameters and those of the run, and marked with who ran it."""
    deployment = scene.deploy("good", parameters={"path": str(scene.folder / "out"), "text": "a"})
    scene.start()
    run = scene.run(deployment, parameters={"text": "b"}, job_variables={"env": {"LEVEL": "DEBUG"}})

    assert run.state_type is StateType.COMPLETED
    assert (scene.folder / "out").read_text() == f"b DEBUG {scene.folder}\n"
    until(lambda: run_now(run).infrastructure_pid)
    until(lambda: run_now(run).labels.get("prefect.worker.name") == "w")


def test_the_worker_is_seen_and_its_pool_gets_a_template(scene: Scene) -> None:
    """A pool without a job template gets that of the worker's kind."""
    scene.start()
    workers = get_client().call(READ_WORKERS, work_pool_name="main", body=ReadWorkers())

    assert [worker.name for worker in workers] == ["w"]
    assert "command" in get_client().call(READ_WORK_POOL, name="main").base_job_template["job_configuration"]


def test_a_failing_flow_is_failed_and_its_worker_goes_on(scene: Scene) -> None:
    """An error of the flow is the flow's; an entrypoint that is gone is said."""
    bad, good = scene.deploy("bad"), scene.deploy("good")
    scene.start()
    failed = scene.run(bad)
    (scene.folder / "flows.py").unlink()
    gone = scene.run(good)

    assert failed.state_type is StateType.FAILED
    assert failed.state is not None
    assert "no good" in (failed.state.message or "")
    assert gone.state_type is StateType.FAILED
    assert gone.state is not None
    assert "no file" in (gone.state.message or "")


@pytest.mark.parametrize(("code", "words"), [(7, "exit code 7"), (-9, "SIGKILL"), (-11, "SIGSEGV")])
def test_g6_a_process_that_dies_crashes_its_run_at_once(scene: Scene, code: int, words: str) -> None:
    """With the exit code or signal in words, long before its lease ends."""
    deployment = scene.deploy("dies", parameters={"code": code})
    scene.start()
    run = scene.run(deployment)

    assert run.state_type is StateType.CRASHED
    assert run.state is not None
    assert words in (run.state.message or "")


def test_g12_a_run_is_cancelled(scene: Scene) -> None:
    """Its process is told at once, and the run is CANCELLED."""
    deployment = scene.deploy("waits")
    scene.start()
    run = scene.submit(deployment, path=str(scene.folder / "go"))
    until((scene.folder / "go.begun").exists)
    body = SetFlowRunState(state=StateCreate(type=StateType.CANCELLING))
    get_client().call(SET_FLOW_RUN_STATE, id=run.id, body=body)
    until(lambda: run_now(run).state_type in FINAL)

    assert run_now(run).state_type is StateType.CANCELLED


def test_the_limit_makes_runs_wait(scene: Scene) -> None:
    """The second run begins when the first has ended."""
    waits, good = scene.deploy("waits"), scene.deploy("good")
    worker = scene.start(limit=1)
    first = scene.submit(waits, path=str(scene.folder / "go"))
    until((scene.folder / "go.begun").exists)
    second = scene.submit(good)
    assert worker.supervisor is not None
    assert worker.supervisor.running == 1
    assert run_now(second).state_type is StateType.SCHEDULED
    (scene.folder / "go").touch()
    until(lambda: run_now(second).state_type in FINAL)

    assert run_now(first).state_type is run_now(second).state_type is StateType.COMPLETED


def test_a_worker_drains(scene: Scene) -> None:
    """Told to stop, it takes no new run, and waits for the one it has."""
    waits, good = scene.deploy("waits"), scene.deploy("good")
    worker = scene.start()
    first = scene.submit(waits, path=str(scene.folder / "go"))
    until((scene.folder / "go.begun").exists)
    worker.stop()
    second = scene.submit(good)
    (scene.folder / "go").touch()
    assert scene.thread is not None
    scene.thread.join(30)

    assert not scene.thread.is_alive()
    assert run_now(first).state_type is StateType.COMPLETED
    assert run_now(second).state_type is StateType.SCHEDULED


def test_a_command_carries_out_the_run(scene: Scene) -> None:
    """A job with a command or a folder gets a process of its own; a command that runs no flow crashes its run."""
    own = {"command": f"{sys.executable} -m headrace.engine", "working_dir": str(scene.folder)}
    deployment = scene.deploy("good", job_variables=own)
    empty = scene.deploy("bad", job_variables={"command": f"{sys.executable} -c pass"})
    scene.start()
    run, nothing = scene.run(deployment), scene.run(empty)

    assert run.state_type is StateType.COMPLETED
    assert nothing.state_type is StateType.CRASHED


def test_g13_a_wrong_job_crashes_its_run_alone(scene: Scene) -> None:
    """The message says what is wrong with the job."""
    deployment = scene.deploy("good")
    wrong = scene.deploy("bad", job_variables={"env": {"A": "{{ prefect.blocks.secret.nothing }}"}})
    scene.start()
    crashed, good = scene.run(wrong), scene.run(deployment)

    assert crashed.state_type is StateType.CRASHED
    assert crashed.state is not None
    assert "variables" in (crashed.state.message or "")
    assert good.state_type is StateType.COMPLETED


def test_a_pool_of_another_kind_is_refused(scene: Scene) -> None:
    """A process worker cannot carry out docker jobs."""
    get_client().call(CREATE_WORK_POOL, body=WorkPoolCreate(name="other", type="docker"))

    with pytest.raises(ConfigurationError, match="'docker'"):
        ProcessWorker("other").start()


@pytest.mark.usefixtures("scene")
def test_serving_carries_out_runs_without_a_pool() -> None:
    """And pauses the deployment when it stops."""
    deployment = RunnerDeployment.from_flow(load_flow("flows.py:good"), "served")
    runner = Runner(query_seconds=0.2)
    id = runner.add_deployment(deployment)
    started: queue.SimpleQueue[None] = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: runner.start(ready=lambda: started.put(None)))
    thread.start()
    started.get(timeout=30)
    run = get_client().call(CREATE_FLOW_RUN_FROM_DEPLOYMENT, id=id, body=DeploymentFlowRunCreate())
    until(lambda: run_now(run).state_type in FINAL)
    runner.stop()
    thread.join(30)

    assert run_now(run).state_type is StateType.COMPLETED
    assert get_client().call(READ_DEPLOYMENT, id=id).paused
