"""Recurrence rules: the same times as dateutil's, at a bounded price."""

import datetime as datetime_module
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from unittest.mock import patch

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from headrace.schedules.recurrence import BUDGET, TooCostly, parse

WEEKDAYS = st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"])
BEGIN = datetime(2024, 1, 1)


def some(numbers: st.SearchStrategy[object]) -> st.SearchStrategy[str]:
    """A few of them, with commas between."""
    return st.lists(numbers, min_size=1, max_size=3, unique=True).map(lambda found: ",".join(map(str, found)))


@st.composite
def rules(draw: st.DrawFn) -> str:
    """An RRULE whose times are frequent enough for dateutil to find them."""
    kind = draw(st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY"]))
    ordinal = st.sampled_from(["1", "2", "-1", "5"]) if kind in ("YEARLY", "MONTHLY") else st.just("")
    parts: dict[str, st.SearchStrategy[str]] = {
        "INTERVAL": st.sampled_from(["2", "3", "7"]),
        "COUNT": st.integers(1, 40).map(str),
        "UNTIL": st.integers(1, 800).map(lambda days: f"{BEGIN + timedelta(days=days):%Y%m%dT%H%M%S}"),
        "BYMONTH": some(st.integers(1, 12)),
        "BYMONTHDAY": some(st.sampled_from([1, 2, 15, 28, 30, 31, -1, -31])),
        "BYDAY": st.builds(
            lambda number, days: ",".join(number + day for day in days.split(",")), ordinal, some(WEEKDAYS)
        ),
        "BYHOUR": some(st.integers(0, 23)),
        "BYMINUTE": some(st.integers(0, 59)),
        "WKST": WEEKDAYS,
    }
    if kind == "YEARLY":
        parts |= {
            "BYYEARDAY": some(st.sampled_from([1, 100, 366, -1, -366])),
            "BYWEEKNO": some(st.sampled_from([1, 20, 52, 53, -1])),
        }
    if kind != "WEEKLY":  # RFC 5545 counts positions in whole weeks, dateutil in the rest of the first one
        parts["BYSETPOS"] = st.sampled_from(["1", "-1", "2", "1,-1"])
    chosen = draw(st.lists(st.sampled_from(sorted(parts)), max_size=4, unique=True))
    assume(chosen != ["BYSETPOS"] and not {"COUNT", "UNTIL"} <= set(chosen))
    return ";".join([f"FREQ={kind}", *(f"{name}={draw(parts[name])}" for name in chosen)])


@settings(max_examples=60, deadline=None)
@given(rules(), st.datetimes(BEGIN, datetime(2024, 12, 31)), st.integers(-5, 300), st.sampled_from([1, 40, 400]))
def test_rules_name_the_times_that_dateutil_finds(rule: str, begin: datetime, later: int, days: int) -> None:
    """In any window, however far from the rule's beginning."""
    begin = begin.replace(microsecond=0)
    text = f"DTSTART:{begin:%Y%m%dT%H%M%S}\nRRULE:{rule}"
    start = begin + timedelta(days=later)
    end = start + timedelta(days=days)
    try:
        found = list(islice(parse(text).times(start, end), 50))
    except TooCostly:  # of every second, say, one in a year: dateutil would take minutes
        reject()
    expected = []
    with patch.object(datetime_module, "MAXYEAR", 2027), suppress(ValueError):  # else dateutil searches for ever
        for moment in rrulestr(text):  # a ValueError is its own refusal of rules that can never come true
            if moment > end or len(expected) == 50:
                break
            if moment >= start:
                expected.append(moment)

    assert found == expected


def test_dates_are_added_and_left_out() -> None:
    """RDATE, EXDATE and EXRULE make a set of what several rules name; each time comes once."""
    recurrence = parse(
        "DTSTART:20260101T060000\nRRULE:FREQ=DAILY;COUNT=6\nRRULE:FREQ=DAILY;INTERVAL=2;COUNT=3\n"
        "RDATE:20260110T120000,20260103T060000\nEXDATE:20260102T060000\nEXRULE:FREQ=DAILY;INTERVAL=4"
    )

    found = [f"{moment:%d %H}" for moment in recurrence.times(datetime(2026, 1, 1), datetime(2026, 2, 1))]

    assert found == ["03 06", "04 06", "06 06", "10 12"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("bad", "NAME=VALUE"),
        ("FREQ=HOURLYISH", "FREQ is one of"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL=0 must be from 1"),
        ("FREQ=DAILY;COUNT=999999", "COUNT=999999"),
        ("FREQ=DAILY;BYHOUR=24", "BYHOUR=24"),
        ("FREQ=DAILY;BYMONTHDAY=0", "BYMONTHDAY=0"),
        ("FREQ=DAILY;BYDAY=XX", "'XX' is not a day"),
        ("FREQ=DAILY;UNTIL=soon", "is not a moment"),
        ("FREQ=DAILY;FREQ=DAILY", "each name once"),
        ("DTSTART;TZID=Mars/North:20260101T000000\nRRULE:FREQ=DAILY", "Mars/North is not a time zone"),
        ("DTSTART:20260101T000000", "neither an RRULE nor an RDATE"),
        ("XRULE:FREQ=DAILY", "XRULE is not known"),
        ("FREQ=DAILY;" + "B" * 7000, "more than 6500"),
    ],
)
def test_what_is_no_rule_is_refused_by_name(text: str, said: str) -> None:
    """The message says what is wrong with which part."""
    with pytest.raises(ValueError, match=said):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MINUTELY;INTERVAL=2;BYMINUTE=1",
        "FREQ=SECONDLY;BYSECOND=59;BYMINUTE=59;BYHOUR=23;BYMONTH=2;BYMONTHDAY=30",
        "DTSTART:19700101T000000\nRRULE:FREQ=DAILY;COUNT=10000;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=SECONDLY;BYSETPOS=2",
    ],
)
def test_s7_endless_rules_end(text: str) -> None:
    """A rule that names hardly a time takes no more steps than its budget, and is given up if that is not enough."""
    recurrence = parse(text)

    found: list[datetime] = []
    with suppress(TooCostly):
        found = list(islice(recurrence.times(datetime(2026, 1, 1), datetime(2026, 4, 11)), 100))

    assert found == []
    assert recurrence.rules[0].steps <= BUDGET + 3600


def test_a_rule_that_began_long_ago_costs_no_more_than_a_new_one() -> None:
    """Evaluation begins where the window does."""
    recurrence = parse("DTSTART:19700101T000000\nRRULE:FREQ=SECONDLY")

    found = list(islice(recurrence.times(datetime(2026, 1, 1), datetime(2026, 1, 2)), 10))

    assert found[-1] == datetime(2026, 1, 1, 0, 0, 9)
    assert recurrence.rules[0].steps < 100
