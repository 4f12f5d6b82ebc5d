"""Answers of the API, and the shapes its errors have.

`{"detail": ...}` for what an operation refuses; `{"exception_message", "exception_detail", "request_body"}` for a
call that could not be read; `{"exception_message": ...}` for 401, 5xx and the like. A 5xx names an id under which the
server's log tells the rest, and nothing else.  # S16
"""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
from starlette.types import Send

from headrace.exceptions import ApiError, RateLimited, Unauthorized, ValidationFailed
from headrace.server.operations.arguments import INVALID
from headrace.server.operations.refusals import refusal_of
from headrace.server.operations.registry import Raw
from headrace.server.store.errors import StoreUnavailable

logger = logging.getLogger("headrace.server")

Header = tuple[bytes, bytes]
ENCODER = msgspec.json.Encoder()
_JSON: Header = (b"content-type", b"application/json")
_NOSNIFF: Header = (b"x-content-type-options", b"nosniff")


class Answer(NamedTuple):
    """What goes back to a caller: status, encoded body, and headers beyond its type and length."""

    status: int
    body: bytes = b""
    headers: Sequence[Header] = ()

    async def send(self, send: Send) -> None:
        """Send it over ASGI."""
        headers: list[Header] = [(b"content-length", b"%d" % len(self.body)), _NOSNIFF, *self.headers]
        if self.body and not any(name == b"content-type" for name, _ in self.headers):
            headers.append(_JSON)
        elif self.status == 204:
            headers[:1] = ()  # RFC 9110: a 204 has no length
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def raw(status: int, result: Raw) -> Answer:
    """A result that is no JSON."""
    more = [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in result.headers.items()
    ]
    return Answer(status, result.content, [(b"content-type", result.media_type.encode()), *more])


def told(status: int, message: str, *headers: Header) -> Answer:
    """A refusal of a route: `{"detail": message}`."""
    return Answer(status, ENCODER.encode({"detail": message}), headers)


def excepted(status: int, message: str, *headers: Header, **more: Any) -> Answer:
    """A refusal of the server as a whole: `{"exception_message": message}`."""
    return Answer(status, ENCODER.encode({"exception_message": message, **more}), headers)


def retry_after(seconds: float) -> Header:
    """The header that tells a client how long to wait, in whole seconds, at least one."""
    return b"retry-after", b"%d" % max(1, round(seconds))


DENIED = frozenset({401, 403})
NOT_FOUND = told(404, "Not Found")
UNAUTHORIZED = excepted(401, "Unauthorized")
BUSY = excepted(503, "The server has too much to do. Try again in a second.", retry_after(1))


def too_large(limit: int) -> Answer:
    """A body beyond `limit` bytes; the connection is closed, for the rest of it was not read."""
    return told(413, f"The body is larger than {limit} bytes. Send less at a time.", (b"connection", b"close"))


def answer_to(error: Exception, call: str) -> Answer:
    """The answer that stands for an error.

    Args:
        error: what was raised.
        call: method and path, for the log.
    """
    error = refusal_of(error)
    if isinstance(error, ValidationFailed) and error.details is not None:
        # the body is not sent back as Prefect does: it may hold secrets, and this text ends up in logs  # S12, S16
        return excepted(422, INVALID, exception_detail=error.details, request_body=None)
    if isinstance(error, RateLimited):
        exact = (b"retry-after", b"%.3f" % error.retry_after)  # slots are given up in less than a second, too
        return told(error.status, str(error), exact if error.status == 423 else retry_after(error.retry_after))
    if isinstance(error, Unauthorized):
        return UNAUTHORIZED
    if isinstance(error, ApiError) and error.status < 500:
        return told(error.status, str(error))
    if isinstance(error, ApiError) and error.status == 503:
        logger.warning("%s could not be served: %s", call, error)
        # what a database says of itself is for the log alone
        message = "The server cannot serve this at the moment. Try again."
        return excepted(503, message if isinstance(error, StoreUnavailable) else str(error), retry_after(1))
    error_id = uuid4().hex
    logger.error("%s failed (error id %s).", call, error_id, exc_info=error)
    return excepted(500, "Internal Server Error", error_id=error_id)
