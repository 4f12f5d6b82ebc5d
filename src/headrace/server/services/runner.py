"""Runs the background services of a server process, and knows which of them are ill.

Each service has a thread of its own, so that one that hangs holds up no other. A turn that raises is logged and
counted, and the next one comes as usual. Several processes may run the same services at once: they are written so that
doing a thing twice or late does no harm.
"""

import importlib
import logging
import pkgutil
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import headrace.server.services as package
from headrace.server.services.service import Service
from headrace.server.store.transaction import Store
from headrace.settings import Settings

logger = logging.getLogger("headrace.server.services")

PERIODS = 3
"""A service without a success for so many of its intervals is ill.  # G15"""
GRACE = 15.0
"""Seconds that a service has at least before it counts as ill: a slow turn of a quick service is no illness."""
JITTER = 0.1
"""By how much, as a part, a wait is made longer or shorter by chance, so that processes do not march in step."""
FIRST_TURN = 1.0
"""Seconds within which every service has its first turn."""
TELL_EVERY = 1.0
"""Seconds between two times that others are told what ails the services."""


def discover() -> list[Service]:
    """Make every service of this package, one for each module that has a function `service`."""
    found = []
    for module in sorted(one.name for one in pkgutil.iter_modules(package.__path__)):
        make = getattr(importlib.import_module(f"{package.__name__}.{module}"), "service", None)
        if callable(make):
            found.append(make())
    return found


@dataclass(slots=True)
class Tick:
    """What is known about one service.

    Args:
        interval: seconds between its turns.
        success: monotonic time of its last success, or of its start.
        turns: how many it has finished well.
        failures: how many raised.
        error: what the last turn raised; None when it was well.
    """

    interval: float
    success: float
    turns: int = 0
    failures: int = 0
    error: str | None = None


class ServiceRunner:
    """Runs services until it is stopped.

    Args:
        services: which.
        store: what they work on.
        settings: handed to each of their turns.
        told: if given, told each second what ails them.
    """

    def __init__(
        self,
        services: Sequence[Service],
        store: Store,
        settings: Settings,
        told: Callable[[list[str]], None] | None = None,
    ) -> None:
        self._services, self._store, self._settings, self._told = services, store, settings, told
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.ticks: dict[str, Tick] = {}

    def start(self) -> None:
        """Start a thread for each service."""
        for service in self._services:
            self.ticks[service.name] = Tick(service.interval, time.monotonic())
            thread = threading.Thread(
                target=self._loop, args=(service,), name=f"headrace-service-{service.name}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        if self._told is not None:
            threading.Thread(target=self._tell, args=(self._told,), name="headrace-services", daemon=True).start()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the services while the block runs."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def stop(self, seconds: float = 5.0) -> None:
        """Let running turns finish, for at most `seconds` altogether."""
        self._stopping.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def problems(self) -> list[str]:
        """What keeps the server from being ready, in words; empty when all services are well.  # G15"""
        now = time.monotonic()
        return [
            f"service {name} has had no success for {now - tick.success:.0f} s"
            + (f" ({tick.error})" if tick.error else "")
            for name, tick in self.ticks.items()
            if now - tick.success > max(PERIODS * tick.interval, GRACE)
        ]

    def _tell(self, told: Callable[[list[str]], None]) -> None:
        told(self.problems())
        while not self._stopping.wait(TELL_EVERY):
            told(self.problems())

    def _loop(self, service: Service) -> None:
        wait = random.uniform(0, min(FIRST_TURN, service.interval))
        while not self._stopping.wait(wait):
            began = time.monotonic()
            self._turn(service)
            pause = service.interval * random.uniform(1 - JITTER, 1 + JITTER)
            wait = max(0.0, pause - (time.monotonic() - began))

    def _turn(self, service: Service) -> None:
        tick = self.ticks[service.name]
        try:
            done = service.run_once(self._store, self._settings)
        except Exception as error:
            if self._stopping.is_set():
                return  # the store may have been closed under it
            tick.failures += 1
            tick.error = type(error).__name__
            logger.exception("Service %s failed; its next turn comes in %g s.", service.name, service.interval)
        else:
            tick.turns += 1
            tick.error = None
            tick.success = time.monotonic()
            if done:
                logger.debug("Service %s did %d.", service.name, done)
