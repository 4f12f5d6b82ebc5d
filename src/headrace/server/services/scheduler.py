"""Makes the runs of schedules ahead. Deploying makes the first ones itself; this keeps them coming.  # G3

A turn asks for the deployments with an active schedule and the version of their schedules, and looks only at those
whose time has come: for each it remembers when it may next need runs, which follows from the runs it has. What is
remembered saves work and decides nothing: a scheduler that has forgotten it, or a second one, makes no run twice.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, select

from headrace.server.operations.future_runs import horizon, insert_runs, plan
from headrace.server.services.service import Service, each
from headrace.server.store.tables import DEPLOYMENT, DEPLOYMENT_SCHEDULE
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Settings, get_settings

NAME = "scheduler"
PERIOD = 5.0
"""Most seconds between two turns: a turn without work is one query."""

Look = tuple[int, datetime]
"""The version of a deployment's schedules when they were looked at, and when they are to be looked at again."""


def service() -> Service:
    """The service that makes scheduled runs."""
    remembered: dict[UUID, Look] = {}
    period = min(get_settings().server.services.scheduler.loop_seconds, PERIOD)
    return Service(NAME, period, lambda store, settings: run_once(store, settings, remembered))


def run_once(store: Store, settings: Settings, remembered: dict[UUID, Look] | None = None) -> int:
    """Make the runs that are wanting, deployment by deployment, and return how many that was.

    Args:
        store: the database.
        settings: whether to do so at all.
        remembered: what earlier turns found, by deployment; it is brought up to date.
    """
    if not settings.server.services.scheduler.enabled:
        return 0
    looks = {} if remembered is None else remembered
    now, versions = store.read(lambda tx: (tx.now, _versions(tx)))
    for gone in looks.keys() - versions.keys():
        del looks[gone]
    made = 0

    def make(deployment_id: UUID) -> bool:
        nonlocal made
        looks.pop(deployment_id, None)
        planned = store.read(lambda tx: plan(tx, deployment_id, horizon()))
        if planned is None:  # paused or deleted since
            return False
        inserted = store.write(lambda tx: insert_runs(tx, planned)) if planned.wanting else 0
        looks[deployment_id] = planned.version, planned.next_look
        made += inserted
        return inserted > 0

    each(NAME, (id for id, version in versions.items() if _is_due(looks.get(id), version, now)), make)
    return made


def _is_due(look: Look | None, version: int, now: datetime) -> bool:
    return look is None or look[0] != version or look[1] <= now


def _versions(tx: Tx) -> dict[UUID, int]:
    """The deployments that make runs of schedules, and the versions of their schedules."""
    scheduled = exists().where(DEPLOYMENT_SCHEDULE.c.deployment_id == DEPLOYMENT.c.id, DEPLOYMENT_SCHEDULE.c.active)
    chosen = select(DEPLOYMENT.c.id, DEPLOYMENT.c.schedule_version).where(DEPLOYMENT.c.paused.is_(False), scheduled)
    return {row.id: row.schedule_version for row in tx.execute(chosen.order_by(DEPLOYMENT.c.id))}
