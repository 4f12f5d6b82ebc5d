"""When a schedule is due: pure, and the same on every machine.

A cron expression, a recurrence rule, and an interval of a day or more name *local* times, on the clock of the
schedule's time zone. Each local time is due once:  # G3

- one that comes twice, when clocks are set back, is due the first time;
- one that does not come at all, when clocks are set forward, is due as long after the change as it would have been
  (RFC 5545: by the offset before the change), unless another local time of the schedule falls on that moment.

So an hourly cron expression is due on every new hour of the clock, and a daily one at the same time of the clock all
year. An interval shorter than a day is elapsed time, whatever clocks do.

An occurrence has a key that does not depend on the window it was asked for in, nor on the version of the time zone
database: its local time and zone, or for elapsed time its moment.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from headrace.schedules.recurrence import parse
from headrace.schemas.schedules import Schedule

DAY = timedelta(days=1)
FAR = timedelta(days=366 * 50)
"""How far ahead to look when no end is given."""
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, order=True)
class Occurrence:
    """One time that a schedule is due.

    Args:
        time: the moment, in UTC.
        key: what tells it from all other occurrences of its schedule.
    """

    time: datetime
    key: str


def occurrences(
    schedule: Schedule, start: datetime, end: datetime | None = None, count: int | None = None
) -> Iterator[Occurrence]:
    """The occurrences of a schedule from `start` to `end`, both included, in order.

    Args:
        schedule: a valid one (`headrace.schedules.checks`).
        start: an aware moment.
        end: an aware moment; 50 years after the start when absent.
        count: most occurrences.

    Raises:
        ValueError: the schedule is not valid, or a recurrence rule costs too much to follow (`TooCostly`).
    """
    last = min(end or start + FAR, datetime(9990, 1, 1, tzinfo=UTC)).astimezone(UTC)
    return islice(_all(schedule, start.astimezone(UTC), last), count)


def _all(schedule: Schedule, start: datetime, end: datetime) -> Iterator[Occurrence]:
    zone = ZoneInfo(schedule.timezone or "UTC")
    if schedule.cron is not None:
        return _resolved(_cron(schedule.cron, schedule.day_or, *_local_window(start, end, zone)), zone, start, end)
    if schedule.rrule is not None:
        recurrence = parse(schedule.rrule, schedule.timezone or "UTC")
        zone = ZoneInfo(recurrence.zone) if recurrence.zone else zone
        return _resolved(recurrence.times(*_local_window(start, end, zone)), zone, start, end)
    period = _period(schedule)
    anchor = schedule.anchor_date or datetime(2020, 1, 1, tzinfo=UTC)
    anchor = anchor.replace(tzinfo=UTC) if anchor.tzinfo is None else anchor
    if period < DAY:
        return _elapsed(anchor.astimezone(UTC), period, start, end)
    local = anchor.astimezone(zone).replace(tzinfo=None)
    return _resolved(_beats(local, period, *_local_window(start, end, zone)), zone, start, end)


def _period(schedule: Schedule) -> timedelta:
    interval = schedule.interval
    if interval is None:
        raise ValueError("The schedule has none of cron, interval and rrule.")
    period = interval if isinstance(interval, timedelta) else timedelta(seconds=interval)
    if period <= timedelta(0):
        raise ValueError(f"interval must be from a microsecond to a century; it is {interval} s.")
    return period


def _elapsed(anchor: datetime, period: timedelta, start: datetime, end: datetime) -> Iterator[Occurrence]:
    moment = anchor + -((anchor - start) // period) * period
    while moment <= end:
        yield Occurrence(moment, f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z")
        moment += period


def _beats(anchor: datetime, period: timedelta, start: datetime, end: datetime) -> Iterator[datetime]:
    moment = anchor + -((anchor - start) // period) * period
    while moment <= end:
        yield moment
        moment += period


def _cron(text: str, day_or: bool, start: datetime, end: datetime) -> Iterator[datetime]:
    from croniter import croniter  # 60 ms that only cron schedules pay
    from croniter.croniter import CroniterBadDateError

    whole = start.replace(microsecond=0) + (_SECOND if start.microsecond else timedelta(0))
    times = croniter(text, whole - _SECOND, day_or=day_or)
    while True:
        try:
            moment: datetime = times.get_next(datetime)
        except CroniterBadDateError:  # no such day for decades
            return
        if moment > end:
            return
        yield moment


def _local_window(start: datetime, end: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The local times that may be due between two moments.

    Shortly after clocks were set forward, times that were left out are still due: the window begins as much earlier.
    Local times end a day later than the moments, as what is due at a moment is known only when no other time is.
    """
    now, before = start.astimezone(zone), (start - DAY - timedelta(hours=1)).astimezone(zone)
    skipped = max(timedelta(0), (now.utcoffset() or timedelta(0)) - (before.utcoffset() or timedelta(0)))
    return now.replace(tzinfo=None) - skipped, end.astimezone(zone).replace(tzinfo=None) + DAY


def _resolved(times: Iterable[datetime], zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[Occurrence]:
    """Turn local times, in order, into the occurrences between two moments."""
    moved: list[Occurrence] = []  # times that the clock leaves out, until it is known whether another one is due then
    for local in times:
        moment = local.replace(tzinfo=zone).astimezone(UTC)
        due = Occurrence(moment, f"{local.isoformat()} {zone.key}")
        if moment.astimezone(zone).replace(tzinfo=None) != local:
            moved.append(due)
            continue
        while moved and moved[0].time <= moment:
            other = moved.pop(0)
            if start <= other.time < moment and other.time <= end:
                yield other
        if moment > end:
            break
        if moment >= start:
            yield due
    yield from (other for other in moved if start <= other.time <= end)
