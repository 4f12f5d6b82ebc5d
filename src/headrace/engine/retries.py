"""When a run that failed is tried again, and after how long. Pure, but for the die that jitter throws."""

from collections.abc import Callable, Sequence
from typing import Any

Delays = float | int | Sequence[float] | Callable[[int], Sequence[float]] | None
MOST_DELAYS = 50


def check_retries(retries: int | None, delay: Delays, jitter: float | None, condition: Any) -> None:
    """Check the options of a task that are about retries.

    Raises:
        ValueError: there are too many delays, or the jitter is negative.
        TypeError: the condition is no function.
    """
    delays_of(delay, retries or 0)
    if jitter is not None and jitter < 0:
        raise ValueError("`retry_jitter_factor` must be >= 0.")
    if condition is not None and not callable(condition):
        raise TypeError(f"Expected `retry_condition_fn` to be callable, got {type(condition).__name__} instead.")


def delays_of(option: Delays, retries: int) -> tuple[float, ...]:
    """The option `retry_delay_seconds` as a list of delays; the last one counts for all later retries.

    Args:
        option: one number, several, or a function that makes them from the number of retries.
        retries: how often the run may be tried again.

    Raises:
        ValueError: there are more than 50 delays.
    """
    if callable(option):
        option = option(retries)
    if option is None:
        return ()
    found = tuple(option) if isinstance(option, Sequence) else (option,)
    if len(found) > MOST_DELAYS:
        raise ValueError("Can not configure more than 50 retry delays per task.")
    return found


def delay_after(failures: int, delays: Sequence[float], jitter: float | None) -> float:
    """Seconds to wait before the next attempt.

    Args:
        failures: how many attempts have failed; at least 1.
        delays: what `delays_of` made.
        jitter: by how much of itself the delay may grow, at random; None or 0 for not at all.
    """
    if not delays:
        return 0.0
    delay = delays[min(failures, len(delays)) - 1]
    if not jitter:
        return delay
    import random  # few use jitter, all would pay

    return delay * (1 + random.random() * jitter)


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """Delays that double with every retry, for `retry_delay_seconds`.

    Args:
        backoff_factor: seconds before the first retry.

    Returns:
        A function that makes the delays from the number of retries.
    """

    def delays(retries: int) -> list[float]:
        return [backoff_factor * max(0, 2**r) for r in range(min(retries, MOST_DELAYS))]

    return delays


def wants_retry(condition: Callable[..., Any] | None, *arguments: Any) -> bool:
    """Ask a user's `retry_condition_fn`; no function means yes."""
    return condition is None or bool(condition(*arguments))
