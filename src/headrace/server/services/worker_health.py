"""Notices workers, pools, queues and deployments that are heard of no more."""

from datetime import timedelta

from sqlalchemy import exists, func, or_, update

from headrace.schemas.deployments import DeploymentStatus
from headrace.schemas.filters import WorkerStatus
from headrace.schemas.work_pools import WorkPoolStatus, WorkQueueStatus
from headrace.server.operations.object_events import change_status
from headrace.server.services.service import Service
from headrace.server.store.tables import DEPLOYMENT, WORK_POOL, WORK_QUEUE, WORKER
from headrace.server.store.time_functions import elapsed, moment
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Settings, get_settings

NAME = "worker_health"


def service() -> Service:
    """The service that keeps the status of workers, pools, queues and deployments true."""
    return Service(NAME, get_settings().server.services.foreman.loop_seconds, run_once)


def run_once(store: Store, settings: Settings) -> int:
    """Mark what has been silent for too long, and return how many things that were."""
    return store.write(lambda tx: _mark(tx, settings)) if settings.server.services.foreman.enabled else 0


def _mark(tx: Tx, settings: Settings) -> int:
    """None of it looks into columns that users fill: a row which cannot be read harms only itself.  # G13"""
    said = settings.server.services.foreman
    interval = func.coalesce(WORKER.c.heartbeat_interval_seconds, said.fallback_heartbeat_interval_seconds)
    allowed = interval * (said.inactivity_heartbeat_multiple * 1_000_000)
    silence = elapsed(WORKER.c.last_heartbeat_time, moment(tx.now))
    workers = update(WORKER).where(WORKER.c.status == WorkerStatus.ONLINE)
    workers = workers.where(or_(WORKER.c.last_heartbeat_time.is_(None), silence > allowed))
    online = exists().where(WORKER.c.work_pool_id == WORK_POOL.c.id, WORKER.c.status == WorkerStatus.ONLINE)
    queues_since = tx.now - timedelta(seconds=said.work_queue_last_polled_timeout_seconds)
    deployments_since = tx.now - timedelta(seconds=said.deployment_last_polled_timeout_seconds)
    silent = tx.execute(workers.values(status=WorkerStatus.OFFLINE, updated=tx.now)).rowcount
    ready = WORK_POOL.c.status == WorkPoolStatus.READY
    silent += change_status(tx, WORK_POOL, WorkPoolStatus.NOT_READY, ready, ~online)
    for table, before, since in (
        (WORK_QUEUE, WorkQueueStatus.READY, queues_since),
        (DEPLOYMENT, DeploymentStatus.READY, deployments_since),
    ):
        silent += change_status(tx, table, "NOT_READY", table.c.status == before, table.c.last_polled < since)
    return silent
