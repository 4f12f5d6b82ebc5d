"""Which runs a call is about: filters of the runs themselves, and of what they belong to.

Every list, count and history of runs takes the same filters. All that are given must hold; one that is absent or null
narrows nothing.
"""

from msgspec import Struct

from headrace.schemas.filters import (
    DeploymentFilter,
    FlowFilter,
    FlowRunFilter,
    TaskRunFilter,
    WorkPoolFilter,
    WorkQueueFilter,
)


class RunScope(Struct, kw_only=True):
    """Runs by themselves, their flows, deployments and task runs."""

    deployments: DeploymentFilter | None = None
    flow_runs: FlowRunFilter | None = None
    flows: FlowFilter | None = None
    task_runs: TaskRunFilter | None = None


class PoolScope(RunScope, kw_only=True):
    """Runs also by the work pool they are in."""

    work_pools: WorkPoolFilter | None = None


class QueueScope(PoolScope, kw_only=True):
    """Runs also by the work queue they are in."""

    work_pool_queues: WorkQueueFilter | None = None
