"""`run_deployment`: create a run of a deployment, and wait for it."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from headrace.client import get_client
from headrace.context import FlowRunContext
from headrace.deployments.errors import DeploymentError
from headrace.exceptions import ObjectNotFound
from headrace.schemas.deployments import (
    CREATE_FLOW_RUN_FROM_DEPLOYMENT,
    READ_DEPLOYMENT,
    READ_DEPLOYMENT_BY_NAME,
    Deployment,
    DeploymentFlowRunCreate,
)
from headrace.schemas.flow_runs import READ_FLOW_RUN, FlowRun
from headrace.schemas.states import FINAL, StateCreate, StateDetails, StateType


def run_deployment(
    name: str | UUID,
    client: Any = None,
    parameters: dict[str, Any] | None = None,
    scheduled_time: datetime | None = None,
    flow_run_name: str | None = None,
    timeout: float | None = None,
    poll_interval: float = 5,
    tags: Sequence[str] | None = None,
    idempotency_key: str | None = None,
    work_queue_name: str | None = None,
    as_subflow: bool = True,
    job_variables: dict[str, Any] | None = None,
) -> FlowRun:
    """Create a run of a deployment, and wait until it is final.

    Args:
        name: `flow/deployment`, or the deployment's id.
        client: whom to ask; the active client when absent.
        parameters: of the run, on top of the deployment's.
        scheduled_time: when it should begin; now when absent.
        flow_run_name: its name.
        timeout: seconds to wait at most: None for as long as it takes, 0 for not at all.
        poll_interval: seconds between two looks.
        tags: its tags.
        idempotency_key: a second call with the same key gives the same run.
        work_queue_name: a queue of the deployment's pool.
        as_subflow: accepted; runs created inside a flow run bear its id in their labels.
        job_variables: on top of the deployment's.

    Returns:
        The run, as it is when it is final or the time is over.

    Raises:
        DeploymentError: there is no such deployment.
    """
    caller = client or get_client()
    deployment = find_deployment(name, caller)
    body = _body(parameters, scheduled_time, flow_run_name, tags, idempotency_key, work_queue_name, job_variables)
    if as_subflow and (context := FlowRunContext.get()) is not None:
        body.labels = {"headrace.parent-flow-run-id": str(context.flow_run.id)}
    run: FlowRun = caller.call(CREATE_FLOW_RUN_FROM_DEPLOYMENT, id=deployment.id, body=body)
    ends = None if timeout is None else time.monotonic() + timeout
    while (run.state_type not in FINAL) and (ends is None or time.monotonic() < ends):
        left = poll_interval if ends is None else min(poll_interval, max(0.0, ends - time.monotonic()))
        time.sleep(left)
        run = caller.call(READ_FLOW_RUN, id=run.id)
    return run


async def arun_deployment(name: str | UUID, **options: Any) -> FlowRun:
    """The awaitable form of `run_deployment`."""
    return await asyncio.to_thread(run_deployment, name, **options)


def find_deployment(name: str | UUID, client: Any = None) -> Deployment:
    """The deployment of a name or an id.

    Raises:
        DeploymentError: there is none.
    """
    caller = client or get_client()
    try:
        found: Deployment = caller.call(READ_DEPLOYMENT, id=UUID(str(name)))
        return found
    except ObjectNotFound:
        raise DeploymentError(f"There is no deployment with the id {name}.") from None
    except ValueError:
        flow_name, slash, deployment_name = str(name).partition("/")
    if not slash:
        raise DeploymentError(f"{name!r} is not 'flow/deployment', nor an id.")
    try:
        found = caller.call(READ_DEPLOYMENT_BY_NAME, flow_name=flow_name, deployment_name=deployment_name)
    except ObjectNotFound:
        raise DeploymentError(f"There is no deployment {name!r}; `headrace deployment ls` lists them.") from None
    return found


def _body(
    parameters: dict[str, Any] | None,
    scheduled_time: datetime | None,
    flow_run_name: str | None,
    tags: Sequence[str] | None,
    idempotency_key: str | None,
    work_queue_name: str | None,
    job_variables: dict[str, Any] | None,
) -> DeploymentFlowRunCreate:
    moment = scheduled_time or datetime.now(UTC)
    aware = moment if moment.tzinfo else moment.astimezone()
    return DeploymentFlowRunCreate(
        parameters=parameters or {},
        state=StateCreate(type=StateType.SCHEDULED, state_details=StateDetails(scheduled_time=aware)),
        name=flow_run_name,
        tags=list(tags or ()),
        idempotency_key=idempotency_key,
        work_queue_name=work_queue_name,
        job_variables=job_variables,
    )
