"""Reading a request's body: its size is checked while it comes in, and again while it is unpacked.  # S6"""

import asyncio
import zlib
from contextlib import suppress

from starlette.types import Receive, Scope

from headrace.server.http.answers import BUSY, Answer, told, too_large

SECONDS = 30.0
"""How long a body may take to come in."""
LINGER, LINGER_SECONDS = 4, 2.0
"""Of a body that is too large, so many times the limit is still read, for so long, before the connection closes."""
MOST_HELD = 256 << 20
"""Bytes of large bodies that may be in memory while they come in, and as many while they are worked on.  # G14"""
_GZIP = 16 + zlib.MAX_WBITS


class Refused(Exception):
    """The body is not taken; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Gone(Exception):
    """The client went away before its body was complete."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Read the whole body.

    Args:
        scope: of the request.
        receive: gives its pieces.
        limit: most bytes it may have, packed as well as unpacked.

    Raises:
        Refused: it is too large, too slow, or packed in a way that is not understood.
        Gone: the client went away.
    """
    packing = b""
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value) > limit):
            await _let_pass(receive, limit)
            raise Refused(too_large(limit) if value.isdigit() else told(400, "Content-Length is not a number."))
        if name == b"content-encoding":
            packing = value.lower()
    message = await receive()
    if message["type"] != "http.request":
        raise Gone
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        body = await _read_on(body, receive, limit)
    elif len(body) > limit:
        raise Refused(too_large(limit))
    return unpack(body, packing, limit) if packing and packing != b"identity" else body


class _Coming:
    """How many bytes of bodies that are not complete are in memory."""

    bytes = 0


async def _read_on(first: bytes, receive: Receive, limit: int) -> bytes:
    pieces, size = [first], len(first)
    _Coming.bytes += size
    try:
        async with asyncio.timeout(SECONDS):
            while size <= limit:
                if _Coming.bytes > MOST_HELD:
                    raise Refused(BUSY)
                message = await receive()
                if message["type"] != "http.request":
                    raise Gone
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                _Coming.bytes += len(pieces[-1])
                if not message.get("more_body", False) and size <= limit:
                    return b"".join(pieces)
    except TimeoutError:
        raise Refused(told(408, f"The body did not come in within {SECONDS:.0f} seconds.")) from None
    finally:
        _Coming.bytes -= size
    await _let_pass(receive, limit)
    raise Refused(too_large(limit))


async def _let_pass(receive: Receive, limit: int) -> None:
    """Read on for a moment without keeping anything.

    A client that is still sending when its connection is closed may never see why it was refused.
    """
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while size <= LINGER * limit:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def unpack(body: bytes, packing: bytes, limit: int) -> bytes:
    """Undo `Content-Encoding: gzip`, never making more than `limit` bytes of it.

    Raises:
        Refused: it is another encoding, broken, or too large.
    """
    if packing not in (b"gzip", b"x-gzip"):
        raise Refused(told(415, "This Content-Encoding is not understood. Send the body plain or as gzip."))
    unpacker = zlib.decompressobj(_GZIP)
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise Refused(told(400, "The body is not valid gzip.")) from None
    if len(plain) > limit:
        raise Refused(too_large(limit))
    if not unpacker.eof or unpacker.unused_data:
        raise Refused(told(400, "The body is not valid gzip."))
    return plain
