"""Deployments, pools and their runs for the tests of what is done with them, made by the calls a client would make."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from headrace.client.local import LocalClient
from headrace.schemas.deployments import (
    CREATE_DEPLOYMENT,
    CREATE_FLOW_RUN_FROM_DEPLOYMENT,
    READ_DEPLOYMENT,
    Deployment,
    DeploymentCreate,
    DeploymentFlowRunCreate,
    DeploymentScheduleCreate,
)
from headrace.schemas.flow_runs import FlowRun
from headrace.schemas.schedules import Schedule
from headrace.schemas.work_pools import CREATE_WORK_POOL, WorkPool, WorkPoolCreate
from headrace.server.store.tables import FLOW_RUN
from headrace.server.store.transaction import Store
from tests.operations.runs_world import make_flow

HOURLY = Schedule(cron="0 * * * *")
DAILY = Schedule(cron="0 0 * * *")


def scheduled(schedule: Schedule, slug: str | None = None, **options: Any) -> DeploymentScheduleCreate:
    """A schedule as it is deployed."""
    return DeploymentScheduleCreate(schedule=schedule, slug=slug, **options)


def deploy(api: LocalClient, name: str = "nightly", **options: Any) -> Deployment:
    """A deployment of the flow `etl`; a second one of the name replaces it."""
    body = DeploymentCreate(name=name, flow_id=make_flow(api).id, **options)
    return api.call(CREATE_DEPLOYMENT, body=body)


def read(api: LocalClient, deployment: Deployment) -> Deployment:
    """The deployment as it is now."""
    return api.call(READ_DEPLOYMENT, id=deployment.id)


def run_of(api: LocalClient, deployment: Deployment, **options: Any) -> FlowRun:
    """A run of a deployment."""
    return api.call(CREATE_FLOW_RUN_FROM_DEPLOYMENT, id=deployment.id, body=DeploymentFlowRunCreate(**options))


def make_pool(api: LocalClient, name: str = "pool", type: str = "process", **options: Any) -> WorkPool:
    """A work pool."""
    return api.call(CREATE_WORK_POOL, body=WorkPoolCreate(name=name, type=type, **options))


def due_times(store: Store, deployment_id: UUID) -> list[datetime]:
    """When the runs of a deployment are due, in order, doubles and all."""
    chosen = select(FLOW_RUN.c.expected_start_time).where(FLOW_RUN.c.deployment_id == deployment_id)
    return sorted(store.read(lambda tx: list(tx.execute(chosen).scalars())))
