"""Calls that are held until they get what they ask for: `Prefer: wait=N` (RFC 7240, section 4.3).

A caller that is told to come back, for a slot or for the time of its run, is held instead, for at most N seconds:

    try ── not told to wait: answer
     │  ^
     │  └─ its turn ────────┐
     └─ held: a future, no thread, no transaction ── time is up: one last try, and its answer whatever it is
                └─ the client leaves: its place in line is given up, unless a flow run's own state keeps it

One task watches for all that are held. It looks whose turn it is at a limit after each hint that slots of it came
back, when slots are due to come back by themselves, and at all limits each second: another server process may have
freed some, and leases end.  # G17
Only they try again, in the order of the line, so a slot that comes back costs one look and one try.

What is stored is the place in line, as for callers that come back by themselves; here it is kept while the call is
held, and lapses seconds after this process has died. A call that is held does not count as being under way (`aside`),
so that whatever it waits for comes through. How many are held has a bound of its own; beyond it all is as without the
header.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Any
from uuid import UUID

from starlette.types import Receive, Scope

from headrace.server.events import hints
from headrace.server.http.answers import Answer
from headrace.server.http.bodies import Gone
from headrace.server.operations.slots import FREED, freed, keep_places, leave_line, whose_turn
from headrace.server.store.transaction import Patience, Place, Store, Tx

LONGEST = 30
"""Seconds for which a call is held at most; servers between us and a client end silent calls after a minute."""
HELD = 1_000
"""Calls that may be held at once.  # G14"""
SMALL = 16 << 10
"""Bodies with more bytes than this are not kept in memory for a call that is held.  # G14"""
LOOK_AGAIN = 1.0
SHORTEST = 0.02
"""Seconds between two looks for slots that come back by themselves, and between two tries of one call, at least."""
STOP: dict[str, Any] = {"limits": ()}
"""The hint, among those of slots, that this server process ends: who is held is answered."""

logger = logging.getLogger("headrace.server")

Step = Callable[[Tx], Answer]


def preferred_wait(scope: Scope) -> int:
    """For how many whole seconds a caller would rather be held than told to come back; 0 when it does not say so."""
    for name, value in scope["headers"]:
        if name == b"prefer":
            for preference in value.split(b","):
                key, _, seconds = preference.partition(b";")[0].partition(b"=")
                if key.strip().lower() == b"wait":  # the first of them counts
                    digits = seconds.strip().strip(b'"')
                    return min(int(digits), LONGEST) if digits.isdigit() and len(digits) < 10 else 0
    return 0


class LongPoll:
    """The calls that are held by a server process.

    Args:
        store: the database.
        aside: entered while a call is held.
    """

    def __init__(self, store: Store, aside: Callable[[], AbstractContextManager[None]]) -> None:
        self._store, self._aside = store, aside
        self._patient = 0
        self._held: dict[asyncio.Future[bool], Place] = {}
        self._heard: hints.Subscription | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def has_room(self) -> bool:
        """Whether one more call may be held."""
        return self._patient < HELD

    async def answer(self, step: Step, seconds: int, receive: Receive) -> Answer:
        """Carry out a call, again each time it may get what it waits for.

        Args:
            step: carries it out in a writing transaction.
            seconds: for how long it may be held.
            receive: tells when the client leaves.

        Raises:
            Gone: the client has left.
        """
        end = time.monotonic() + seconds
        gone: asyncio.Future[None] | None = None
        self._patient += 1
        try:
            answer, waits = await self._try(step, None, holds=True)
            while waits is not None and (isinstance(waits, Place) or waits < end - time.monotonic()):
                gone = gone or asyncio.ensure_future(_until_gone(receive))
                with self._aside():
                    goes_on = await self._wait(waits, end, gone)
                if gone.done():
                    if isinstance(waits, Place) and answer.status != 201:  # what was written waits on without us
                        await self._leave(waits)
                    raise Gone
                answer, waits = await self._again(step, waits, holds=goes_on)
                if not goes_on:
                    break
        finally:
            self._patient -= 1
            if gone is not None:
                gone.cancel()
        return answer._replace(headers=[*answer.headers, (b"preference-applied", b"wait=%d" % seconds)])

    async def _try(self, step: Step, place: Place | None, *, holds: bool) -> tuple[Answer, Place | float | None]:
        """Try once; the answer, and the place in line or the seconds that have to be waited for."""

        def attempt(tx: Tx) -> tuple[Answer, Place | float | None]:
            tx.patience = Patience(place and place.id, holds=holds)
            answer, waits = step(tx), tx.patience.waits
            return answer, (waits - tx.now).total_seconds() if isinstance(waits, datetime) else waits

        return await self._store.write_soon(attempt)

    async def _again(self, step: Step, waits: Place | float, *, holds: bool) -> tuple[Answer, Place | float | None]:
        """Try again, at the end of a wait."""
        place = waits if isinstance(waits, Place) else None
        try:
            answered = await self._try(step, place, holds=holds)
        except Exception:
            if place is not None:
                await self._leave(place)
            raise
        if answered[1] is not None and holds:
            await asyncio.sleep(SHORTEST)  # somebody was quicker; whatever the reason, this is not a busy loop
        return answered

    async def _wait(self, waits: Place | float, end: float, gone: asyncio.Future[None]) -> bool:
        """Wait for a turn in line, or for some seconds; whether the call may be held again after that."""
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        seconds = end - time.monotonic()
        if isinstance(waits, Place):
            self._enter(turn, waits)
        else:
            seconds = waits
        try:
            await asyncio.wait((turn, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._held.pop(turn, None)
        return turn.result() if turn.done() else time.monotonic() < end

    def _enter(self, turn: asyncio.Future[bool], place: Place) -> None:
        self._held[turn] = place
        if self._heard is None:
            self._heard = hints.subscribe(FREED)
            self._watching = asyncio.ensure_future(self._watch(self._heard))
        self._heard.put(
            {"limits": [str(id) for id in place.limit_ids]}
        )  # a slot may have come back before we were listed

    async def _leave(self, place: Place) -> None:
        def leave(tx: Tx) -> None:
            leave_line(tx, place=place.id)
            freed(tx, place.limit_ids)

        if place not in self._held.values():
            await self._store.write_soon(leave)

    async def _watch(self, heard: hints.Subscription) -> None:
        """Let those go on whose turn it is, as long as anybody is held."""
        due: dict[UUID | None, float] = {None: time.monotonic() + LOOK_AGAIN}  # when to look: at a limit, or at all
        with heard:
            while self._held:
                news = await _news(heard, min(due.values()) - time.monotonic())
                for turn in self._held if any(one is STOP for one in news) else ():
                    _tell(turn, on=False)
                now = time.monotonic()
                limits = {id for id, moment in due.items() if moment <= now}
                limits.update(id and UUID(id) for one in news for id in one.get("limits", (None,)))
                limits.update((None,) if len(news) >= hints.CAPACITY else ())  # some may be lost
                try:
                    await self._look(limits, due)
                except Exception as error:  # noqa: BLE001  the database is away: they wait for it, as all do  # G16
                    logger.warning("Nobody can see whose turn it is at the moment: %s", error)
                    due.clear()
                    due[None] = time.monotonic() + LOOK_AGAIN
            self._heard = None

    async def _look(self, limits: set[UUID | None], due: dict[UUID | None, float]) -> None:
        """Look once at those who wait for some limits, or at all for None, and note when to look again."""
        at_all = None in limits
        places = {place for place in self._held.values() if at_all or not limits.isdisjoint(place.limit_ids)}
        gone: set[UUID] = set()
        if at_all:
            due[None] = time.monotonic() + LOOK_AGAIN
            ids = {place.id for place in places}
            gone = ids - await self._store.write_soon(partial(keep_places, places=ids))
        served, next_in = await self._store.read_soon(partial(whose_turn, places=places)) if places else (set(), {})
        for limit_id in limits - {None}:
            due.pop(limit_id, None)
        due.update((id, time.monotonic() + max(seconds, SHORTEST)) for id, seconds in next_in.items())
        for turn, place in sorted(self._held.items(), key=itemgetter(1)):
            if place.id in served or place.id in gone:
                _tell(turn, on=True)


def _tell(turn: asyncio.Future[bool], *, on: bool) -> None:
    if not turn.done():
        turn.set_result(on)


async def _news(heard: hints.Subscription, seconds: float) -> list[dict[str, Any]]:
    """The hints that have come; none when none comes within some seconds."""
    try:
        async with asyncio.timeout(max(seconds, 0)):
            return [await anext(heard), *heard.take_all()]
    except TimeoutError:
        return []


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
