"""The runs that schedules make ahead: planned from the schedules, inserted once, taken back when a schedule changes.

A plan is made from what was read, and inserted only while the deployment's schedule version is the one that was read;
whatever changes a schedule raises the version in its transaction. So a scheduler that was slow inserts nothing of a
schedule that is gone. The idempotency key of a run names deployment, schedule and occurrence, and is unique in the
database; so two schedulers make one run between them.  # G3
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, select, update

from headrace.schedules.occurrences import Occurrence
from headrace.schemas.deployments import DeploymentSchedule
from headrace.schemas.flow_runs import FlowRunPolicy
from headrace.schemas.origin import CreatedBy
from headrace.schemas.states import StateCreate, StateDetails, StateType
from headrace.server.operations.deleting import delete_flow_runs
from headrace.server.operations.flow_runs import insert_flow_run, new_run
from headrace.server.operations.paging import listed
from headrace.server.operations.rows import values_of
from headrace.server.rules.scheduling import IDLE, Horizon, due_ahead, next_look
from headrace.server.store.json_functions import member
from headrace.server.store.long_lists import by_ids
from headrace.server.store.tables import DEPLOYMENT, DEPLOYMENT_SCHEDULE, FLOW_RUN
from headrace.server.store.transaction import Tx
from headrace.settings import get_settings

logger = logging.getLogger("headrace.server.scheduler")

AUTO = "auto-scheduled"
_OF_DEPLOYMENTS = by_ids(
    select(DEPLOYMENT_SCHEDULE).order_by(DEPLOYMENT_SCHEDULE.c.updated.desc(), DEPLOYMENT_SCHEDULE.c.id.desc()),
    DEPLOYMENT_SCHEDULE.c.deployment_id,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs that a deployment's schedules should have.

    Args:
        deployment: its row, with the version of the schedules that were read.
        wanting: the runs that were not there when it was made, by their keys.
        next_look: when the schedules may need more.
    """

    deployment: Row[Any]
    wanting: dict[str, tuple[DeploymentSchedule, Occurrence]]
    next_look: datetime

    @property
    def version(self) -> int:
        """The version of the schedules it follows from."""
        return int(self.deployment.schedule_version)


def read_schedule(row: Row[Any]) -> DeploymentSchedule:
    """A row of the table of schedules as the struct."""
    return msgspec.convert(values_of(row), DeploymentSchedule)


def schedules_of(tx: Tx, deployment_ids: Sequence[UUID]) -> dict[UUID, list[DeploymentSchedule]]:
    """The schedules of deployments, by deployment; one that cannot be read is left out and reported.  # G13"""
    rows = tx.execute(_OF_DEPLOYMENTS, {"ids": deployment_ids})
    found: dict[UUID, list[DeploymentSchedule]] = {}
    for schedule in listed(rows, read_schedule, "schedule"):
        if schedule.deployment_id is not None:
            found.setdefault(schedule.deployment_id, []).append(schedule)
    return found


def horizon() -> Horizon:
    """How far ahead the settings have runs made."""
    said = get_settings().server.services.scheduler
    return Horizon(least=said.min_runs, most=said.max_runs, near=said.min_scheduled_time, far=said.max_scheduled_time)


def plan(tx: Tx, deployment_id: UUID, ahead: Horizon, start: datetime | None = None) -> Plan | None:
    """The runs a deployment's schedules should have; None when it is paused or not there. Nothing is written.

    Args:
        tx: a transaction.
        deployment_id: the deployment.
        ahead: how far ahead runs are to be made.
        start: from when on; from now when absent.
    """
    row = tx.execute(select(DEPLOYMENT).where(DEPLOYMENT.c.id == deployment_id)).one_or_none()
    if row is None or row.paused:
        return None
    runs: dict[str, tuple[DeploymentSchedule, Occurrence]] = {}
    begin, look = start or tx.now, tx.now + IDLE
    for schedule in schedules_of(tx, [deployment_id]).get(deployment_id, []):
        if not schedule.active:
            continue
        try:
            coming = due_ahead(schedule.schedule, begin, ahead, schedule.max_scheduled_runs)
        except (ValueError, OverflowError) as error:  # a bad schedule must not stop the others  # G13
            logger.error("Schedule %s of deployment %s makes no runs: %s", schedule.id, deployment_id, error)
            continue
        runs |= {key_of(row.id, schedule, occurrence): (schedule, occurrence) for occurrence in coming}
        look = min(look, next_look(coming, tx.now, ahead, schedule.max_scheduled_runs))
    known = _known(tx, row, runs)
    return Plan(row, {key: run for key, run in runs.items() if key not in known}, look)


def _known(tx: Tx, deployment: Row[Any], keys: Iterable[str]) -> set[str]:
    """Those of these keys that runs have already."""
    mine = (FLOW_RUN.c.flow_id == deployment.flow_id, FLOW_RUN.c.idempotency_key.in_(list(keys)))
    return set(tx.execute(select(FLOW_RUN.c.idempotency_key).where(*mine)).scalars())


def insert_runs(tx: Tx, planned: Plan) -> int:
    """Insert the runs of a plan that are not there yet, if the schedules are still those it was made from.  # G3"""
    deployment = planned.deployment
    version = select(DEPLOYMENT.c.schedule_version).where(DEPLOYMENT.c.id == deployment.id).with_for_update()
    if tx.execute(version).scalar_one_or_none() != planned.version:
        return 0
    return sum(_insert(tx, deployment, key, *run) for key, run in planned.wanting.items())


def key_of(deployment_id: UUID, schedule: DeploymentSchedule, occurrence: Occurrence) -> str:
    """The idempotency key of the one run of an occurrence."""
    return f"scheduled {deployment_id} {schedule.id} {occurrence.key}"


def _insert(tx: Tx, deployment: Row[Any], key: str, schedule: DeploymentSchedule, occurrence: Occurrence) -> bool:
    kind = next(kind for kind in ("Cron", "Interval", "RRule") if getattr(schedule.schedule, kind.lower()) is not None)
    origin = CreatedBy(type="SCHEDULE", id=schedule.id, display_value=schedule.slug or f"{kind}Schedule")
    values = new_run(tx, flow_id=deployment.flow_id, name=None) | {
        "deployment_id": deployment.id,
        "deployment_version": deployment.version,
        "work_queue_id": deployment.work_queue_id,
        "work_queue_name": deployment.work_queue_name,
        "parameters": deployment.parameters | schedule.parameters,
        "tags": list(dict.fromkeys([AUTO, *deployment.tags])),
        "labels": deployment.labels | {"prefect.deployment.id": str(deployment.id)},
        "flow_version": None,
        "context": {},
        "empirical_policy": FlowRunPolicy(),
        "job_variables": {},
        "parent_task_run_id": None,
        "infrastructure_document_id": deployment.infrastructure_document_id,
        "idempotency_key": key,
        "auto_scheduled": True,
        "created_by": origin,
    }
    details = StateDetails(scheduled_time=occurrence.time)
    proposed = StateCreate(type=StateType.SCHEDULED, message="Flow run scheduled", state_details=details)
    return insert_flow_run(tx, values, proposed) is not None


def rescheduled(tx: Tx, deployment_id: UUID) -> None:
    """Whatever changes a deployment's schedules ends with this: their version rises, and their next runs are made."""
    version = DEPLOYMENT.c.schedule_version + 1
    changed = update(DEPLOYMENT).where(DEPLOYMENT.c.id == deployment_id)
    tx.execute(changed.values(schedule_version=version, updated=tx.now))
    planned = plan(tx, deployment_id, horizon())
    if planned is not None:
        insert_runs(tx, planned)


def take_back_runs(tx: Tx, deployment_id: UUID, schedule_id: UUID | None = None, *, overdue: bool = False) -> None:
    """Delete the runs that were made ahead and that nobody has begun.

    Args:
        tx: a writing transaction, with the deployment locked.
        deployment_id: the deployment.
        schedule_id: of this schedule alone; of all when absent.
        overdue: also those whose time has passed. They are kept otherwise: they were due by the schedule as it was.
    """
    conditions = [
        FLOW_RUN.c.deployment_id == deployment_id,
        FLOW_RUN.c.state_type == StateType.SCHEDULED,
        FLOW_RUN.c.auto_scheduled.is_(True),
        FLOW_RUN.c.run_count == 0,
    ]
    if not overdue:
        conditions.append(FLOW_RUN.c.expected_start_time >= tx.now)
    if schedule_id is not None:
        conditions.append(member(FLOW_RUN.c.created_by, "id") == str(schedule_id))
    delete_flow_runs(tx, list(tx.execute(select(FLOW_RUN.c.id).where(*conditions)).scalars()))
