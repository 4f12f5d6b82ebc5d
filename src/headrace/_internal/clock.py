"""Time, handed in: whatever decides by the clock is given one, so that a test can move it."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What tells the time."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        return datetime.fromtimestamp(time.time(), UTC)


class ManualClock:
    """A clock that stands still until it is moved, for tests and simulations.

    Args:
        start: the moment it shows at first; 2026-01-01 00:00 UTC when absent.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """The moment it stands at."""
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Move on by `seconds` and return the new moment."""
        self._now += timedelta(seconds=seconds)
        return self._now
