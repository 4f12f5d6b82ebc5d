"""The websocket on which clients report events: `/events/in`.

    client  an event, one a frame, without end; pings now and then
    server  pongs: all that came before the ping is stored  # G1

Nothing else is answered. Events that came together are committed together; while they are, the next ones wait in the
connection, and when that is full, at the client.  # G14

An event that may not be taken harms only itself (G13). A frame that is no event ends the connection, as what was meant
cannot be known; all before it are stored.
"""

import logging

from starlette.websockets import WebSocket

from headrace.exceptions import ValidationFailed
from headrace.schemas.events import Event
from headrace.server.http.sockets import Doorkeeper, Handler, connection_of
from headrace.server.operations.arguments import BodyReader
from headrace.server.operations.events import record_events
from headrace.server.store.caller import Caller
from headrace.server.store.transaction import Store
from headrace.settings import Settings

logger = logging.getLogger("headrace.server.events")

TOGETHER = 500
"""Events in one commit."""


def events_in(store: Store, doorkeeper: Doorkeeper, settings: Settings) -> Handler:
    """Make the handler of the socket."""
    reader = BodyReader(Event, settings.server.limits.json_depth)

    async def talk(socket: WebSocket, _: Caller) -> None:
        going_on = True
        while going_on:
            events, pings, going_on = await _next_ones(socket, reader)
            if events:
                refused = await store.write_soon(lambda tx, events=events: record_events(tx, events))  # type: ignore[misc]
                if refused:
                    logger.warning("%d events were refused. The first: %s", len(refused), refused[0].reason)
            for ping in pings:
                connection_of(socket).pong(ping)

    return doorkeeper.handler(talk, "events:write", frame=settings.server.events.maximum_size_bytes)


async def _next_ones(socket: WebSocket, reader: BodyReader) -> tuple[list[Event], list[bytes], bool]:
    """The events that have come, the pings after them, and whether more may come."""
    events: list[Event] = []
    pings: list[bytes] = []
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return events, pings, False
        if "ping" in message:
            pings.append(message["ping"])
        else:
            try:
                events.append(reader.read(message["text"].encode()))
            except (ValidationFailed, KeyError) as error:
                logger.warning("A frame on /events/in is no event, its connection is closed: %s", error)
                connection_of(socket).drop()
                return events, [], False
        if len(events) + len(pings) >= TOGETHER or not connection_of(socket).has_more:
            return events, pings, True
