"""The websocket on which a headrace worker hears at once what its pool has for it: `/work_pools/{name}/runs`.

    server  {"type": "runs"}                              there may be a run to claim: ask for scheduled runs
    server  {"type": "cancel", "flow_run_id": "..."}      this run is to be cancelled

They are hints. A worker asks every few seconds anyway, so nothing is lost when a frame is.  # G17

Two things make a run claimable: a change, of which the operation tells the hint bus, and the mere passing of time
until its scheduled start, for which this socket keeps a clock: it looks up when the pool's next run is due, and looks
again after every hint and at the latest after `LOOK_AGAIN` seconds, as another server process may have scheduled one.
"""

import asyncio
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from starlette.websockets import WebSocket

from headrace.server.events import hints
from headrace.server.http.sockets import (
    NOT_ALLOWED,
    REFUSED,
    Closing,
    Doorkeeper,
    Handler,
    send,
    until_first,
    until_gone,
)
from headrace.server.store.caller import Caller
from headrace.server.store.tables.flows import FLOW_RUN
from headrace.server.store.tables.work_pools import WORK_POOL, WORK_QUEUE
from headrace.server.store.transaction import Store, Tx

LOOK_AGAIN = 5.0
GATHER = 0.005
"""Seconds in which hints of the same kind become one frame: a thousand new runs need not be a thousand frames."""
NO_SUCH_POOL = 4404
RUNS = {"type": "runs"}


def worker_hints(store: Store, doorkeeper: Doorkeeper) -> Handler:
    """Make the handler of the socket."""

    async def talk(socket: WebSocket, caller: Caller) -> None:
        name = socket.path_params["name"]
        if caller.work_pool not in (None, name):  # S5
            raise Closing(REFUSED, NOT_ALLOWED)
        pool_id = await store.read_soon(lambda tx: find_pool(tx, name))
        if pool_id is None:
            raise Closing(NO_SUCH_POOL, f"there is no work pool {name[:80]!r}")
        with hints.subscribe(f"work-pool:{pool_id}") as heard:
            await until_first(until_gone(socket), _tell(socket, store, pool_id, heard))

    return doorkeeper.handler(talk, "work_pools:read", old_clients=False)


async def _tell(socket: WebSocket, store: Store, pool_id: UUID, heard: hints.Subscription) -> None:
    """Send hints as they come, and one when a run of the pool becomes due."""
    await send(socket, RUNS)  # there may have been one before we listened
    while True:
        wait = await store.read_soon(lambda tx: seconds_to_next_run(tx, pool_id))
        for frame in await _next_frames(heard, wait):
            await send(socket, frame)


async def _next_frames(heard: hints.Subscription, wait: float | None) -> list[dict[str, Any]]:
    """Wait for a hint or for the next run to be due, whichever is first; several hints of a kind are one frame."""
    try:
        async with asyncio.timeout(LOOK_AGAIN if wait is None else min(wait, LOOK_AGAIN)):
            first = await anext(heard)
    except TimeoutError:
        return [RUNS] if wait is not None and wait <= LOOK_AGAIN else []
    await asyncio.sleep(GATHER)
    frames: list[dict[str, Any]] = []
    for frame in (first, *heard.take_all()):
        if frame not in frames:
            frames.append(frame)
    return frames


def find_pool(tx: Tx, name: str) -> UUID | None:
    """The id of the work pool of that name."""
    found: UUID | None = tx.execute(select(WORK_POOL.c.id).where(WORK_POOL.c.name == name)).scalar()
    return found


def seconds_to_next_run(tx: Tx, pool_id: UUID) -> float | None:
    """How long until the next scheduled run of a pool becomes due; None when none is ahead."""
    queues = select(WORK_QUEUE.c.id).where(WORK_QUEUE.c.work_pool_id == pool_id)
    soonest = select(func.min(FLOW_RUN.c.next_scheduled_start_time)).where(
        FLOW_RUN.c.work_queue_id.in_(queues),
        FLOW_RUN.c.state_type == "SCHEDULED",
        FLOW_RUN.c.next_scheduled_start_time > tx.now,
    )
    moment = tx.execute(soonest).scalar()
    return None if moment is None else max(0.0, (moment - tx.now).total_seconds())
