"""Recurrence rules (RFC 5545): reading them, and the local times they name.

Rules are evaluated period by period, from the period the wanted window begins in, and no further than it ends. So a
rule that began years ago costs no more than a new one, and one that never comes true costs no more than the days of
the window. What is left, such as counting `COUNT` from the beginning, works under a budget.  # S7

All times here are local and naive; `occurrences` turns them into moments.
"""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from itertools import groupby, product
from zoneinfo import ZoneInfo

LONGEST = 6500
"""Characters of a set of rules."""
BUDGET = 100_000
"""Steps (days and times looked at) after which the evaluation of one rule is given up."""
BEGIN = datetime(2020, 1, 1)
"""Where rules begin that do not say it."""

FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")
YEARLY, MONTHLY, WEEKLY, DAILY, HOURLY, MINUTELY, SECONDLY = range(7)
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_RANGES = {
    "BYMONTH": (1, 12),
    "BYMONTHDAY": (-31, 31),
    "BYYEARDAY": (-366, 366),
    "BYWEEKNO": (-53, 53),
    "BYHOUR": (0, 23),
    "BYMINUTE": (0, 59),
    "BYSECOND": (0, 59),
    "BYSETPOS": (-366, 366),
}
_DAY = re.compile(r"^([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)$")
_DAYS = timedelta(days=1)


class TooCostly(ValueError):
    """A rule names too few times in too many steps to be followed."""


@dataclass(slots=True)
class Rule:
    """One RRULE or EXRULE. A field that is empty narrows nothing."""

    begin: datetime
    frequency: int
    interval: int = 1
    count: int | None = None
    until: datetime | None = None
    week_start: int = 0
    months: frozenset[int] = frozenset()
    month_days: frozenset[int] = frozenset()
    year_days: frozenset[int] = frozenset()
    weeks: frozenset[int] = frozenset()
    weekdays: frozenset[tuple[int, int]] = frozenset()
    """Ordinal (0 for every one) and day of the week."""
    hours: frozenset[int] = frozenset()
    minutes: frozenset[int] = frozenset()
    seconds: frozenset[int] = frozenset()
    positions: tuple[int, ...] = ()
    steps: int = field(default=0, init=False)


@dataclass(slots=True)
class Recurrence:
    """A set of rules and dates, less others."""

    zone: str | None = None
    """The zone that DTSTART names; it goes before that of the schedule."""
    rules: list[Rule] = field(default_factory=list)
    excluded_rules: list[Rule] = field(default_factory=list)
    dates: set[datetime] = field(default_factory=set)
    excluded: set[datetime] = field(default_factory=set)

    def times(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The local times from `start` to `end`, both included, in order, each once.

        Raises:
            TooCostly: the budget does not suffice.
        """
        dates = sorted(moment for moment in self.dates if start <= moment <= end)
        named = heapq.merge(dates, *(_times(rule, start, end) for rule in self.rules))
        left_out = heapq.merge(*(_times(rule, start, end) for rule in self.excluded_rules))
        next_out = next(left_out, None)
        for moment, _ in groupby(named):
            while next_out is not None and next_out < moment:
                next_out = next(left_out, None)
            if moment != next_out and moment not in self.excluded:
                yield moment


def parse(text: str, zone: str | None = None) -> Recurrence:
    """Read a set of rules.

    Args:
        text: lines DTSTART, RRULE, EXRULE, RDATE, EXDATE; a line without a name is an RRULE.
        zone: name of the time zone that times in UTC (with a Z) are turned into; UTC when absent.

    Raises:
        ValueError: it cannot be read.
    """
    if not text.strip():
        raise ValueError("empty string")
    if len(text) > LONGEST:
        raise ValueError(f"it has more than {LONGEST} characters")
    lines = [_split(line) for line in re.sub(r"\r?\n[ \t]", "", text).split()]  # RFC 5545 folds long lines
    found = Recurrence(zone=next((named for name, named, _ in lines if name == "DTSTART" and named), None))
    local = _zone(found.zone or zone or "UTC")
    begin = next((_moments(value, local, named)[0] for name, named, value in lines if name == "DTSTART"), BEGIN)
    for name, named, value in lines:
        match name:
            case "RRULE":
                found.rules.append(_rule(value, begin, local))
            case "EXRULE":
                found.excluded_rules.append(_rule(value, begin, local))
            case "RDATE":
                found.dates.update(_moments(value, local, named))
            case "EXDATE":
                found.excluded.update(_moments(value, local, named))
    if not (found.rules or found.dates):
        raise ValueError("it has neither an RRULE nor an RDATE")
    return found


def _split(line: str) -> tuple[str, str | None, str]:
    """Name, zone and value of a line."""
    head, colon, value = line.rpartition(":")
    name, *parameters = (head if colon else "RRULE").split(";")
    name = name.upper()
    if name not in ("DTSTART", "RRULE", "EXRULE", "RDATE", "EXDATE"):
        raise ValueError(f"{name[:20]} is not known")
    zone = None
    for parameter in parameters:
        key, _, content = parameter.partition("=")
        if key.upper() == "TZID":
            zone = content
        elif key.upper() != "VALUE" or content.upper() not in ("DATE", "DATE-TIME"):
            raise ValueError(f"{parameter[:40]} is not known")
    return name, zone, value


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(f"{name[:80]} is not a time zone") from None


def _moments(text: str, local: ZoneInfo, zone: str | None = None) -> list[datetime]:
    """Dates and times, as local ones."""
    return [_moment(part, local, zone) for part in text.split(",")]


def _moment(text: str, local: ZoneInfo, zone: str | None = None) -> datetime:
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ValueError(f"{text[:40]} is not a moment, such as 20260131T060000") from None
    if moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=_zone(zone))
    return moment if moment.tzinfo is None else moment.astimezone(local).replace(tzinfo=None)


def _rule(text: str, begin: datetime, local: ZoneInfo) -> Rule:
    parts: dict[str, str] = {}
    for part in text.upper().split(";"):
        key, equals, value = part.partition("=")
        if not equals or not value or key in parts:
            raise ValueError(f"{part[:40]!r} is not of the form NAME=VALUE, each name once")
        parts[key] = value
    kind = parts.pop("FREQ", "")
    if kind not in FREQUENCIES:
        raise ValueError(f"FREQ is one of {', '.join(FREQUENCIES)}")
    rule = Rule(begin=begin.replace(microsecond=0), frequency=FREQUENCIES.index(kind))
    for key, value in parts.items():
        match key:
            case "INTERVAL":
                rule.interval = _number(value, key, 1, 10**6)
            case "COUNT":
                rule.count = _number(value, key, 1, 10_000)
            case "UNTIL":
                rule.until = _moment(value, local)
            case "WKST":
                rule.week_start = WEEKDAYS.index(value) if value in WEEKDAYS else _number(value, key, 0, 6)
            case "BYDAY" | "BYWEEKDAY":
                rule.weekdays = frozenset(_weekday(day) for day in value.split(","))
            case "BYSETPOS":
                rule.positions = tuple(_number(one, key, *_RANGES[key]) for one in value.split(","))
            case _ if key in _FIELDS:
                setattr(rule, _FIELDS[key], frozenset(_number(one, key, *_RANGES[key]) for one in value.split(",")))
            case _:
                raise ValueError(f"{key[:20]} is not known")
    if rule.frequency > MONTHLY:  # "the second Tuesday" means something in a month or a year only
        rule.weekdays = frozenset((0, day) for _, day in rule.weekdays)
    return _completed(rule)


_FIELDS = {
    "BYMONTH": "months",
    "BYMONTHDAY": "month_days",
    "BYYEARDAY": "year_days",
    "BYWEEKNO": "weeks",
    "BYHOUR": "hours",
    "BYMINUTE": "minutes",
    "BYSECOND": "seconds",
}


def _number(text: str, key: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most or (least < 0 and number == 0):
        raise ValueError(f"{key}={text[:20]} must be from {least} to {most}")
    return number


def _weekday(text: str) -> tuple[int, int]:
    found = _DAY.match(text)
    if found is None:
        raise ValueError(f"{text[:20]!r} is not a day such as MO or -1FR")
    return int(found[1] or 0), WEEKDAYS.index(found[2])


def _completed(rule: Rule) -> Rule:
    """Take from the begin what the rule does not say."""
    begin, frequency = rule.begin, rule.frequency
    if not (rule.weeks or rule.year_days or rule.month_days or rule.weekdays):
        if frequency == YEARLY:
            rule.months = rule.months or frozenset({begin.month})
        if frequency in (YEARLY, MONTHLY):
            rule.month_days = frozenset({begin.day})
        if frequency == WEEKLY:
            rule.weekdays = frozenset({(0, begin.weekday())})
    if frequency < HOURLY:
        rule.hours = rule.hours or frozenset({begin.hour})
    if frequency < MINUTELY:
        rule.minutes = rule.minutes or frozenset({begin.minute})
    if frequency < SECONDLY:
        rule.seconds = rule.seconds or frozenset({begin.second})
    return rule


def _times(rule: Rule, start: datetime, end: datetime) -> Iterator[datetime]:
    """The times of one rule from `start` to `end`."""
    rule.steps = 0
    last = end if rule.until is None else min(end, rule.until)
    first = rule.begin if rule.count is not None else max(rule.begin, start)
    left = rule.count
    for period in _periods(rule, first, last):
        for moment in _chosen(rule, period):
            if moment < rule.begin:
                continue
            if moment > last or left == 0:
                return
            if left is not None:
                left -= 1
            if moment >= start:
                yield moment


def _chosen(rule: Rule, period: list[datetime]) -> list[datetime]:
    if not rule.positions:
        return period
    size = len(period)
    places = {place - 1 if place > 0 else size + place for place in rule.positions}
    return [period[place] for place in sorted(places) if 0 <= place < size]


def _periods(rule: Rule, first: datetime, last: datetime) -> Iterator[list[datetime]]:
    """What the rule names in each of its periods, from the one that holds `first` to the one that holds `last`."""
    if rule.frequency > DAILY:
        yield from _periods_within_days(rule, first, last)
        return
    clock = [time(*one) for one in product(sorted(rule.hours), sorted(rule.minutes), sorted(rule.seconds))]
    for days in _day_sets(rule, first.date(), last.date()):
        _spend(rule, len(days))
        chosen = [day for day in days if _fits(rule, day)]
        _spend(rule, len(chosen) * len(clock))
        yield [datetime.combine(day, moment) for day in chosen for moment in clock]


def _day_sets(rule: Rule, first: date, last: date) -> Iterator[list[date]]:
    begin, step = rule.begin.date(), rule.interval
    match rule.frequency:
        case 0:
            for year in range(begin.year + (first.year - begin.year) // step * step, last.year + 1, step):
                yield _days(date(year, 1, 1), 365 + _is_leap(year))
        case 1:
            origin = begin.year * 12 + begin.month - 1
            now = first.year * 12 + first.month - 1
            for month in range(origin + (now - origin) // step * step, last.year * 12 + last.month, step):
                yield _days(date(month // 12, month % 12 + 1, 1), _month_length(month // 12, month % 12 + 1))
        case 2:
            monday = begin - _DAYS * ((begin.weekday() - rule.week_start) % 7)
            for week in range((first - monday).days // 7 // step * step, (last - monday).days // 7 + 1, step):
                yield _days(monday + _DAYS * 7 * week, 7)
        case _:
            for day in range((first - begin).days // step * step, (last - begin).days + 1, step):
                yield [begin + _DAYS * day]


def _periods_within_days(rule: Rule, first: datetime, last: datetime) -> Iterator[list[datetime]]:
    """Hours, minutes or seconds: by the day, as whole days can be passed over, then by the hour."""
    unit = timedelta(seconds=(3600, 60, 1)[rule.frequency - HOURLY])
    origin = rule.begin - timedelta(
        minutes=rule.begin.minute if rule.frequency == HOURLY else 0,
        seconds=rule.begin.second if rule.frequency < SECONDLY else 0,
    )
    step = unit * rule.interval
    for day in _days(first.date(), (last.date() - first.date()).days + 1):
        _spend(rule, 1)
        if not _fits(rule, day):
            continue
        for hour in sorted(rule.hours) if rule.hours else range(24):
            _spend(rule, 1)
            begins = datetime.combine(day, time(hour))
            if begins + timedelta(hours=1) <= first:
                continue
            moment = origin + max(0, -((origin - begins) // step)) * step
            while moment < begins + timedelta(hours=1):
                _spend(rule, 1)
                yield _within(rule, moment)
                moment += step


def _within(rule: Rule, begins: datetime) -> list[datetime]:
    """What the rule names in one hour, minute or second."""
    if rule.frequency > HOURLY and rule.minutes and begins.minute not in rule.minutes:
        return []
    if rule.frequency == SECONDLY:
        return [begins] if not rule.seconds or begins.second in rule.seconds else []
    minutes = sorted(rule.minutes) if rule.frequency == HOURLY else (begins.minute,)
    found = [begins.replace(minute=minute, second=second) for minute in minutes for second in sorted(rule.seconds)]
    _spend(rule, len(found))
    return found


def _fits(rule: Rule, day: date) -> bool:
    """Whether a rule allows a day."""
    if rule.months and day.month not in rule.months:
        return False
    if rule.month_days and not _is_in(rule.month_days, day.day, _month_length(day.year, day.month)):
        return False
    if rule.year_days and not _is_in(rule.year_days, day.timetuple().tm_yday, 365 + _is_leap(day.year)):
        return False
    if rule.weeks and not _is_in(rule.weeks, *_week(day, rule.week_start)):
        return False
    return not rule.weekdays or any(_is_weekday(rule, day, *one) for one in rule.weekdays)


def _is_weekday(rule: Rule, day: date, ordinal: int, weekday: int) -> bool:
    if day.weekday() != weekday or not ordinal:
        return day.weekday() == weekday
    if rule.frequency == YEARLY and not rule.months:
        place, length = day.timetuple().tm_yday, 365 + _is_leap(day.year)
    else:
        place, length = day.day, _month_length(day.year, day.month)
    return (place - 1) // 7 + 1 == ordinal if ordinal > 0 else (length - place) // 7 + 1 == -ordinal


def _is_in(wanted: frozenset[int], place: int, size: int) -> bool:
    """Whether a place counted from 1, or the same counted from the end as -1, is wanted."""
    return place in wanted or place - size - 1 in wanted


def _week(day: date, week_start: int) -> tuple[int, int]:
    """The number of a day's week, and how many weeks its year has; a week belongs to the year of most of its days."""
    middle = day - _DAYS * ((day.weekday() - week_start) % 7) + _DAYS * 3
    number = (middle.timetuple().tm_yday - 1) // 7 + 1
    ends = middle + _DAYS * 7 * (52 - number)
    return number, 53 if (ends + _DAYS * 7).year == middle.year else 52


def _days(first: date, number: int) -> list[date]:
    return [first + _DAYS * offset for offset in range(number)]


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _month_length(year: int, month: int) -> int:
    return 28 + _is_leap(year) if month == 2 else 31 - (month - 1) % 7 % 2


def _spend(rule: Rule, steps: int) -> None:
    rule.steps += steps
    if rule.steps > BUDGET:
        raise TooCostly(f"The rule names too few times: {BUDGET} days and times were looked at. Make it simpler.")
