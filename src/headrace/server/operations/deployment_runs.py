"""Flow runs of deployments, as users and other flows ask for them."""

from typing import Any
from uuid import UUID

from headrace.exceptions import ApiError, ObjectNotFound
from headrace.schemas.deployments import (
    BULK_CREATE_FLOW_RUNS_FROM_DEPLOYMENT,
    CREATE_FLOW_RUN_FROM_DEPLOYMENT,
    Deployment,
    DeploymentFlowRunCreate,
    FlowRunBulkCreateResponse,
)
from headrace.schemas.flow_runs import FlowRun, FlowRunCreateResult
from headrace.schemas.states import StateCreate, StateType
from headrace.server.operations.checks import check_job_variables, check_parameters
from headrace.server.operations.deployments import find_deployment, pool_of
from headrace.server.operations.deployments import place as queue_of
from headrace.server.operations.flow_runs import find_run_by_key, insert_flow_run, new_run
from headrace.server.operations.hydration import hydrated
from headrace.server.operations.registry import Existing, implements
from headrace.server.operations.run_rows import flow_run_of
from headrace.server.operations.variables import known_variables
from headrace.server.store.transaction import Tx


@implements(CREATE_FLOW_RUN_FROM_DEPLOYMENT, access="runs:write")
def create_flow_run_from_deployment(tx: Tx, id: UUID, body: DeploymentFlowRunCreate) -> FlowRun | Existing:
    """Create a run of a deployment, scheduled for now unless its state says otherwise."""
    return _create(tx, find_deployment(tx, id), body)


MOST_AT_ONCE = 100
"""Runs that one call may create."""


class TooMany(ApiError):
    """More runs at once than a call may create."""

    status = 400


@implements(BULK_CREATE_FLOW_RUNS_FROM_DEPLOYMENT, access="runs:write")
def bulk_create_flow_runs_from_deployment(
    tx: Tx, id: UUID, body: list[DeploymentFlowRunCreate]
) -> FlowRunBulkCreateResponse:
    """Create several runs of a deployment; one that is not valid harms only itself.  # G13

    Raises:
        TooMany: there are more than `MOST_AT_ONCE`.
    """
    if len(body) > MOST_AT_ONCE:
        raise TooMany(f"One call creates at most {MOST_AT_ONCE} flow runs; these are {len(body)}.")
    deployment = find_deployment(tx, id)
    results = []
    for each in body:
        try:
            made = _create(tx, deployment, each)
        except ApiError as error:
            results.append(FlowRunCreateResult(status="FAILED", error=str(error)))
        else:
            run = made.value if isinstance(made, Existing) else made
            results.append(FlowRunCreateResult(status="CREATED", flow_run_id=run.id))
    return FlowRunBulkCreateResponse(results=results)


def _create(tx: Tx, deployment: Deployment, body: DeploymentFlowRunCreate) -> FlowRun | Existing:
    parameters = deployment.parameters | hydrated(body.parameters, known_variables(tx))
    enforced = body.enforce_parameter_schema
    if deployment.enforce_parameter_schema if enforced is None else enforced:
        check_parameters(parameters, deployment.parameter_openapi_schema)
    queue_id = _queue(tx, deployment, body)
    pool = None if queue_id is None else pool_of(tx, queue_id)
    if pool is not None:
        variables = deployment.job_variables | (body.job_variables or {})
        check_job_variables(variables, pool.base_job_template, complete=True, doing="creating flow run")
    values = values_for(tx, deployment, name=body.name, parameters=parameters, tags=body.tags)
    values |= {
        "work_queue_id": queue_id,
        "work_queue_name": body.work_queue_name or deployment.work_queue_name,
        "context": body.context,
        "empirical_policy": body.empirical_policy,
        "job_variables": body.job_variables or {},
        "labels": values["labels"] | (body.labels or {}),
        "idempotency_key": body.idempotency_key,
        "parent_task_run_id": body.parent_task_run_id,
        "infrastructure_document_id": body.infrastructure_document_id or deployment.infrastructure_document_id,
    }
    state = insert_flow_run(tx, values, body.state or StateCreate(type=StateType.SCHEDULED))
    if state is None:
        return Existing(find_run_by_key(tx, deployment.flow_id, values["idempotency_key"]))
    place = {} if pool is None else {"work_pool_id": pool.id, "work_pool_name": pool.name}
    return flow_run_of(values, state, tx.now, **place)


def _queue(tx: Tx, deployment: Deployment, body: DeploymentFlowRunCreate) -> UUID | None:
    if body.work_queue_name is None:
        return deployment.work_queue_id
    if deployment.work_pool_name is None:
        raise ObjectNotFound("Work pool", f"of deployment {deployment.name}")
    return queue_of(tx, deployment.work_pool_name, body.work_queue_name)


def values_for(
    tx: Tx, deployment: Deployment, *, name: str | None, parameters: dict[str, Any], tags: list[str]
) -> dict[str, Any]:
    """The columns that every run of a deployment has."""
    labels = {"prefect.flow.id": str(deployment.flow_id), "prefect.deployment.id": str(deployment.id)}
    return new_run(tx, flow_id=deployment.flow_id, name=name) | {
        "deployment_id": deployment.id,
        "deployment_version": deployment.version,
        "work_queue_id": deployment.work_queue_id,
        "work_queue_name": deployment.work_queue_name,
        "parameters": parameters,
        "tags": list(dict.fromkeys([*deployment.tags, *tags])),
        "labels": deployment.labels | labels,
        "flow_version": None,
        "context": {},
        "empirical_policy": {},
        "job_variables": {},
        "parent_task_run_id": None,
        "infrastructure_document_id": deployment.infrastructure_document_id,
    }
