"""Schedules as users write them, turned into those of the wire.

A user gives `cron="0 6 * * *"`, an `interval` (seconds or a timedelta), an `rrule`, lists of these, a `Schedule` of
`headrace.schedules`, or an item of a deployment file.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from headrace.deployments.errors import DeploymentError
from headrace.schedules.checks import check_cron, check_rrule, check_timezone
from headrace.schemas.deployments import DeploymentScheduleCreate
from headrace.schemas.schedules import Schedule

KINDS = ("cron", "interval", "rrule")
ITEM_KEYS = frozenset(
    (
        *KINDS,
        "timezone",
        "anchor_date",
        "day_or",
        "active",
        "parameters",
        "slug",
        "replaces",
        "max_scheduled_runs",
        "schedule",
    )
)
WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def schedules_of(
    *,
    interval: Any = None,
    cron: Any = None,
    rrule: Any = None,
    schedule: Any = None,
    schedules: Iterable[Any] | None = None,
    timezone: str | None = None,
) -> list[DeploymentScheduleCreate] | None:
    """The schedules that the arguments of `deploy` and `serve` ask for.

    Args:
        interval: seconds or a timedelta, or several.
        cron: a cron expression, or several.
        rrule: a recurrence rule, or several.
        schedule: one schedule, in any form.
        schedules: schedules in any form.
        timezone: for `interval`, `cron` and `rrule`.

    Returns:
        The schedules; None when none of the arguments is given, an empty list when `schedules` is empty.

    Raises:
        DeploymentError: more than one way was used at once, or a schedule is not valid.
    """
    ways = {"interval": interval, "cron": cron, "rrule": rrule, "schedule": schedule, "schedules": schedules}
    used = [name for name, value in ways.items() if value is not None]
    if len(used) > 1:
        raise DeploymentError(f"Give only one of {', '.join(used)}; several schedules go into `schedules`.")
    if not used:
        return None
    if used[0] in ("schedule", "schedules"):
        return [to_create(one) for one in ([schedule] if schedule is not None else schedules or ())]
    value = ways[used[0]]
    many = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    return [from_item({used[0]: one, "timezone": timezone}) for one in many]


def to_create(given: Any) -> DeploymentScheduleCreate:
    """A schedule in any form as the wire's.

    Raises:
        DeploymentError: it is none, or not a valid one.
    """
    if isinstance(given, DeploymentScheduleCreate):
        return given
    if isinstance(given, Schedule):
        return DeploymentScheduleCreate(schedule=given)
    if isinstance(given, Mapping):
        return from_item(given)
    if any(hasattr(given, kind) for kind in KINDS):
        keys = ITEM_KEYS - {"schedule"}
        return from_item({key: getattr(given, key) for key in keys if getattr(given, key, None) is not None})
    raise DeploymentError(f"{given!r} is not a schedule; use headrace.schedules.Cron, Interval or RRule.")


def from_item(item: Mapping[str, Any]) -> DeploymentScheduleCreate:
    """An item of `schedules` in a deployment file as the wire's schedule.

    Raises:
        DeploymentError: a key is not known, not exactly one of cron, interval and rrule is there, or a value is wrong.
    """
    unknown = sorted(set(item) - ITEM_KEYS)
    if unknown:
        raise DeploymentError(f"A schedule has no {', '.join(unknown)}; it takes {', '.join(sorted(ITEM_KEYS))}.")
    inner = item.get("schedule")
    if isinstance(inner, Mapping):
        item = {**inner, **{key: value for key, value in item.items() if key != "schedule"}}
    given = [kind for kind in KINDS if item.get(kind) is not None]
    if len(given) != 1:
        said = " and ".join(given) or "none of them"
        raise DeploymentError(f"A schedule has exactly one of cron, interval and rrule; this one has {said}.")
    _check(item)
    schedule = Schedule(
        cron=item.get("cron"),
        interval=_seconds(item["interval"]) if given == ["interval"] else None,
        rrule=item.get("rrule"),
        timezone=item.get("timezone"),
        anchor_date=_moment(item.get("anchor_date")) if given == ["interval"] else None,
        day_or=_flag(item.get("day_or"), "day_or"),
    )
    return DeploymentScheduleCreate(
        schedule=schedule,
        active=_flag(item.get("active"), "active"),
        parameters=dict(item.get("parameters") or {}),
        slug=item.get("slug"),
        replaces=item.get("replaces"),
        max_scheduled_runs=item.get("max_scheduled_runs"),
    )


def _check(item: Mapping[str, Any]) -> None:
    checks = {"cron": check_cron, "rrule": check_rrule, "timezone": check_timezone}
    for key, check in checks.items():
        value = item.get(key)
        if value is None:
            continue
        if not isinstance(value, str):
            raise DeploymentError(f"{key} is {value!r}; a text is wanted.")
        try:
            check(value)
        except ValueError as error:
            raise DeploymentError(f"{key} is not right: {error}") from None


def _seconds(value: Any) -> float:
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    else:
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            try:
                seconds = msgspec.convert(value, timedelta).total_seconds()
            except msgspec.ValidationError:
                raise DeploymentError(
                    f"{value!r} is not an interval; a number of seconds or an ISO 8601 duration is wanted."
                ) from None
    if seconds <= 0:
        raise DeploymentError(f"An interval must be longer than nothing; {value!r} is not.")
    return seconds


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise DeploymentError(
            f"anchor_date {value!r} is not a moment; write it as 2026-01-31T06:00:00+00:00."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _flag(value: Any, name: str) -> bool:
    if value is None:
        return True
    if isinstance(value, bool):
        return value
    if str(value).lower() in WORDS:
        return WORDS[str(value).lower()]
    raise DeploymentError(f"{name} is {value!r}; true or false is wanted.")
