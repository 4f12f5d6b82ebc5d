"""Schedules as users write them: `Cron`, `Interval` and `RRule`, for `deploy` and `serve`.

    flow.serve(schedules=[Cron("0 6 * * *", timezone="Europe/Berlin"), Interval(timedelta(hours=2), slug="often")])

When a schedule is due is computed in `headrace.schedules.occurrences`, by the server.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.schedules.checks import check_cron, check_rrule, check_timezone

__all__ = ["Cron", "Interval", "RRule", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """When a deployment runs; exactly one of `interval`, `cron` and `rrule` is given.

    Args:
        interval: time from one run to the next. Whole days, and all that is longer than one, keep to the clock of
            `timezone` when it changes between summer and winter; what is shorter is elapsed time.
        cron: a cron expression of five fields, or six with seconds at the end.
        rrule: recurrence rules of RFC 5545, with DTSTART, RDATE, EXDATE and EXRULE if wanted.
        timezone: IANA name of the time zone whose clock counts; UTC when absent.
        anchor_date: a moment at which the interval falls due; its beat follows from it.
        day_or: whether a cron expression with both a day of the month and a day of the week is due on either of
            them, and not only when both agree.
        active: whether it makes runs.
        parameters: values that its runs get in place of the deployment's.
        slug: a name for it, unique in its deployment.

    Raises:
        ValueError: not exactly one kind is given, or one is not valid.
    """

    interval: timedelta | None = None
    cron: str | None = None
    rrule: str | None = None
    timezone: str | None = None
    anchor_date: datetime = field(default_factory=lambda: datetime.now(UTC))
    day_or: bool = True
    active: bool = True
    parameters: dict[str, Any] = field(default_factory=dict)
    slug: str | None = None

    def __post_init__(self) -> None:
        given = [kind for kind in ("interval", "cron", "rrule") if getattr(self, kind) is not None]
        if len(given) > 1:
            raise ValueError(f"Only one schedule type can be defined at a time. Found: {', '.join(given)}")
        if self.interval is not None and self.interval <= timedelta(0):
            raise ValueError(f"interval must be longer than nothing; it is {self.interval}.")
        if self.cron is not None:
            check_cron(self.cron)
        if self.rrule is not None:
            check_rrule(self.rrule)
        if self.timezone:
            check_timezone(self.timezone)


def Cron(
    cron: str,
    /,
    timezone: str | None = None,
    day_or: bool = True,
    active: bool = True,
    parameters: dict[str, Any] | None = None,
    slug: str | None = None,
) -> Schedule:
    """A schedule from a cron expression; see `Schedule` for the arguments.

    Raises:
        ValueError: the expression or the time zone is not valid.
    """
    return Schedule(cron=cron, timezone=timezone, day_or=day_or, active=active, parameters=parameters or {}, slug=slug)


def Interval(
    interval: timedelta | float | int,
    /,
    anchor_date: datetime | None = None,
    timezone: str | None = None,
    active: bool = True,
    parameters: dict[str, Any] | None = None,
    slug: str | None = None,
) -> Schedule:
    """A schedule that is due again and again, `interval` (seconds, or a timedelta) after the last time.

    See `Schedule` for the other arguments.

    Raises:
        ValueError: the interval is not longer than nothing, or the time zone is not valid.
    """
    return Schedule(
        interval=interval if isinstance(interval, timedelta) else timedelta(seconds=interval),
        anchor_date=anchor_date or datetime.now(UTC),
        timezone=timezone,
        active=active,
        parameters=parameters or {},
        slug=slug,
    )


def RRule(
    rrule: str,
    /,
    timezone: str | None = None,
    active: bool = True,
    parameters: dict[str, Any] | None = None,
    slug: str | None = None,
) -> Schedule:
    """A schedule from recurrence rules; see `Schedule` for the arguments.

    Raises:
        ValueError: a rule or the time zone is not valid.
    """
    return Schedule(rrule=rrule, timezone=timezone, active=active, parameters=parameters or {}, slug=slug)
