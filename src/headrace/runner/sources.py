"""Where runs to carry out come from: a work pool, for a worker, or certain deployments, for `serve`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from headrace.client import Client
from headrace.schemas.deployments import GET_SCHEDULED_FLOW_RUNS_FOR_DEPLOYMENTS, GetScheduledFlowRunsForDeployments
from headrace.schemas.flow_runs import FlowRun
from headrace.schemas.work_pools import GET_SCHEDULED_FLOW_RUNS, WORKER_HEARTBEAT, GetScheduledFlowRuns, WorkerHeartbeat


class Source(Protocol):
    """Where a supervisor finds runs."""

    pool: str | None
    """The work pool to hear hints of, if there is one."""

    def scheduled(self, client: Client, before: datetime, limit: int) -> list[FlowRun]:
        """The runs that are scheduled before a moment, the most urgent first."""
        ...

    def heartbeat(self, client: Client) -> None:
        """Say that somebody looks after these runs."""
        ...


class PoolSource:
    """The runs of a work pool.

    Args:
        pool: the pool's name.
        queues: only those of these work queues.
        worker: the worker's name.
        heartbeat_seconds: how often it will give a sign of life.
    """

    def __init__(self, pool: str, queues: Sequence[str], worker: str, heartbeat_seconds: float) -> None:
        self.pool: str | None = pool
        self._name, self._queues = pool, list(queues)
        self._beat = WorkerHeartbeat(name=worker, heartbeat_interval_seconds=max(1, round(heartbeat_seconds)))

    def scheduled(self, client: Client, before: datetime, limit: int) -> list[FlowRun]:
        """The runs of the pool that are scheduled before a moment, by priority of their queue, then by time."""
        body = GetScheduledFlowRuns(scheduled_before=before, limit=limit, work_queue_names=self._queues)
        return [found.flow_run for found in client.call(GET_SCHEDULED_FLOW_RUNS, name=self._name, body=body)]

    def heartbeat(self, client: Client) -> None:
        """Say that the worker lives."""
        client.call(WORKER_HEARTBEAT, work_pool_name=self._name, body=self._beat)


class DeploymentSource:
    """The runs of some deployments.

    Args:
        deployments: their ids.
    """

    pool: str | None = None

    def __init__(self, deployments: Sequence[UUID]) -> None:
        self.deployments = list(deployments)

    def scheduled(self, client: Client, before: datetime, limit: int) -> list[FlowRun]:
        """The runs of these deployments that are scheduled before a moment, by time."""
        body = GetScheduledFlowRunsForDeployments(deployment_ids=self.deployments, scheduled_before=before, limit=limit)
        return client.call(GET_SCHEDULED_FLOW_RUNS_FOR_DEPLOYMENTS, body=body)

    def heartbeat(self, client: Client) -> None:
        """Asking for runs is sign of life enough."""
        del client
