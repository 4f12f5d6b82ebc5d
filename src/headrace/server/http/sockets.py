"""Opening a websocket: subprotocol `prefect`, then a frame with the login, answered before anything else is said.

    client  {"type": "auth", "token": "user:password" or null}
    server  {"type": "auth_success"}

A socket that has not logged in costs memory and is owed nothing: there may be few of them, and not for long.  # S4
Old clients know no subprotocol; where no login is asked for, most sockets are open to them without a word.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from headrace.server.http.auth import Authenticator
from headrace.server.http.denials import NOBODY_KNOWN, Denials
from headrace.server.http.guard import address_of
from headrace.server.http.socket_protocol import EXTENSION, SocketProtocol
from headrace.server.store.caller import ANYONE, Caller
from headrace.settings import Settings

SUBPROTOCOL = "prefect"
SOCKETS = 1_000
"""Websockets that may be open at once: they leave room for calls.  # G14"""
FIRST_FRAME = 8 << 10
"""Most bytes of the frame with the login."""
FRAME = 64 << 10
"""Most bytes of other frames, unless a socket says otherwise."""
SEND_SECONDS = 10.0
"""How long a client may take to accept a frame."""
NORMAL, UNREADABLE, REFUSED, TROUBLE, COME_AGAIN = 1000, 1002, 1008, 1011, 1013
UNKNOWN, NOT_ALLOWED = "authentication_failed", "authorization_failed"
"""Why a socket is `REFUSED`: nobody known, or somebody who may not."""
_FRAMES = msgspec.json.Decoder(dict[str, Any])

Handler = Callable[[WebSocket], Awaitable[None]]
Talk = Callable[[WebSocket, Caller], Awaitable[None]]


class Closing(Exception):
    """What a socket is closed with, see `Doorkeeper.handler`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class Doorkeeper:
    """Lets websockets in.

    Args:
        settings: how many may wait to log in, for how long.
        authenticator: knows logins.
        denials: takes note of sockets that are denied.
    """

    def __init__(self, settings: Settings, authenticator: Authenticator, denials: Denials) -> None:
        self._authenticator = authenticator
        self._denials = denials
        self._room = settings.server.limits.unauthenticated_sockets
        self._seconds = settings.server.limits.authenticate_seconds
        self._open = 0

    def handler(self, talk: Talk, access: str, *, old_clients: bool = True, frame: int = FRAME) -> Handler:
        """Make the handler of a socket.

        Args:
            talk: what is said once the client is in. The socket is closed when it returns, or raises `Closing`, when
                the client leaves, and when its login is revoked.  # S4
            access: the permission it takes, as operations name it.
            old_clients: whether clients without the subprotocol may come in, where no login is asked for.
            frame: most bytes a frame may have.
        """

        async def handle(socket: WebSocket) -> None:
            if self._open >= SOCKETS:
                return await busy(socket)
            self._open += 1
            try:
                caller = await self.admit(socket, access, old_clients=old_clients, frame=frame)
                if caller is not None:
                    await self._converse(socket, caller, talk(socket, caller))
            finally:
                self._open -= 1

        return handle

    async def _converse(self, socket: WebSocket, caller: Caller, talk: Awaitable[None]) -> None:
        revoked = asyncio.ensure_future(self._authenticator.until_revoked(socket.state.token, address_of(socket.scope)))
        talking = asyncio.ensure_future(talk)
        try:
            await asyncio.wait((talking, revoked), return_when=asyncio.FIRST_COMPLETED)
            if not talking.done():
                return await close(socket, REFUSED, UNKNOWN)
            await talking
            await close(socket, NORMAL, "")
        except Closing as end:
            if end.reason == NOT_ALLOWED:
                self._note_denial(socket, caller.full_name)
            await close(socket, end.code, end.reason)
        except (WebSocketDisconnect, TimeoutError):  # it left, or does not read what it is sent
            await close(socket, TROUBLE, "too slow")
        except Exception:
            await close(socket, TROUBLE, "transient_server_error")
            raise
        finally:
            for task in (talking, revoked):
                task.cancel()
            await asyncio.gather(talking, revoked, return_exceptions=True)

    async def admit(
        self, socket: WebSocket, access: str, *, old_clients: bool = True, frame: int = FRAME
    ) -> Caller | None:
        """Accept a socket and have it log in.

        Args:
            socket: which.
            access: the permission it takes.
            old_clients: see `handler`.
            frame: see `handler`.

        Returns:
            Who it is; None when it was turned away, and closed.
        """
        socket.state.token = None
        if SUBPROTOCOL not in socket.scope["subprotocols"]:
            if not (old_clients and self._authenticator.is_open):
                self._note_denial(socket, NOBODY_KNOWN)
                await turn_away(socket)
                return None
            limit(socket, frame)
            await socket.accept()
            return ANYONE
        if self._room <= 0:
            await busy(socket)
            return None
        limit(socket, FIRST_FRAME)
        self._room -= 1
        try:
            async with asyncio.timeout(self._seconds):
                await socket.accept(subprotocol=SUBPROTOCOL)
                caller = await self._caller_of(socket, await socket.receive_text())
            if caller is None:
                self._note_denial(socket, NOBODY_KNOWN)
                await close(socket, REFUSED, UNKNOWN)
            elif not caller.may(access) or caller.flow_run_id is not None:  # S5: no socket is about one run alone
                self._note_denial(socket, caller.full_name)
                await close(socket, REFUSED, NOT_ALLOWED)
            else:
                limit(socket, frame)
                await send(socket, {"type": "auth_success"})
                return caller
            return None
        except TimeoutError:
            await close(socket, REFUSED, "no login in time")
            return None
        except (WebSocketDisconnect, KeyError):  # it left, or sent bytes where text belongs
            await close(socket, REFUSED, "protocol_error")
            return None
        finally:
            self._room += 1

    def _note_denial(self, socket: WebSocket, actor: str) -> None:
        self._denials.note(actor, "open_websocket", address_of(socket.scope))  # S18

    async def _caller_of(self, socket: WebSocket, frame: str) -> Caller | None:
        try:
            said = _FRAMES.decode(frame)
        except (msgspec.DecodeError, RecursionError):
            return None
        if said.get("type") != "auth":
            return None
        token = said.get("token")
        socket.state.token = token if isinstance(token, str) else None
        return await self._authenticator.knows(socket.state.token, address_of(socket.scope))


def connection_of(socket: WebSocket) -> SocketProtocol:
    """What carries a websocket: for receipts and bounds, of which ASGI knows nothing."""
    connection: SocketProtocol = socket.scope["extensions"][EXTENSION]
    return connection


def limit(socket: WebSocket, size: int) -> None:
    """Have longer frames close the socket from now on."""
    connection_of(socket).limit(size)


async def turn_away(socket: WebSocket) -> None:
    """Refuse the upgrade: the client sees HTTP 403."""
    await socket.close(REFUSED)


async def busy(socket: WebSocket) -> None:
    """Refuse the upgrade for the moment: HTTP 503. A 403 would keep workers away for good.  # G14"""
    await socket.send_denial_response(Response(status_code=503, headers={"Retry-After": "1"}))


async def close(socket: WebSocket, code: int, reason: str) -> None:
    """Close a socket, if that is still possible."""
    if WebSocketState.DISCONNECTED in (socket.application_state, socket.client_state):
        return
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the other side was quicker
        await socket.close(code, reason)


async def send(socket: WebSocket, frame: dict[str, Any] | msgspec.Struct | bytes) -> None:
    """Send a frame.

    Args:
        socket: to whom.
        frame: what, or its JSON.

    Raises:
        TimeoutError: the client does not read.
        WebSocketDisconnect: it is gone.
    """
    said = frame if isinstance(frame, bytes) else msgspec.json.encode(frame)
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await socket.send_text(said.decode())
    except RuntimeError:
        if not connection_of(socket).close_sent:
            raise
        raise WebSocketDisconnect(UNREADABLE) from None  # what came after the last frame was no websocket


async def heard(socket: WebSocket) -> bytes:
    """The next frame a client sends, text or not.

    Raises:
        WebSocketDisconnect: it is gone.
    """
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or NORMAL)
    text = message.get("text")
    frame: bytes = message.get("bytes", b"") if text is None else text.encode()
    return frame


async def until_gone(socket: WebSocket) -> None:
    """Wait until the client leaves; what it says meanwhile is not heard."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await heard(socket)


async def until_first(*awaitables: Awaitable[Any]) -> None:
    """Run until one of them is done, cancel the others, and raise what the first raised."""
    running = [asyncio.ensure_future(one) for one in awaitables]
    try:
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
