"""Handing a client what waits for it in the database, see `headrace.server.operations.deliveries`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NoReturn

from headrace.server.events import hints
from headrace.server.store.transaction import Store, Tx

LOOK_AGAIN = 2.0
"""Seconds after which the database is looked at without a hint: another server process may have written a row."""
SHORTEST_WAIT = 0.05
"""Seconds after which one looks again at least, when another was quicker."""


async def hand_out(
    store: Store, topic: str, next_due: Callable[[Tx], datetime | None], hand_one: Callable[[], Awaitable[bool]]
) -> NoReturn:
    """Hand out one after the other, as they are due, for ever.

    Args:
        store: the database.
        topic: on which hints tell that it is worth looking.
        next_due: when there will be something for this client; None when nothing waits.
        hand_one: takes one and hands it out; False when there was none to take.
    """

    def seconds_to_next(tx: Tx) -> float:
        due = next_due(tx)
        return LOOK_AGAIN if due is None else (due - tx.now).total_seconds()

    with hints.subscribe(topic, capacity=1) as news:
        while True:
            wait = await store.read_soon(seconds_to_next)
            if wait <= 0 and await hand_one():
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(wait, SHORTEST_WAIT), LOOK_AGAIN)):
                    await anext(news)
