"""When schedules are due, on every clock of the world."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.schedules.occurrences import occurrences
from headrace.schemas.schedules import Schedule
from tests.unit.schedules import clockwork
from tests.unit.schedules.clockwork import DAY, ZONES, changes, cron_times, due

NEW_YORK = "America/New_York"
FORWARD, BACK = datetime(2027, 3, 14, tzinfo=UTC), datetime(2027, 11, 7, tzinfo=UTC)
"""Days on which clocks in New York are set forward at 7:00 UTC (2:00 there), and back at 6:00 UTC (2:00 there)."""


def at(schedule: Schedule, start: datetime, hours: float) -> list[str]:
    """Times in UTC, as day and time."""
    found = occurrences(schedule, start, start + timedelta(hours=hours))
    return [f"{one.time:%d %H:%M}" for one in found]


def test_an_hourly_cron_is_due_on_every_new_hour_of_the_clock() -> None:
    """Where an hour is left out nothing is doubled; where one comes twice, it is due the first time only."""
    hourly = Schedule(cron="0 * * * *", timezone=NEW_YORK)

    forward = at(hourly, FORWARD + timedelta(hours=5), 4)
    back = at(hourly, BACK + timedelta(hours=4), 4)

    assert forward == ["14 05:00", "14 06:00", "14 07:00", "14 08:00", "14 09:00"]
    assert back == ["07 04:00", "07 05:00", "07 07:00", "07 08:00"]


def test_a_daily_cron_keeps_its_time_of_the_clock() -> None:
    """Nine in the morning is nine in the morning, in summer and in winter."""
    daily = Schedule(cron="0 9 * * *", timezone=NEW_YORK)

    assert at(daily, FORWARD - DAY, 72) == ["13 14:00", "14 13:00", "15 13:00"]


def test_a_time_that_the_clock_leaves_out_is_due_all_the_same() -> None:
    """Half past two, which does not come on that day, is due half an hour after the change; and then as always."""
    daily = Schedule(cron="30 2 * * *", timezone=NEW_YORK)

    assert at(daily, FORWARD - DAY, 72) == ["13 07:30", "14 07:30", "15 06:30"]


def test_an_interval_of_a_day_keeps_to_the_clock_and_one_of_hours_does_not() -> None:
    """From the anchor at 7:30 in the morning in New York, a day later is 7:30; twelve hours later is twelve hours."""
    anchor = datetime(2027, 1, 1, 12, 30, tzinfo=UTC)
    daily = Schedule(interval=86400, anchor_date=anchor, timezone=NEW_YORK)
    half = Schedule(interval=43200, anchor_date=anchor, timezone=NEW_YORK)

    assert at(daily, FORWARD - DAY, 72) == ["13 12:30", "14 11:30", "15 11:30"]
    assert at(half, FORWARD, 24) == ["14 00:30", "14 12:30"]
    assert at(half, BACK, 24) == ["07 00:30", "07 12:30"]


def test_an_hourly_interval_is_due_in_both_of_the_hours_that_come_twice() -> None:
    """Elapsed time knows no clock: it is due each hour, under keys of its own."""
    hourly = Schedule(interval=3600, anchor_date=BACK, timezone=NEW_YORK)

    found = list(occurrences(hourly, BACK + timedelta(hours=4), BACK + timedelta(hours=8)))

    assert [one.time.hour for one in found] == [4, 5, 6, 7, 8]
    assert len({one.key for one in found}) == 5


def test_rules_follow_the_zone_they_name() -> None:
    """DTSTART's own zone goes before that of the schedule; a time with a Z is turned into the schedule's."""
    named = Schedule(rrule="DTSTART;TZID=Europe/Berlin:20270301T090000\nRRULE:FREQ=DAILY", timezone="UTC")
    in_utc = Schedule(rrule="DTSTART:20270301T140000Z\nRRULE:FREQ=DAILY", timezone=NEW_YORK)

    assert at(named, datetime(2027, 3, 27, tzinfo=UTC), 48) == ["27 08:00", "28 07:00"]
    assert at(in_utc, FORWARD - DAY, 48) == ["13 14:00", "14 13:00"]


def test_both_ends_of_the_window_belong_to_it() -> None:
    """What is due at the start or at the end is found; what lies a moment beside them is not."""
    hourly, noon = Schedule(cron="0 * * * *"), datetime(2026, 6, 1, 12, tzinfo=UTC)

    assert len(list(occurrences(hourly, noon, noon))) == 1
    assert at(hourly, noon + timedelta(microseconds=1), 1) == ["01 13:00"]


def test_days_of_month_and_week_are_either_or_both() -> None:
    """`day_or` says whether the 13th, or a Friday, is enough."""
    window = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC)
    either, both = (Schedule(cron="0 0 13 * 5", day_or=day_or) for day_or in (True, False))

    assert len(list(occurrences(either, *window))) == 8
    assert [one.time.month for one in occurrences(both, *window)] == [2, 3]


def test_a_schedule_that_never_comes_true_is_just_empty() -> None:
    """The thirtieth of February is no reason to search for ever.  # S7"""
    for never in (Schedule(cron="0 0 30 2 *"), Schedule(rrule="FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30")):
        assert list(occurrences(never, FORWARD, FORWARD + 400 * DAY)) == []


ZONES_WITH_CHANGES = st.sampled_from(ZONES).filter(lambda zone: bool(changes(zone)))
CRONS = st.sampled_from(
    [
        "0 * * * *",
        "30 * * * *",
        "*/20 * * * *",
        "30 2 * * *",
        "15,45 0-3 * * *",
        "0 0 * * *",
        "30 23 * * 6,0",
        "5 1 1-15 3,4,10,11 *",
    ]
)


@st.composite
def clocks(draw: st.DrawFn) -> tuple[str, datetime, datetime]:
    """A zone, and a window around a moment at which its clock is set."""
    zone = draw(ZONES_WITH_CHANGES)
    begin = draw(st.sampled_from(changes(zone))) + timedelta(minutes=draw(st.integers(-2000, 200)))
    return zone, begin, begin + timedelta(minutes=draw(st.integers(0, 3000)))


def local_window(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Local times that could lie in a window, in any zone."""
    return start.replace(tzinfo=None) - DAY, end.replace(tzinfo=None) + DAY


@settings(max_examples=20, deadline=None)
@given(clocks(), CRONS)
@example(("Pacific/Apia", datetime(2011, 12, 30, 8, tzinfo=UTC), datetime(2012, 1, 1, tzinfo=UTC)), "30 2 * * *")
@example(
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 12, tzinfo=UTC), datetime(2026, 10, 4, tzinfo=UTC)), "*/20 * * * *"
)
def test_g3_each_local_time_is_due_once(clock: tuple[str, datetime, datetime], text: str) -> None:
    """A cron expression is due exactly when looking at every minute of the clock says so."""
    zone, start, end = clock

    found = list(occurrences(Schedule(cron=text, timezone=zone), start, end))

    assert [one.time for one in found] == due(cron_times(text, *local_window(start, end)), zone, start, end)
    assert len({one.key for one in found}) == len(found)


@settings(max_examples=15, deadline=None)
@given(clocks(), st.integers(24, 80), st.integers(0, 1439))
def test_g3_intervals_of_a_day_and_more_keep_to_the_clock(
    clock: tuple[str, datetime, datetime], hours: int, minute: int
) -> None:
    """Such an interval counts the time of the clock, from the anchor's; each beat is due once."""
    zone, start, end = clock
    anchor = (start - 30 * DAY).replace(hour=0, minute=0) + timedelta(minutes=minute)
    schedule = Schedule(interval=hours * 3600, anchor_date=anchor, timezone=zone)
    local = anchor.astimezone(clockwork.ZoneInfo(zone)).replace(tzinfo=None)
    beats = (local + number * timedelta(hours=hours) for number in range(-5, 60))
    low, high = local_window(start, end)

    found = [one.time for one in occurrences(schedule, start, end)]

    assert found == due([beat for beat in beats if low <= beat <= high], zone, start, end)


@settings(max_examples=25, deadline=None)
@given(
    clocks(),
    st.one_of(
        CRONS.map(lambda text: Schedule(cron=text)),
        st.integers(600, 200_000).map(lambda seconds: Schedule(interval=seconds, anchor_date=FORWARD)),
        st.sampled_from(["FREQ=HOURLY", "FREQ=DAILY;BYHOUR=2;BYMINUTE=30", "FREQ=MINUTELY;INTERVAL=17"]).map(
            lambda text: Schedule(rrule=text)
        ),
    ),
    st.lists(st.integers(0, 3000), max_size=4),
)
def test_g3_keys_do_not_depend_on_the_window(
    clock: tuple[str, datetime, datetime], schedule: Schedule, cuts: list[int]
) -> None:
    """Asked for a piece at a time, a schedule names the same occurrences under the same keys."""
    zone, start, end = clock
    schedule.timezone = zone
    edges = [
        start,
        *sorted(start + timedelta(minutes=cut) for cut in cuts if start + timedelta(minutes=cut) < end),
        end,
    ]

    pieces = [one for low, high in itertools.pairwise(edges) for one in occurrences(schedule, low, high)]

    assert sorted(set(pieces)) == list(occurrences(schedule, start, end))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_g3_all_zones_and_all_their_changes() -> None:
    """Around every third change of every zone's clock since 1980, four cron expressions are due when they should be."""
    wrong = []
    clocks_that_differ = {changes(zone): zone for zone in ZONES}
    for zone in clocks_that_differ.values():
        for moment in changes(zone)[::12]:
            window = moment - timedelta(hours=5), moment + timedelta(hours=30)
            for text in ("30 * * * *", "*/20 1-3 * * *", "0 0 * * *", "59 23 * * *"):
                found = [one.time for one in occurrences(Schedule(cron=text, timezone=zone), *window)]
                if found != due(cron_times(text, *local_window(*window)), zone, *window):
                    wrong.append((zone, moment, text))

    assert wrong == []
