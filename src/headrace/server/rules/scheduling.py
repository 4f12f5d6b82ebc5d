"""Which runs a schedule is to have made ahead: pure, from its occurrences and the limits.  # G3"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from headrace.schedules.occurrences import Occurrence, occurrences
from headrace.schemas.schedules import Schedule


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far ahead runs are made.

    Args:
        least: at least so many runs of a schedule.
        most: and never more.
        near: at least those due within this time.
        far: and none due after it.
    """

    least: int = 3
    most: int = 100
    near: timedelta = timedelta(hours=1)
    far: timedelta = timedelta(days=100)


def due_ahead(schedule: Schedule, now: datetime, horizon: Horizon, most: int | None = None) -> list[Occurrence]:
    """The occurrences for which a schedule should have runs.

    Args:
        schedule: when.
        now: the present moment; what lies before it is never made up for.
        horizon: how far ahead.
        most: the schedule's own bound on runs made ahead.

    Raises:
        ValueError: the schedule means nothing, or costs too much to follow.
    """
    bound = horizon.most if most is None else min(horizon.most, most)
    coming = occurrences(schedule, now, now + horizon.far)
    return list(islice(_enough(coming, now + horizon.near, horizon.least), bound))


def _enough(coming: Iterable[Occurrence], near: datetime, least: int) -> Iterable[Occurrence]:
    for count, occurrence in enumerate(coming, 1):
        yield occurrence
        if count >= least and occurrence.time >= near:
            return


IDLE = timedelta(minutes=10)
"""After this time a schedule is looked at again, whatever it has: somebody may have deleted its runs."""


def next_look(ahead: Sequence[Occurrence], now: datetime, horizon: Horizon, most: int | None = None) -> datetime:
    """When a schedule that has these runs ahead may need more: before too few are left, or they end too soon.

    Args:
        ahead: the occurrences for which it has runs.
        now: the present moment.
        horizon: how far ahead runs are to be made.
        most: the schedule's own bound on runs made ahead.
    """
    bound = horizon.most if most is None else min(horizon.most, most)
    least = max(1, min(horizon.least, bound))
    if len(ahead) < least:  # nothing more is due within the horizon
        return now + IDLE
    too_few = ahead[-least].time
    too_near = ahead[-1].time - horizon.near if len(ahead) < bound else ahead[0].time
    return min(now + IDLE, max(now, min(too_few, too_near)))
