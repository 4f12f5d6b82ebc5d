"""Whether a schedule is valid, said before anything is stored.

Every message names what was given, so that it can be shown as it is.
"""

from datetime import timedelta
from zoneinfo import ZoneInfo

from headrace.schedules.recurrence import parse
from headrace.schemas.schedules import Schedule

LONGEST_CRON = 1000
"""Characters of a cron expression; expanding a longer one would cost too much.  # S7"""
SHORTEST_INTERVAL = 1e-6
LONGEST_INTERVAL = timedelta(days=100 * 366).total_seconds()


def check(schedule: Schedule) -> None:
    """See that a schedule can be followed.

    Raises:
        ValueError: it cannot; the message says why.
    """
    if schedule.cron is not None:
        check_cron(schedule.cron)
    if schedule.rrule is not None:
        check_rrule(schedule.rrule)
    if schedule.interval is not None:
        check_interval(schedule.interval)
    if schedule.timezone:
        check_timezone(schedule.timezone)


def check_cron(text: str) -> None:
    """See that `text` is a cron expression.

    Raises:
        ValueError: it is none.
    """
    from croniter import croniter  # 60 ms that only cron schedules pay

    if any(word[:1] in "RrHh" for word in text.replace(",", " ").split()):
        raise ValueError(f'Random and Hashed expressions are unsupported, received: "{text[:80]}"')
    if len(text) > LONGEST_CRON or not croniter.is_valid(text):
        raise ValueError(f'Invalid cron string: "{text[:80]}". Five fields are wanted, as in "0 6 * * *".')


def check_rrule(text: str) -> None:
    """See that `text` is a set of recurrence rules.

    Raises:
        ValueError: it is none.
    """
    try:
        parse(text)
    except ValueError as error:
        raise ValueError(f'Invalid RRule string "{text[:80]}": {error}') from None


def check_interval(interval: float | timedelta) -> None:
    """See that an interval, in seconds, can be counted in.

    Raises:
        ValueError: it is shorter than a microsecond or longer than a century.
    """
    seconds = interval.total_seconds() if isinstance(interval, timedelta) else interval
    if not SHORTEST_INTERVAL <= seconds <= LONGEST_INTERVAL:
        raise ValueError(f"interval must be from a microsecond to a century; it is {seconds} s.")


def check_timezone(name: str) -> None:
    """See that `name` is a time zone.

    Raises:
        ValueError: it is not known.
    """
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(
            f'Invalid timezone: "{name[:80]}". An IANA name is wanted, such as America/New_York.'
        ) from None
