"""A slow way to say when local times are due, which shares nothing with the fast one: it looks at every minute."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, available_timezones

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
FIRST_YEAR, LAST_YEAR = 1980, 2037
"""Years in which every zone is off by whole minutes, and for which the time zone database has its changes."""
ZONES = sorted(available_timezones() - {"localtime", "Factory"})


@cache
def changes(zone: str) -> tuple[datetime, ...]:
    """The moments, to the hour, at which the clock of a zone is set."""
    found, place = [], ZoneInfo(zone)
    moment, end = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC), datetime(LAST_YEAR, 12, 31, tzinfo=UTC)
    while moment < end:
        if moment.astimezone(place).utcoffset() != (moment + 7 * DAY).astimezone(place).utcoffset():
            low, high = moment, moment + 7 * DAY
            while high - low > timedelta(hours=1):
                middle = low + (high - low) / 2
                same = middle.astimezone(place).utcoffset() == low.astimezone(place).utcoffset()
                low, high = (middle, high) if same else (low, middle)
            found.append(low.replace(minute=0, second=0, microsecond=0))
        moment += 7 * DAY
    return tuple(found)


def cron_times(text: str, start: datetime, end: datetime, day_or: bool = True) -> list[datetime]:
    """The local minutes that a cron expression of numbers, lists, ranges and steps names."""
    fields = text.split()
    minutes, hours, days, months, weekdays = (
        _numbers(field, *bounds)
        for field, bounds in zip(fields, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)), strict=True)
    )
    both = fields[2] != "*" and fields[4] != "*"
    found, moment = [], start.replace(second=0, microsecond=0)
    while moment <= end:
        of_month, of_week = moment.day in days, bool({moment.isoweekday() % 7, moment.isoweekday()} & weekdays)
        day = (of_month or of_week) if both and day_or else (of_month and of_week)
        if day and moment.minute in minutes and moment.hour in hours and moment.month in months and moment >= start:
            found.append(moment)
        moment += MINUTE
    return found


def _numbers(field: str, least: int, most: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        first = least if span == "*" else int(low)
        last = most if span == "*" else int(high or low)
        found.update(range(first, last + 1, int(step or 1)))
    return found


@lru_cache(maxsize=4)
def minutes(zone: str, start: datetime, end: datetime) -> dict[datetime, datetime]:
    """Every local minute from a day before `start` to a day after `end`, and the moment at which it comes first."""
    place = ZoneInfo(zone)
    first_seen: dict[datetime, datetime] = {}
    moment = start.replace(second=0, microsecond=0) - 26 * HOUR
    while moment <= end + 26 * HOUR:
        first_seen.setdefault(moment.astimezone(place).replace(tzinfo=None), moment)
        moment += MINUTE
    return first_seen


def due(times: Iterable[datetime], zone: str, start: datetime, end: datetime) -> list[datetime]:
    """The moments from `start` to `end` at which local times are due, by looking at every minute around them."""
    first_seen = minutes(zone, start, end)
    first, last = min(first_seen), max(first_seen)
    there, left_out = set(), []
    for local in times:
        if local in first_seen:
            there.add(first_seen[local])
        elif first < local < last:
            left_out.append(local)
    for local in left_out:
        before = local
        while before not in first_seen:
            before -= MINUTE
        there.add(first_seen[before] + (local - before))
    return sorted(moment for moment in there if start <= moment <= end)
