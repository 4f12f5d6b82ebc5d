"""How often something may be done: a bounded table in the memory of this process.  # S17

For each key one number is kept: the moment at which all that it did will have been paid off, each time with
`60 / per_minute` seconds. Who is a whole minute in debt has to wait.
"""

import time
from collections.abc import Callable, Hashable

MINUTE = 60.0


class RateLimit:
    """So many times a minute for each key, all of them at once if need be.

    Args:
        per_minute: how many.
        keys: how many keys are remembered; beyond that the one that came first is forgotten.
        clock: seconds that only rise.
    """

    def __init__(self, per_minute: int, keys: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._cost = MINUTE / per_minute
        self._keys = keys
        self._clock = clock
        self._paid: dict[Hashable, float] = {}

    def wait(self, key: Hashable) -> float:
        """Seconds until `key` may do it again; 0 when it may now."""
        paid = self._paid.get(key)
        return 0.0 if paid is None else max(0.0, paid + self._cost - MINUTE - self._clock())

    def take(self, key: Hashable) -> float:
        """Count one time, if it is allowed: 0, else the seconds to wait."""
        wait = self.wait(key)
        if wait <= 1e-9:
            now = self._clock()
            self._paid[key] = max(self._paid.pop(key, now), now) + self._cost
            if len(self._paid) > self._keys:
                del self._paid[next(iter(self._paid))]
            return 0.0
        return wait
