"""Schedules on the wire: cron, interval or rrule."""

from datetime import datetime, timedelta

from msgspec import Struct


class Schedule(Struct, kw_only=True, omit_defaults=True):
    """When a deployment runs; exactly one of `cron`, `interval` and `rrule` is given.

    One struct instead of a union: the three are told apart by their fields alone. What has its default is left out,
    for Prefect's clients refuse fields that belong to another kind.

    `interval` is a number of seconds; an ISO 8601 duration and a timedelta are accepted and turned into one.

    Raises:
        ValueError: none or several of the three are given, or the interval is not longer than nothing.
    """

    cron: str | None = None
    day_or: bool = True
    interval: float | timedelta | None = None
    anchor_date: datetime | None = None
    rrule: str | None = None
    timezone: str | None = None

    def __post_init__(self) -> None:
        given = [kind for kind in ("cron", "interval", "rrule") if getattr(self, kind) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "none of them"
            raise ValueError(f"A schedule has exactly one of cron, interval and rrule; this one has {said}")
        if isinstance(self.interval, timedelta):
            self.interval = self.interval.total_seconds()
        if self.interval is not None and self.interval <= 0:
            raise ValueError(f"interval must be longer than nothing; it is {self.interval} s")
