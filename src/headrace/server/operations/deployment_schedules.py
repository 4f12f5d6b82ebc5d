"""The schedules of a deployment.

A schedule that is deployed again keeps its identity: by its slug, by the slug it says it replaces, else by being the
same. What it already made stays if it is the same, and is taken back if it changed; both in the transaction that
changes it, which raises the deployment's schedule version, so that no scheduler inserts runs of the old one.  # G3
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict, replace
from sqlalchemy import Row, delete, insert, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schedules.checks import check
from headrace.schedules.occurrences import occurrences
from headrace.schedules.recurrence import BEGIN
from headrace.schemas.deployments import (
    CREATE_DEPLOYMENT_SCHEDULES,
    DELETE_DEPLOYMENT_SCHEDULE,
    READ_DEPLOYMENT_SCHEDULES,
    UPDATE_DEPLOYMENT_SCHEDULE,
    DeploymentSchedule,
    DeploymentScheduleCreate,
    DeploymentScheduleUpdate,
)
from headrace.schemas.schedules import Schedule
from headrace.server.operations.future_runs import horizon, rescheduled, schedules_of, take_back_runs
from headrace.server.operations.registry import implements
from headrace.server.store.tables import DEPLOYMENT, DEPLOYMENT_SCHEDULE
from headrace.server.store.transaction import Tx
from headrace.settings import get_settings

MOST_SCHEDULES = 100
"""Schedules of one deployment: making their runs is part of the transaction that changes them.  # S7"""
TRIED = 5
"""Occurrences of a recurrence rule that are looked for when it is checked."""
_DEFINING = ("schedule", "parameters", "max_scheduled_runs")
_TAKEN_OVER = (*_DEFINING, "slug", "active")


def checked(schedule: Schedule, now: datetime, before: Schedule | None = None) -> Schedule:
    """A schedule with what it leaves unsaid, as the reference fills it in; refused when it is not valid.

    Args:
        schedule: as it came.
        now: an interval without an anchor begins here.
        before: the schedule it takes the place of, whose anchor it keeps if it names none.

    Raises:
        ValidationFailed: its cron, rrule, interval or time zone means nothing.
    """
    try:
        check(schedule)
        if schedule.rrule is not None:  # one that costs too much is refused here, not when its runs are to be made
            deque(occurrences(schedule, now, now + horizon().far, TRIED), maxlen=0)
    except ValueError as error:
        place = {"type": "value_error", "loc": ["body", "schedules", "schedule"], "msg": str(error)}
        raise ValidationFailed(str(error), [place]) from None
    if schedule.cron is not None:
        return replace(schedule, timezone=schedule.timezone or None, anchor_date=None)
    zone = schedule.timezone or "UTC"
    if schedule.rrule is not None:
        begins = "DTSTART" in schedule.rrule.upper()
        rule = schedule.rrule if begins else f"DTSTART:{BEGIN:%Y%m%dT%H%M%S}\n{schedule.rrule}"
        return replace(schedule, rrule=rule, timezone=zone, anchor_date=None, day_or=True)
    anchor = schedule.anchor_date
    if anchor is None:
        kept = before is not None and before.interval == schedule.interval and (before.timezone or "UTC") == zone
        anchor = before.anchor_date if before is not None and kept else now
    elif anchor.tzinfo is None:
        anchor = anchor.replace(tzinfo=UTC)
    return replace(schedule, timezone=zone, anchor_date=anchor, day_or=True)


def _check_ahead(most: int | None) -> None:
    """Refuse a schedule that asks for more runs ahead than the server's settings let it have."""
    limit = get_settings().server.deployment_schedule_max_scheduled_runs
    if most is not None and most > limit:
        message = f"A schedule has at most {limit} runs ahead, not {most}."
        place = {"type": "value_error", "loc": ["body", "schedules", "max_scheduled_runs"], "msg": message}
        raise ValidationFailed(message, [place])


def replace_schedules(tx: Tx, deployment_id: UUID, wanted: Sequence[DeploymentScheduleCreate]) -> None:
    """Make these the schedules of a deployment; those that are there already keep their identity.

    Raises:
        ValidationFailed: one is not valid.
        ObjectAlreadyExists: two have the same slug.
    """
    _check_slugs(each.slug for each in wanted)
    left = _stored(tx, deployment_id)
    pairs = [(each, _by_slug(left, each.slug, each.replaces)) for each in wanted]
    pairs = [(each, before or _unchanged(left, each, tx.now)) for each, before in pairs]
    for gone in left.values():
        take_back_runs(tx, deployment_id, gone.id)
    tx.execute(delete(DEPLOYMENT_SCHEDULE).where(DEPLOYMENT_SCHEDULE.c.id.in_(list(left))))
    for _, before in pairs:  # slugs may change places
        if before is not None:
            _change(tx, before.id, slug=None)
    for each, before in pairs:
        if before is None:
            _insert(tx, deployment_id, each)
        else:
            _succeed(tx, before, {name: getattr(each, name) for name in _TAKEN_OVER}, deployed=True)
    rescheduled(tx, deployment_id)


def update_schedules(tx: Tx, deployment_id: UUID, changes: Sequence[DeploymentScheduleUpdate]) -> None:
    """Change the schedules of a deployment that these name by slug, and add those that are new; others stay.

    Where one that is there has no slug, nobody could say which is meant: then these take the place of all.

    Raises:
        ValidationFailed: one names no slug, is new and no schedule, or is not valid.
        ObjectAlreadyExists: two would have the same slug.
    """
    left = _stored(tx, deployment_id)
    if not left or not all(row.slug for row in left.values()):
        replace_schedules(tx, deployment_id, [_new(_given(each), each.slug) for each in changes])
        return
    for each in changes:
        if not each.slug:
            raise ValidationFailed("Give each schedule a slug, so that it is known which one is to change.")
        before = _by_slug(left, each.slug, each.replaces or None)
        given = _given(each)
        if before is not None:
            _succeed(tx, before, given, deployed="schedule" in given)
        else:
            _insert(tx, deployment_id, _new(given, each.slug))
    _check_slugs(each.slug for each in _stored(tx, deployment_id).values())


def _given(change: DeploymentScheduleUpdate) -> dict[str, Any]:
    """What a change says; a null means nothing, but for the number of runs."""
    given = {name: value for name, value in asdict(change).items() if value is not UNSET and name in _TAKEN_OVER}
    return {name: value for name, value in given.items() if value is not None or name == "max_scheduled_runs"}


def _new(given: dict[str, Any], slug: str | UnsetType | None) -> DeploymentScheduleCreate:
    if "schedule" not in given:
        raise ValidationFailed(f"The deployment has no schedule {slug or ''!r}; to add it, say when it is due.")
    return DeploymentScheduleCreate(**given)


def _check_slugs(given: Iterable[str | None]) -> None:
    """Refuse slugs that are not unique, and more schedules than a deployment may have."""
    all_slugs = list(given)
    if len(all_slugs) > MOST_SCHEDULES:
        raise ValidationFailed(f"A deployment has at most {MOST_SCHEDULES} schedules; these would be {len(all_slugs)}.")
    slugs = [slug for slug in all_slugs if slug is not None]
    if len(slugs) != len(set(slugs)):
        raise ObjectAlreadyExists("Two schedules have the same slug; each needs one of its own.")


def _stored(tx: Tx, deployment_id: UUID) -> dict[UUID, Row[Any]]:
    """The rows of a deployment's schedules, by id; the deployment is locked by the caller."""
    chosen = select(DEPLOYMENT_SCHEDULE).where(DEPLOYMENT_SCHEDULE.c.deployment_id == deployment_id)
    return {row.id: row for row in tx.execute(chosen.order_by(DEPLOYMENT_SCHEDULE.c.id))}


def _by_slug(left: dict[UUID, Row[Any]], *slugs: str | UnsetType | None) -> Row[Any] | None:
    """The schedule of the first of these slugs that is there, taken out of those that are left."""
    for slug in slugs:
        for row in left.values():
            if slug and row.slug == slug:
                return left.pop(row.id)
    return None


def _unchanged(left: dict[UUID, Row[Any]], wanted: DeploymentScheduleCreate, now: datetime) -> Row[Any] | None:
    """The schedule without a slug that is the same as this one, taken out of those that are left."""
    given = {name: getattr(wanted, name) for name in _DEFINING}
    for row in left.values():
        if not row.slug and _same(row, given, now):
            return left.pop(row.id)
    return None


def _schedule_in(row: Row[Any]) -> Schedule | None:
    """The schedule in a row; None when it cannot be read, so that it can at least be replaced.  # G13"""
    try:
        return msgspec.convert(row.schedule, Schedule)
    except (msgspec.ValidationError, ValueError):
        return None


def _same(row: Row[Any], given: Mapping[str, Any], now: datetime) -> bool:
    before = _schedule_in(row)
    others = all(getattr(row, name) == given[name] for name in given if name in _DEFINING and name != "schedule")
    return others and ("schedule" not in given or before == checked(given["schedule"], now, before))


def _succeed(tx: Tx, row: Row[Any], given: dict[str, Any], *, deployed: bool) -> None:
    """Let a schedule become what is given, and stay what it is. What an operator paused stays paused when the same is
    deployed again; what it made ahead is taken back unless it is still the same.
    """
    _check_ahead(given.get("max_scheduled_runs"))
    same = _same(row, given, tx.now)
    if "schedule" in given:
        given["schedule"] = checked(given["schedule"], tx.now, _schedule_in(row))
    if deployed and same and row.paused_by_operator:
        given["active"] = False
    elif "active" in given:
        given["paused_by_operator"] = not (deployed or given["active"])
    if not same or given.get("active", row.active) != row.active:
        take_back_runs(tx, row.deployment_id, row.id)
    _change(tx, row.id, updated=tx.now, **given)


def _change(tx: Tx, schedule_id: UUID, **values: Any) -> None:
    tx.execute(update(DEPLOYMENT_SCHEDULE).where(DEPLOYMENT_SCHEDULE.c.id == schedule_id).values(**values))


def _insert(tx: Tx, deployment_id: UUID, wanted: DeploymentScheduleCreate) -> UUID:
    _check_ahead(wanted.max_scheduled_runs)
    schedule_id = uuid7()
    row = {name: getattr(wanted, name) for name in _TAKEN_OVER} | {
        "id": schedule_id,
        "created": tx.now,
        "updated": tx.now,
        "deployment_id": deployment_id,
        "schedule": checked(wanted.schedule, tx.now),
        "paused_by_operator": False,
    }
    tx.execute(insert(DEPLOYMENT_SCHEDULE), row)
    return schedule_id


def _lock_deployment(tx: Tx, id: UUID) -> None:
    """Lock a deployment, so that no scheduler inserts runs while its schedules change.  # G3"""
    if tx.execute(select(DEPLOYMENT.c.id).where(DEPLOYMENT.c.id == id).with_for_update()).one_or_none() is None:
        raise ObjectNotFound("Deployment", id)


@implements(READ_DEPLOYMENT_SCHEDULES, access="deployments:read")
def read_deployment_schedules(tx: Tx, id: UUID) -> list[DeploymentSchedule]:
    """The schedules of a deployment."""
    if tx.execute(select(DEPLOYMENT.c.id).where(DEPLOYMENT.c.id == id)).one_or_none() is None:
        raise ObjectNotFound("Deployment", id)
    return schedules_of(tx, [id]).get(id, [])


@implements(CREATE_DEPLOYMENT_SCHEDULES, access="deployments:write")
def create_deployment_schedules(tx: Tx, id: UUID, body: list[DeploymentScheduleCreate]) -> list[DeploymentSchedule]:
    """Add schedules to a deployment."""
    _lock_deployment(tx, id)
    _check_slugs([*(row.slug for row in _stored(tx, id).values()), *(each.slug for each in body)])
    made = {_insert(tx, id, each) for each in body}
    rescheduled(tx, id)
    return [each for each in schedules_of(tx, [id]).get(id, []) if each.id in made]


@implements(UPDATE_DEPLOYMENT_SCHEDULE, access="deployments:write")
def update_deployment_schedule(tx: Tx, id: UUID, schedule_id: UUID, body: DeploymentScheduleUpdate) -> None:
    """Change the given fields of a schedule; what it made ahead is taken back and made anew."""
    row = _mine(tx, id, schedule_id)
    given = {name: value for name, value in asdict(body).items() if value is not UNSET and name in _TAKEN_OVER}
    given = {
        name: value for name, value in given.items() if value is not None or name in ("slug", "max_scheduled_runs")
    }
    if given.get("slug"):
        others = (each.slug for each in _stored(tx, id).values() if each.id != schedule_id)
        _check_slugs([given["slug"], *others])
    _succeed(tx, row, given, deployed=False)
    rescheduled(tx, id)


@implements(DELETE_DEPLOYMENT_SCHEDULE, access="deployments:write")
def delete_deployment_schedule(tx: Tx, id: UUID, schedule_id: UUID) -> None:
    """Delete a schedule with the runs it made ahead."""
    _mine(tx, id, schedule_id)
    take_back_runs(tx, id, schedule_id)
    tx.execute(delete(DEPLOYMENT_SCHEDULE).where(DEPLOYMENT_SCHEDULE.c.id == schedule_id))
    rescheduled(tx, id)


def _mine(tx: Tx, id: UUID, schedule_id: UUID) -> Row[Any]:
    _lock_deployment(tx, id)
    mine = (DEPLOYMENT_SCHEDULE.c.id == schedule_id, DEPLOYMENT_SCHEDULE.c.deployment_id == id)
    row = tx.execute(select(DEPLOYMENT_SCHEDULE).where(*mine)).one_or_none()
    if row is None:
        raise ObjectNotFound("Schedule", schedule_id)
    return row
