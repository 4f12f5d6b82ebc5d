"""From an HTTP answer to the exception the same call raises in local mode."""

import re
from typing import Any

import msgspec

from headrace.exceptions import (
    ApiError,
    ApiUnreachable,
    Forbidden,
    ObjectAlreadyExists,
    ObjectNotFound,
    RateLimited,
    Unauthorized,
    ValidationFailed,
)

_MISSING = re.compile(r"^(?P<kind>.+?) (?:'(?P<key>.*)' )?not found$", re.DOTALL)


def error_of(status: int, body: bytes, retry_after: float) -> ApiError:
    """The exception that stands for an answer.

    Args:
        status: HTTP status, 300 or above.
        body: of the answer.
        retry_after: seconds the answer asks to wait.
    """
    said = _decoded(body)
    message = str(said.get("detail") or said.get("exception_message") or f"The API answered with status {status}.")
    if status == 404:
        return _not_found(message)
    if status == 422:
        return _invalid(message, said.get("exception_detail"))
    if status in (423, 429):
        limited = RateLimited(message, retry_after)
        limited.status = status
        return limited
    if status == 401:
        return Unauthorized("The API asks for a login. Set HEADRACE_API_AUTH_STRING or HEADRACE_API_KEY.")
    plain = {403: Forbidden, 409: ObjectAlreadyExists, 408: ApiUnreachable, 502: ApiUnreachable, 503: ApiUnreachable}
    error = plain.get(status, ApiError)(f"{message} (error id {said['error_id']})" if "error_id" in said else message)
    error.status = status
    return error


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):  # the answer of something else: a proxy's page
        return {}
    return said if isinstance(said, dict) else {}


def _not_found(message: str) -> ObjectNotFound:
    found = _MISSING.match(message)
    error = ObjectNotFound(found["kind"], found["key"]) if found else ObjectNotFound()
    error.args = (message,)  # as the server put it
    return error


def _invalid(message: str, details: Any) -> ValidationFailed:
    if not isinstance(details, list):
        return ValidationFailed(message)
    told = "; ".join(f"{'.'.join(map(str, one.get('loc', ())))}: {one.get('msg')}" for one in details)
    return ValidationFailed(f"{message} {told}", details)
