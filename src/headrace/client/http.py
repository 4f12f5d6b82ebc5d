"""The API over HTTP: connections that stay open, and patience with a server that is busy or restarts.

Tried again, with full jitter, are calls that met no server, whose connection broke, or that were answered with 408,
429, 502 or 503; `Retry-After` is honoured. A call whose answer was lost may have been carried out, so the second
one may find its work done: what must not be done twice carries an id or an idempotency key.
"""

import os
import random
import threading
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from types import NoneType
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import urllib3

from headrace._internal.version import version
from headrace.client.client import Client
from headrace.client.errors import error_of
from headrace.exceptions import ApiError, ApiUnreachable
from headrace.schemas.endpoint import WIRE_NAMES, Endpoint
from headrace.settings import Secret, Settings

ResultT = TypeVar("ResultT")
API_VERSION = "0.8.4"
CONNECT_SECONDS = 5.0
CONNECTIONS = 16
FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0
"""Seconds: the most that the first wait between two tries may last, and the most that any may."""
TRY_AGAIN = frozenset({408, 429, 502, 503})
_ENCODER = msgspec.json.Encoder()


class _Shape:
    """An endpoint as this client needs it: the parts of its path, and what decodes its answer."""

    __slots__ = ("decoder", "names", "parts")

    def __init__(self, endpoint: Endpoint[Any]) -> None:
        pieces = endpoint.path.replace("}", "{").split("{")
        self.parts, self.names = pieces[::2], pieces[1::2]
        self.decoder = None if endpoint.returns is NoneType else msgspec.json.Decoder(endpoint.returns)


_shapes: dict[Endpoint[Any], _Shape] = {}


class HttpClient(Client):
    """Calls a server.

    Args:
        url: of its API, up to and with `/api`.
        settings: login, certificates, time-outs, retries.
        pause: waits so many seconds between two tries, and says whether to give up; until `close` when absent.
    """

    local = False

    def __init__(self, url: str, settings: Settings, pause: Callable[[float], bool] | None = None) -> None:
        self.url = url.rstrip("/")
        self._root = urlsplit(self.url).path
        self._settings = settings
        self._headers = _headers(settings)
        self._retries = settings.client.max_retries
        self._try_again = TRY_AGAIN | set(settings.client.retry_extra_codes)
        self._closed = threading.Event()
        self._pause = self._closed.wait if pause is None else pause
        self._pool = self._connect()

    def _connect(self) -> urllib3.HTTPConnectionPool:
        self._process = os.getpid()
        api = self._settings.api
        options: dict[str, Any] = {}
        if self.url.startswith("https:"):
            options = {
                "cert_reqs": "CERT_NONE" if api.tls_insecure_skip_verify else "CERT_REQUIRED",
                "ca_certs": api.ssl_cert_file,
            }
        wait = urllib3.Timeout(connect=min(CONNECT_SECONDS, api.request_timeout), read=api.request_timeout)
        return urllib3.connection_from_url(self.url, maxsize=CONNECTIONS, timeout=wait, retries=False, **options)

    def call(self, endpoint: Endpoint[ResultT], *, body: Any = None, wait: float = 0, **arguments: Any) -> ResultT:
        """See `Client.call`."""
        shape = _shapes.get(endpoint) or _shapes.setdefault(endpoint, _Shape(endpoint))
        target = self._target(shape, arguments)
        raw = b"" if body is None else _ENCODER.encode(body)
        headers = self._headers
        if wait and endpoint.waits:  # the answer must come before we give up on it
            headers = headers | {"prefer": f"wait={min(wait, self._settings.api.request_timeout / 2):.0f}"}
        answer = self._ask(endpoint.method, target, raw, headers)
        if shape.decoder is None or not answer.data:
            return None  # type: ignore[return-value]  # what NoneType says
        if endpoint.returns is Any and "json" not in answer.headers.get("content-type", "json"):
            return answer.data  # type: ignore[return-value]  # a file: its bytes as they are
        result: ResultT = shape.decoder.decode(answer.data)
        return result

    def _target(self, shape: _Shape, arguments: dict[str, Any]) -> str:
        path = [self._root, shape.parts[0]]
        for name, part in zip(shape.names, shape.parts[1:], strict=True):
            if arguments.get(name) is None:
                raise TypeError(f"A call of {'{}'.join(shape.parts)} needs the argument {name!r}.")
            path += (quote(_text(arguments.pop(name)), safe=""), part)
        query = {WIRE_NAMES.get(name, name): _text(value) for name, value in arguments.items() if value is not None}
        return "".join(path) + ("?" + urlencode(query) if query else "")

    def _ask(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Send one call, again if need be, and return the answer of success."""
        if self._process != os.getpid():  # after a fork: the connections are the parent's
            self._pool = self._connect()
        for attempt in range(self._retries + 1):
            error: ApiError
            wait = random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**attempt))
            try:
                answer = self._pool.urlopen(method, target, body=body, headers=headers, redirect=False)
            except urllib3.exceptions.HTTPError as cause:
                error = self._unreachable(cause)
            else:
                if answer.status < 300:
                    return answer
                asked = _seconds(answer.headers.get("retry-after"))
                error = error_of(answer.status, answer.data, asked)
                if answer.status not in self._try_again:
                    raise error
                wait += asked
            if attempt == self._retries or self._pause(wait):
                raise error
        raise AssertionError("unreachable")

    def _unreachable(self, cause: Exception) -> ApiUnreachable:
        reason = "connection refused" if isinstance(cause, urllib3.exceptions.NewConnectionError) else _reason(cause)
        error = ApiUnreachable(
            f"The API at {self.url} did not answer ({reason}). Check that its server runs "
            "(`headrace server start`), or set HEADRACE_API_URL to where it is."
        )
        error.__cause__ = cause
        return error

    def close(self) -> None:
        """Close the connections; calls that wait for their next try give up."""
        self._closed.set()
        if self._process == os.getpid():
            self._pool.close()


RUN_KEY = "HEADRACE__RUN_KEY"
"""The variable in which a worker gives the process of a run the login that is the run's own.  # S5"""


def _headers(settings: Settings) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "accept": "application/json",
        "user-agent": f"headrace/{version()}",
        "x-prefect-api-version": API_VERSION,
    }
    if run_key := os.environ.get(RUN_KEY):
        secret = Secret(run_key)  # known as one from here on, so that no log shows it  # S12
        headers["authorization"] = "Bearer " + secret.get_secret_value()
    elif settings.api.auth_string:
        login = settings.api.auth_string.get_secret_value().encode()
        headers["authorization"] = "Basic " + b64encode(login).decode()
    elif settings.api.key:
        headers["authorization"] = "Bearer " + settings.api.key.get_secret_value()
    return headers | {name.lower(): value for name, value in settings.client.custom_headers.items()}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _seconds(header: str | None) -> float:
    """Seconds in a Retry-After header; a date there is taken for one second."""
    if header is None:
        return 0.0
    try:
        return min(max(float(header), 0.0), 300.0)
    except ValueError:
        return 1.0


def _reason(cause: Exception) -> str:
    return "no answer in time" if isinstance(cause, urllib3.exceptions.TimeoutError) else type(cause).__name__
