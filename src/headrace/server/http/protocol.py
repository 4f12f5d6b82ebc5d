"""Uvicorn's protocol with bounds for what a connection may cost before its request is known, and fewer writes.  # G14

The head of a request (its first line and headers) has a size and a time; a connection that says nothing at all has the
same time. What comes after the head is bounded in `bodies`, and idle connections by uvicorn's keep-alive.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10
HEAD_SECONDS = 20.0
CONNECTIONS = 4_000
"""Connections that may be open at once; further ones are closed at once."""


class JoinedWrites:
    """A transport that sends what is written in one turn of the event loop together.

    Uvicorn writes the head of an answer and its body one after the other, which would be two system calls here and two
    wake-ups of the client.

    Args:
        transport: what writes in the end, and does everything else.
        loop: its event loop.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Have `data` sent at the end of this turn."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Send what was written, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol on httptools, with bounds."""

    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(JoinedWrites(transport, self.loop))  # type: ignore[arg-type]
        if len(self.connections) > CONNECTIONS:
            transport.abort()
            return
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Read on; when that does not complete the head, count and time it."""
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self.send_400_response("The head of the request is too large.")
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._in_head = False
        self._forget_deadline()
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand over to the websocket, which says nothing, for ever, to a head it cannot read."""
        super().handle_websocket_upgrade()
        if not getattr(self.transport.get_protocol(), "handshake_initiated", True):
            self.send_400_response("This is no opening of a websocket.")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._forget_deadline()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
