"""Deployments: flows that are run by workers and runners, on schedules or on demand.

    flow.deploy("nightly", work_pool_name="main", cron="0 2 * * *")     in Python
    headrace deploy --all                                               from headrace.yaml or prefect.yaml
    run_deployment("etl/nightly")                                       a run of one

`runner` turns a flow into a deployment and applies it, `from_file` reads deployment files, `steps` get code to where
it runs. Names are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.deployments.deploying import deploy, deploy_flow
    from headrace.deployments.errors import DeploymentApplyError, DeploymentError, StepExecutionError
    from headrace.deployments.flow_runs import arun_deployment, find_deployment, run_deployment
    from headrace.deployments.from_file import deploy_from_file
    from headrace.deployments.runner import Deployed, RunnerDeployment

_PLACES = {
    "Deployed": "runner",
    "DeploymentApplyError": "errors",
    "DeploymentError": "errors",
    "RunnerDeployment": "runner",
    "StepExecutionError": "errors",
    "arun_deployment": "flow_runs",
    "deploy": "deploying",
    "deploy_flow": "deploying",
    "deploy_from_file": "from_file",
    "find_deployment": "flow_runs",
    "run_deployment": "flow_runs",
}

__all__ = [
    "Deployed",
    "DeploymentApplyError",
    "DeploymentError",
    "RunnerDeployment",
    "StepExecutionError",
    "arun_deployment",
    "deploy",
    "deploy_flow",
    "deploy_from_file",
    "find_deployment",
    "run_deployment",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
