"""Carrying out a flow run that exists already: what a worker's child process does, and `python -m headrace.engine`.

    read the run and its deployment ── run the pull steps ── load the flow ── run it

Whatever keeps the flow from being loaded makes the run FAILED, with the reason as its message.
"""

import importlib
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from headrace.client import Client, get_client
from headrace.engine import adoption, recorder, run_log
from headrace.engine.drivers import run_to_end
from headrace.engine.ended import Ended
from headrace.engine.flow_run import FlowRunning
from headrace.engine.loading import load_flow_from_entrypoint
from headrace.exceptions import ApiError, MissingFlowError
from headrace.schemas.deployments import READ_DEPLOYMENT, Deployment
from headrace.schemas.flow_runs import READ_FLOW_RUN, SET_FLOW_RUN_STATE, FlowRun, SetFlowRunState
from headrace.schemas.states import State, StateCreate, StateType

Pull = Callable[[Sequence[Any]], Any]
"""Runs the pull steps of a deployment and goes to the folder they name."""


def run_flow_run(flow_run_id: UUID, epoch: int | None = None, pull: Pull | None = None) -> State:
    """Run a flow run in this process and return the state it is in then.

    Args:
        flow_run_id: the run.
        epoch: the attempt it was claimed for; whoever claimed it renews its lease. None to claim it here.  # G4
        pull: runs the pull steps of the deployment; those of `headrace.deployments` when absent.

    Raises:
        ObjectNotFound: there is no such run.
        ApiUnreachable: the API does not answer.
    """
    return run_and_end(flow_run_id, epoch, pull).state


def run_and_end(flow_run_id: UUID, epoch: int | None = None, pull: Pull | None = None) -> Ended:
    """As `run_flow_run`, and tell also what interrupted it."""
    client = get_client()
    flow_run = client.call(READ_FLOW_RUN, id=flow_run_id)
    try:
        flow = _load(client, flow_run, pull or _pull)
    except ApiError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a user's module or step raises
        return Ended(_could_not_load(client, flow_run, epoch, error), None, error)
    try:
        run = FlowRunning(flow, dict(flow_run.parameters), client, recorder.current(), flow_run, epoch)
        run.bind()
        if flow_run.run_count > 0:
            run.earlier = adoption.load(client, flow_run.id)
        ended: Ended = run_to_end(flow.carry_out(run, _itself))
    finally:
        recorder.reset()
    return ended


def _itself(ended: Ended) -> Ended:
    return ended


def _load(client: Client, flow_run: FlowRun, pull: Pull) -> Any:
    if flow_run.deployment_id is None:
        raise MissingFlowError(f"Flow run {flow_run.name!r} is of no deployment, so there is nothing to load it from.")
    deployment: Deployment = client.call(READ_DEPLOYMENT, id=flow_run.deployment_id)
    if not deployment.entrypoint:
        raise MissingFlowError(f"Deployment {deployment.name!r} has no entrypoint. Deploy it anew.")
    if deployment.path and Path(deployment.path).is_dir():
        os.chdir(deployment.path)
    if deployment.pull_steps:
        pull(deployment.pull_steps)
    return load_flow_from_entrypoint(deployment.entrypoint)


def _pull(steps: Sequence[Any]) -> Any:
    # Deployments stand above the engine; whoever runs without pull steps does not need them.
    return importlib.import_module("headrace.deployments.steps").run_pull_steps(steps)


def _could_not_load(client: Client, flow_run: FlowRun, epoch: int | None, error: Exception) -> State:
    message = f"The flow could not be loaded: {type(error).__name__}: {error}"
    text = "".join(traceback.format_exception(error))
    run_log.flow_run_line(flow_run, f"{message}\n{text}")
    state = StateCreate(type=StateType.FAILED, name="Failed", message=message)
    answer = client.call(SET_FLOW_RUN_STATE, id=flow_run.id, body=SetFlowRunState(state=state, epoch=epoch))
    recorder.reset()
    return answer.state or State(type=StateType.FAILED, name="Failed", message=message)
