"""Making the runs of a deployment's schedules on request."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select

from headrace.exceptions import ObjectNotFound, ValidationFailed
from headrace.schemas.deployments import SCHEDULE_DEPLOYMENT, ScheduleDeployment
from headrace.server.operations.future_runs import horizon, insert_runs, plan
from headrace.server.operations.registry import implements
from headrace.server.rules.scheduling import Horizon
from headrace.server.store.tables import DEPLOYMENT
from headrace.server.store.transaction import Tx

MOST = 1000
"""Runs of a schedule that one call makes at most, whatever it asks for."""


@implements(SCHEDULE_DEPLOYMENT, access="deployments:write")
def schedule_deployment(tx: Tx, id: UUID, body: ScheduleDeployment) -> Any:
    """Make the runs of a deployment's schedules ahead, as far as the body says."""
    if tx.execute(select(DEPLOYMENT.c.id).where(DEPLOYMENT.c.id == id)).one_or_none() is None:
        raise ObjectNotFound("Deployment", id)
    start = _aware(body.start_time) or tx.now
    planned = plan(tx, id, _horizon(body, start), start)
    if planned is not None:
        insert_runs(tx, planned)


def _horizon(body: ScheduleDeployment, start: datetime) -> Horizon:
    usual, end = horizon(), _aware(body.end_time)
    try:
        return Horizon(
            least=usual.least if body.min_runs is None else body.min_runs,
            most=usual.most if body.max_runs is None else max(0, min(body.max_runs, MOST)),
            near=usual.near if body.min_time is None else timedelta(seconds=body.min_time),
            far=usual.far if end is None else max(end - start, timedelta(0)),
        )
    except (OverflowError, ValueError):
        raise ValidationFailed(f"min_time is {body.min_time} s; that is more than can be counted.") from None


def _aware(moment: datetime | None) -> datetime | None:
    """A moment without a zone is one in UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
