"""The websocket on which clients hear of events: `/events/out`.

    client  {"type": "filter", "filter": {...}, "backfill": true}
    server  {"type": "event", "event": {...}}, again and again

First comes what is past, oldest first, as far back as the settings allow; then each event as it is written, but for
those that were told before. A filter that does not say until when ends now, and so leaves out all that is to come.
"""

import asyncio
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace
from sqlalchemy import ColumnElement, FromClause, Select, select, tuple_
from starlette.websockets import WebSocket

from headrace.exceptions import ValidationFailed
from headrace.schemas.events import EventFilter, EventOccurredFilter, ReceivedEvent
from headrace.server.events.cursors import Place
from headrace.server.events.finding import found
from headrace.server.events.matching import bounded, matches
from headrace.server.http.event_feed import EventFeed, frame_of
from headrace.server.http.feed import Listener
from headrace.server.http.sockets import (
    COME_AGAIN,
    UNREADABLE,
    Closing,
    Doorkeeper,
    Handler,
    heard,
    send,
    until_first,
    until_gone,
)
from headrace.server.operations.arguments import BodyReader
from headrace.server.operations.events import read_event_row
from headrace.server.operations.paging import listed
from headrace.server.store.caller import Caller
from headrace.server.store.tables import EVENT
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Settings
from headrace.settings.server import ServerEventsSettings

FILTER_BYTES = 1 << 20


class Wanted(Struct):
    """Which events a client wants to hear of, and whether also of past ones."""

    type: Literal["filter"]
    filter: EventFilter = field(default_factory=EventFilter)
    backfill: bool = True


class Past(Struct):
    """A page of past events: each with its place in the log, and behind what the next page begins."""

    events: list[tuple[Place, ReceivedEvent]]
    last: tuple[object, int] | None


def events_out(store: Store, doorkeeper: Doorkeeper, settings: Settings) -> Handler:
    """Make the handler of the socket."""
    feed = EventFeed(store)
    limits = settings.server.events
    reader = BodyReader(Wanted, settings.server.limits.json_depth)

    async def talk(socket: WebSocket, _: Caller) -> None:
        try:
            wanted = reader.read(await heard(socket))
        except ValidationFailed:
            raise Closing(UNREADABLE, "expected a filter") from None
        now = await store.read_soon(lambda tx: tx.now)
        chosen = bounded(wanted.filter, now)
        since: Any = chosen.occurred.since  # a moment, as the filter is bounded
        since = max(since, now - limits.maximum_websocket_backfill)
        chosen = replace(chosen, occurred=EventOccurredFilter(since=since, until=chosen.occurred.until))
        telling = _tell(socket, store, feed, chosen, wanted.backfill, limits)
        await until_first(until_gone(socket), telling)

    return doorkeeper.handler(talk, "events:read", frame=FILTER_BYTES)


async def _tell(
    socket: WebSocket,
    store: Store,
    feed: EventFeed,
    chosen: EventFilter,
    backfill: bool,
    limits: ServerEventsSettings,
) -> None:
    """Send past events if they are wanted, and then new ones."""
    async with feed.listening() as listener:
        size = limits.websocket_backfill_page_size
        told = await _tell_past(socket, store, chosen, listener, size) if backfill else set()
        while limits.stream_out_enabled:
            try:
                news = await listener.next_ones()
            except TimeoutError:
                raise Closing(COME_AGAIN, "too slow") from None
            for event, frame in news:
                if matches(chosen, event) and event.id not in told:
                    await send(socket, frame)
            told.difference_update([event.id for event, _ in news])
    await asyncio.Event().wait()  # nothing is told, but the client may stay


async def _tell_past(
    socket: WebSocket, store: Store, chosen: EventFilter, listener: Listener[ReceivedEvent], size: int
) -> set[UUID]:
    """Send past events; returns the ids of those that are still to come as new ones."""
    told: set[UUID] = set()
    last = None
    while True:
        page = await store.read_soon(lambda tx, last=last: past(tx, chosen, last, size))  # type: ignore[misc]
        for place, event in page.events:
            await send(socket, frame_of(event))
            if listener.will_hear(place):
                told.add(event.id)
        last = page.last
        if last is None:
            return told


def past(tx: Tx, chosen: EventFilter, last: tuple[object, int] | None, size: int) -> Past:
    """A page of the events that a filter finds, oldest first.

    Args:
        tx: a transaction.
        chosen: with both its moments.
        last: behind what the page begins, as the page before says; None for the first.
        size: how many events it has.
    """

    def page(log: FromClause) -> Select[Any]:
        page = select(*(log.c[column.name] for column in EVENT.c)).limit(size)
        if last is None:
            return page
        columns = _in_order(log.c)
        return page.where(tuple_(*columns) > tuple_(*last, types=[column.type for column in columns]))

    rows = found(tx, chosen, page, _in_order)
    events = listed(rows, lambda row: ((row.xid, row.seq), read_event_row(row)), "event")
    return Past(events, (rows[-1].occurred, rows[-1].seq) if len(rows) == size else None)


def _in_order(columns: Any) -> tuple[ColumnElement[Any], ...]:
    return columns.occurred, columns.seq
