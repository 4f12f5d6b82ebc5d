"""Hearing from the server at once: a websocket that comes back by itself.

What is heard are hints (see `headrace.server.http.worker_hints`): whoever subscribes asks by HTTP every few seconds as
well, so a time without a connection costs time and nothing else.  # G17
"""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from headrace.client.connect import current_url
from headrace.exceptions import ApiError, Forbidden, Unauthorized
from headrace.settings import Settings, get_settings

FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0
"""Seconds: the most that the first wait before a new connection may last, and the most that any may."""
OPEN_SECONDS = 10.0
LARGEST_FRAME = 1 << 20
_REFUSED = frozenset({401, 403, 404, 405})
_LOGIN_REFUSED = 1008
_REFUSAL = "The server did not accept the login. Set HEADRACE_API_AUTH_STRING or HEADRACE_API_KEY."
_FRAMES = msgspec.json.Decoder(dict[str, Any])


async def work_pool_hints(name: str) -> AsyncIterator[dict[str, Any]]:
    """Hear what a work pool has for its workers, until the iterator is closed.

    After each connection, the first and every new one, the server sends `{"type": "runs"}`: something may have
    happened meanwhile. A server that cannot be reached is tried again, with full jitter.

    Args:
        name: of the work pool.

    Yields:
        `{"type": "runs"}`, or `{"type": "cancel", "flow_run_id": ...}`.

    Raises:
        Forbidden: the server knows no such websocket (it is not headrace's): keep asking by HTTP.
        Unauthorized: it did not accept the login.
        ApiError: no server is running (local mode).
    """
    attempt = 0
    while True:
        with suppress(OSError, TimeoutError, InvalidHandshake, ConnectionClosed):
            async with _connected(f"/work_pools/{quote(name, safe='')}/runs") as connection:
                async for frame in connection:
                    attempt = 0
                    yield _FRAMES.decode(frame)
        await asyncio.sleep(random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempt, 10))))
        attempt += 1


class _connected:
    """A connection that is open and logged in."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def __aenter__(self) -> ClientConnection:
        settings = get_settings()
        url = current_url()
        if url is None:
            raise ApiError("No server is running, so there is nobody to hear from: this is local mode.")
        try:
            self._connection = await connect(
                url.replace("http", "ws", 1).rstrip("/") + self._path,
                subprotocols=[Subprotocol("prefect")],
                open_timeout=OPEN_SECONDS,
                max_size=LARGEST_FRAME,
                proxy=None,
                ssl=_ssl(url, settings),
            )
        except InvalidStatus as refusal:
            if refusal.response.status_code in _REFUSED:
                raise Forbidden(f"The server at {url} has no websocket for hints to workers.") from None
            raise
        try:
            await self._log_in(settings)
        except BaseException:
            await self._connection.close()
            raise
        return self._connection

    async def _log_in(self, settings: Settings) -> None:
        secret = settings.api.auth_string or settings.api.key
        token = secret.get_secret_value() if secret else None
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self._connection.send(msgspec.json.encode({"type": "auth", "token": token}).decode())
                answer = _FRAMES.decode(await self._connection.recv())
        except ConnectionClosed as end:
            if end.rcvd is not None and end.rcvd.code == _LOGIN_REFUSED:
                raise Unauthorized(_REFUSAL) from None
            raise
        if answer.get("type") != "auth_success":
            raise Unauthorized(_REFUSAL)

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


def _ssl(url: str, settings: Settings) -> ssl.SSLContext | None:
    if not url.startswith("https:"):
        return None
    context = ssl.create_default_context(cafile=settings.api.ssl_cert_file)
    if settings.api.tls_insecure_skip_verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
