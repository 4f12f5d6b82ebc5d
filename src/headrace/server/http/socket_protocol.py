"""Uvicorn's websockets with what the server needs beyond ASGI: bounds, and receipts.

A client of `/events/in` takes the pong to its ping as the receipt for all it sent before (G1). The websocket library
answers each ping as soon as it has read it. Here a ping that comes after a first message is not answered but handed to
the application, in line with the messages (`{"type": "websocket.receive", "ping": ...}`), which answers it with `pong`
when they are stored. Pings before the first message, and those of all other sockets, are answered at once.

Uvicorn stops reading while a message waits to be taken, so what waits in memory is what one read of the connection
held.  # G14
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

EXTENSION = "headrace.socket"
"""Where in the extensions of a websocket's scope its `SocketProtocol` stands."""
RECEIPTS = "/events/in"
"""How the path of the socket ends whose pongs are receipts."""


class _Frames(ServerProtocol):
    """The library's protocol, which can keep the answer to a ping back."""

    keeps_pongs = False
    _has_heard = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.unanswered: deque[bytes] = deque()

    def recv_frame(self, frame: Frame) -> None:
        """Take in a frame."""
        if frame.opcode is Opcode.PING and self.keeps_pongs and self._has_heard:
            self.unanswered.append(bytes(frame.data))
            self.events.append(frame)
            return
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._has_heard = True
        super().recv_frame(frame)


class SocketProtocol(WebSocketsSansIOProtocol):
    """One websocket; the application finds it in its scope, see `EXTENSION`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn: _Frames = _Frames(max_size=self.config.ws_max_size, logger=self.logger)

    def handle_connect(self, event: Request) -> None:
        """A client wants to open the socket."""
        super().handle_connect(event)
        if hasattr(self, "scope"):  # else the upgrade was refused already
            self.conn.keeps_pongs = self.scope["path"].endswith(RECEIPTS)
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = self

    def send_receive_event_to_app(self) -> None:
        """A message was read. Uvicorn would log a traceback for text that is none, which anybody may send.  # S4"""
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_text(self.frames):
            self.frames = []
            self.conn.send_close(CloseCode.INVALID_DATA)
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """A ping was read, and answered by the library unless it is kept."""
        if self.conn.unanswered:
            kept: Any = {"type": "websocket.receive", "ping": self.conn.unanswered.popleft()}
            self.queue.put_nowait(kept)
            if not self.read_paused:
                self.read_paused = True
                self.transport.pause_reading()
        elif self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # who sends pings and reads no answers gets none: they would pile up  # G14

    def pong(self, data: bytes) -> None:
        """Answer a ping that was handed to the application."""
        if self.close_sent or self.transport.is_closing():
            return
        try:
            self.conn.send_pong(data)
        except InvalidState:  # it is being closed
            return
        self.transport.write(b"".join(self.conn.data_to_send()))

    @property
    def has_more(self) -> bool:
        """Whether a message waits that can be received at once."""
        return not self.queue.empty()

    def limit(self, size: int) -> None:
        """Have longer messages close the socket from now on."""
        self.conn.max_message_size = size

    def drop(self) -> None:
        """End the connection without a word, which the client takes as a failure (1006)."""
        self.transport.abort()


def _is_text(pieces: Iterable[bytes]) -> bool:
    try:
        b"".join(pieces).decode()
    except UnicodeDecodeError:
        return False
    return True
