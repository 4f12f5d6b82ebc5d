"""The client's side of a websocket, frame by frame."""

import asyncio
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

AUTH = '{"type": "auth", "token": null}'


async def opened(url: str, first: str = AUTH, **options: Any) -> ClientConnection:
    """A connection on which the first frame was sent."""
    connection = await connect(url.replace("http", "ws", 1), **{"subprotocols": ["prefect"], **options})
    await connection.send(first)
    return connection


async def entered(url: str, *frames: Any, **options: Any) -> ClientConnection:
    """A connection that is logged in, and on which these frames were sent."""
    connection = await opened(url, **options)
    assert await heard(connection) == {"type": "auth_success"}
    for frame in frames:
        await say(connection, frame)
    return connection


async def say(connection: ClientConnection, frame: Any) -> None:
    """Send a frame as JSON."""
    await connection.send(msgspec.json.encode(frame).decode())


async def heard(connection: ClientConnection, seconds: float = 30) -> Any:
    """The next frame."""
    return msgspec.json.decode(await asyncio.wait_for(connection.recv(), seconds))


async def close_code(connection: ClientConnection) -> int:
    """The code with which the server closes; 1006 when it goes without a word."""
    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(connection.recv(), 30)
    return 1006 if caught.value.rcvd is None else caught.value.rcvd.code
