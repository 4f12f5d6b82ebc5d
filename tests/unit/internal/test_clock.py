"""The clocks that are handed in."""

from datetime import UTC, datetime, timedelta

from headrace._internal.clock import ManualClock, SystemClock


def test_the_systems_clock_tells_utc() -> None:
    """It is aware, in UTC, and goes with the machine."""
    before = datetime.now(UTC)

    assert before <= SystemClock().now() <= datetime.now(UTC)
    assert SystemClock().now().tzinfo is UTC


def test_a_manual_clock_moves_when_told() -> None:
    """It stands where it was put until it is moved on."""
    clock = ManualClock(datetime(2026, 5, 1, tzinfo=UTC))

    assert clock.now() == clock.now()
    assert clock.advance(90.5) == datetime(2026, 5, 1, tzinfo=UTC) + timedelta(seconds=90.5) == clock.now()
