"""`Cron`, `Interval` and `RRule`, as users write them; and schedules on the wire."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from headrace import schedules
from headrace.schedules import Cron, Interval, RRule
from headrace.schedules.checks import check
from headrace.schemas.schedules import Schedule


def test_constructors_make_schedules() -> None:
    """Each kind has its own words; all may have a zone, parameters, a slug, and be switched off."""
    cron = Cron("0 6 * * 1-5", timezone="Europe/Berlin", day_or=False)
    interval = Interval(90, anchor_date=datetime(2026, 1, 1, tzinfo=UTC), slug="often")
    rrule = RRule("FREQ=DAILY", active=False, parameters={"full": True})

    assert (cron.cron, cron.timezone, cron.day_or) == ("0 6 * * 1-5", "Europe/Berlin", False)
    assert (interval.interval, interval.slug) == (timedelta(seconds=90), "often")
    assert (rrule.rrule, rrule.active, rrule.parameters) == ("FREQ=DAILY", False, {"full": True})
    assert Interval(timedelta(hours=1)).interval == timedelta(hours=1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cron("bad"), 'Invalid cron string: "bad"'),
        (lambda: Cron("R * * * *"), "unsupported"),
        (lambda: Cron("0 0 * * *", timezone="Nope/Nope"), 'Invalid timezone: "Nope/Nope"'),
        (lambda: Interval(0), "longer than nothing"),
        (lambda: RRule("bad"), 'Invalid RRule string "bad"'),
        (lambda: schedules.Schedule(cron="* * * * *", rrule="FREQ=DAILY"), "Only one schedule type"),
    ],
)
def test_what_is_not_valid_is_refused_where_it_is_written(make: object, said: str) -> None:
    """A mistake shows in the user's own file, before anything is deployed."""
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(("sent", "seconds"), [(b"3600", 3600), (b"0.5", 0.5), (b'"PT1H30M"', 5400), (b'"P1D"', 86400)])
def test_intervals_travel_as_seconds(sent: bytes, seconds: float) -> None:
    """A number of seconds and an ISO 8601 duration are both read; a number is written."""
    schedule = msgspec.json.decode(b'{"interval": ' + sent + b"}", type=Schedule)

    assert schedule.interval == seconds
    assert msgspec.json.decode(msgspec.json.encode(schedule)) == {"interval": seconds}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"{}", "exactly one of cron, interval and rrule; this one has none of them"),
        (b'{"cron": "* * * * *", "interval": 5}', "this one has cron and interval"),
        (b'{"interval": -5}', "longer than nothing"),
    ],
)
def test_a_schedule_is_of_one_kind(sent: bytes, said: str) -> None:
    """Neither none nor two kinds are read."""
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.json.decode(sent, type=Schedule)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (Schedule(cron="61 * * * *"), 'Invalid cron string: "61'),
        (Schedule(cron="* " * 600), "Invalid cron string"),
        (Schedule(cron="0 0 * * *", timezone="../etc/passwd"), "Invalid timezone"),
        (Schedule(cron="0 0 * * *", timezone="Europe"), "Invalid timezone"),
        (Schedule(interval=1e300), "from a microsecond to a century"),
        (Schedule(interval=1e-9), "from a microsecond to a century"),
        (Schedule(rrule="FREQ=DAILY;NOPE=1"), "NOPE is not known"),
    ],
)
def test_the_server_checks_what_it_is_sent(schedule: Schedule, said: str) -> None:
    """A schedule that nobody can follow is refused, and the message names it."""
    with pytest.raises(ValueError, match=said):
        check(schedule)
