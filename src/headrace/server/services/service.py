"""What a background service is: something small to be done again and again, that may be done twice or late.

Each module of this package that is a service has a function `service() -> Service`, called once by each server
process: what a service remembers between its turns lives in what that call makes. A service reads the state of the
rows, never messages; it handles items one by one, so that a bad one harms only itself.  # G2, G13
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from headrace.server.store.errors import StoreUnavailable
from headrace.server.store.transaction import Store
from headrace.settings import Settings

logger = logging.getLogger("headrace.server.services")

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Service:
    """One background service.

    Args:
        name: what it is called in logs, metrics and `/ready`.
        interval: seconds between the begins of two turns.
        run_once: does one turn in transactions of its own and returns how many things it did. It takes the time from
            those transactions. When it raises, the turn has failed and the next one comes as usual.
    """

    name: str
    interval: float
    run_once: Callable[[Store, Settings], int]


def each(name: str, items: Iterable[ItemT], handle: Callable[[ItemT], bool]) -> int:
    """Handle `items` one by one and return for how many `handle` said it did something.

    One that raises is reported and set aside until the next turn.  # G13

    Raises:
        StoreUnavailable: the database does not serve; that is no fault of the item, and ends the turn.  # G15
    """
    done = 0
    for item in items:
        try:
            done += handle(item)
        except StoreUnavailable:
            raise
        except Exception:
            logger.exception("Service %s could not handle %r and goes on with the next one.", name, item)
    return done
