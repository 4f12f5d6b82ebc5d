"""The API over HTTP: reads a call, runs its operation in a transaction, sends the answer.

The answer is encoded inside the transaction, so that a result that cannot be encoded rolls back what was done, and
what was acknowledged is stored.  # G1, G13
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from headrace.exceptions import RateLimited
from headrace.schemas.admin import HEALTH_CHECK, PERFORM_READINESS_CHECK
from headrace.schemas.endpoint import WIRE_NAMES
from headrace.server.http.answers import BUSY, DENIED, ENCODER, NOT_FOUND, Answer, answer_to, excepted, raw, told
from headrace.server.http.bodies import MOST_HELD, Gone, Refused, read_body
from headrace.server.http.denials import Denials
from headrace.server.http.guard import CALLER, SAFE, address_of
from headrace.server.http.long_poll import SMALL, LongPoll, preferred_wait
from headrace.server.http.rate_limits import RateLimit
from headrace.server.http.read_lane import ReadLane
from headrace.server.http.routes import Found, Route, Routes
from headrace.server.operations.arguments import detail, invalid, read_text
from headrace.server.operations.auditing import carry_out, leaves_row
from headrace.server.operations.csrf import check_csrf_token
from headrace.server.operations.pool_scope import keep_within
from headrace.server.operations.registry import Existing, Operation, Raw, Refusal
from headrace.server.operations.run_scope import keep_within_run
from headrace.server.store.caller import Caller
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Settings

ROOT = "/api"
BULK = frozenset({"logs", "records", "artifacts", "events"})
"""First segments of the paths whose bodies may be larger."""
IN_FLIGHT = 1_000
"""Calls that may be under way at once; more are told to come again.  # G14"""
LARGE = 128 << 10
"""Bodies with more bytes than this are read beside the event loop.  # S7"""
LOWEST_API_VERSION = (0, 8, 0)
NOBODY = Caller("A caller without a login", frozenset())
_HEALTHY = Answer(200, b"true")

Problems = Callable[[], list[str]]


class Api:
    """The ASGI application below `/api`.

    Args:
        store: the database.
        settings: of the server.
        operations: what to serve.
        problems: tells what keeps the server from being ready; empty when nothing does.  # G15
        denials: takes note of calls that are denied.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        operations: Mapping[Any, Operation],
        problems: Problems,
        denials: Denials,
    ) -> None:
        self._store = store
        self._reads = ReadLane(store)
        self._limits = settings.server.limits
        self._problems = problems
        self._denials = denials
        self._long_poll = LongPoll(store, self._aside)
        self._in_flight = 0
        self._bytes = 0
        self._csrf = settings.server.api.csrf_protection_enabled
        self._bulk_calls = RateLimit(self._limits.bulk_calls_per_minute)
        self.routes = Routes(operations, self._limits.json_depth)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        path = raw_path(scope)
        try:
            answer = await self._answer(scope, receive, path[len(ROOT) :])
        except Refused as refusal:
            answer = refusal.answer
        except Gone:
            return
        except Exception as error:  # noqa: BLE001  whatever it is, the caller gets an answer and the log the rest
            answer = answer_to(error, f"{scope['method']} {path}")
        if answer.status in DENIED:
            self._note_denial(scope, path[len(ROOT) :])
        await answer.send(send)

    def _note_denial(self, scope: Scope, path: str) -> None:
        route = self.routes.find(scope["method"], path).route
        caller: Caller = scope.get(CALLER, NOBODY)
        self._denials.note(caller.full_name, route.operation.name if route else "unknown", address_of(scope))  # S18

    async def _answer(self, scope: Scope, receive: Receive, path: str) -> Answer:
        method = scope["method"]
        found = self.routes.find(method, path)
        route = found.route
        if route is None:
            return self._astray(scope, path, found)
        operation = route.operation
        if operation.endpoint is HEALTH_CHECK:  # its own lane: neither queue nor database  # G14
            return _HEALTHY
        caller: Caller = scope.get(CALLER, NOBODY)
        caller.require(operation.access)  # S1
        if refusal := wrong_version(scope):
            return refusal
        if operation.endpoint is PERFORM_READINESS_CHECK and (problems := self._problems()):
            return excepted(503, "Not ready: " + "; ".join(problems))  # G15
        if route.is_bulk and (wait := self._bulk_calls.take((caller.name, address_of(scope)))):  # S17
            raise RateLimited("There were too many bulk calls. Wait before the next one.", wait)
        csrf = csrf_headers(scope) if self._csrf and method not in SAFE else None
        arguments = found.arguments
        if route.query:
            arguments = arguments | query_arguments(route, scope["query_string"])
        sent = b"" if route.body is None else await read_body(scope, receive, self.limit_of(path))
        if self._in_flight >= IN_FLIGHT or self._bytes + len(sent) > MOST_HELD:
            return BUSY
        self._in_flight += 1
        self._bytes += len(sent)
        try:
            if route.body is not None:
                read = route.body.read
                body = read(sent) if len(sent) <= LARGE else await asyncio.to_thread(read, sent)
                arguments = {**arguments, "body": body}
            step = step_of(route, arguments, caller, csrf, scope)
            may_wait = operation.endpoint.waits and len(sent) <= SMALL and self._long_poll.has_room
            if may_wait and (seconds := preferred_wait(scope)):
                return await self._long_poll.answer(step, seconds, receive)
            reads = operation.reads_only and not leaves_row(operation, arguments)
            return await (self._reads.read(step) if reads else self._store.write_soon(step))
        finally:
            self._in_flight -= 1
            self._bytes -= len(sent)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """A call that is held is not under way."""
        self._in_flight -= 1
        try:
            yield
        finally:
            self._in_flight += 1

    def _astray(self, scope: Scope, path: str, found: Found) -> Answer:
        """What to say to a call that no operation answers."""
        if found.allowed:
            return told(405, "Method Not Allowed", (b"allow", ", ".join(sorted(found.allowed)).encode()))
        other = path[:-1] if path.endswith("/") else path + "/"
        if self.routes.knows(other):
            query = b"?" + scope["query_string"] if scope["query_string"] else b""
            return Answer(307, b"", [(b"location", (ROOT + other).encode() + query)])
        return NOT_FOUND

    def limit_of(self, path: str) -> int:
        """The most bytes a body sent to `path` may have."""
        bulk = path.split("/", 2)[1] in BULK
        return self._limits.bulk_body_bytes if bulk else self._limits.body_bytes


def step_of(
    route: Route, arguments: dict[str, Any], caller: Caller, csrf: tuple[str, str] | None, scope: Scope
) -> Callable[[Tx], Answer]:
    """What carries out a call in a transaction and encodes its answer."""
    headers = dict(scope["headers"])
    address, agent, remote = address_in(scope, headers), headers.get(b"user-agent", b""), address_of(scope)

    def step(tx: Tx) -> Answer:
        tx.caller, tx.address, tx.agent, tx.remote = caller, address, agent, remote
        if csrf is not None:
            check_csrf_token(tx, *csrf)  # S3
        if caller.work_pool is not None:
            keep_within(tx, caller.work_pool, route.operation, arguments)  # S5
        if caller.flow_run_id is not None:
            keep_within_run(tx, caller.flow_run_id, route.operation, arguments)  # S5
        result = carry_out(tx, route.operation, arguments)
        status = route.status
        if isinstance(result, Existing):
            result, status = result.value, route.existing
        if isinstance(result, Raw):
            return raw(status, result)
        if isinstance(result, Refusal):
            return answer_to(result.error, "")
        return Answer(status, b"" if status == 204 else ENCODER.encode(result))  # G13

    return step


def address_in(scope: Scope, headers: Mapping[bytes, bytes]) -> str:
    """The API's address as the caller wrote it."""
    host = headers.get(b"host", b"localhost").decode("latin-1")
    return f"{scope['scheme']}://{host}{scope.get('root_path', '')}{ROOT}"


def raw_path(scope: Scope) -> str:
    """The path as it came, percent-encoded, without the query."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("latin-1")


def query_arguments(route: Route, query: bytes) -> dict[str, Any]:
    """The arguments in the query; names the operation does not know are passed over.

    Raises:
        ValidationFailed: one is missing or cannot be read.
    """
    try:
        sent = dict(parse_qsl(query.decode(), keep_blank_values=True, errors="strict", max_num_fields=100))
    except ValueError:
        raise invalid(detail("query_invalid", ["query"], "The query is not valid.")) from None
    found = {}
    for name, wanted in route.query.items():
        told = WIRE_NAMES.get(name, name)
        if told in sent:
            found[name] = read_text(sent[told], wanted, ("query", told))
        elif name not in route.operation.defaults:
            raise invalid(detail("missing", ["query", told], "Field required"))
    return found


def csrf_headers(scope: Scope) -> tuple[str, str]:
    """The client and the token that a call sends along; empty texts for what it does not."""
    sent = {name: value.decode("latin-1") for name, value in scope["headers"]}
    return sent.get(b"prefect-csrf-client", ""), sent.get(b"prefect-csrf-token", "")


def wrong_version(scope: Scope) -> Answer | None:
    """Refuse a client that asks for a version of the API which is no longer spoken."""
    for name, value in scope["headers"]:
        if name == b"x-prefect-api-version":
            try:
                asked = tuple(int(part) for part in value.decode("latin-1").split("."))
            except ValueError:
                return told(400, "Invalid X-PREFECT-API-VERSION header format. Send it as 0.8.4.")
            if asked < LOWEST_API_VERSION:
                lowest = ".".join(map(str, LOWEST_API_VERSION))
                shown = ".".join(map(str, asked))
                return told(
                    400,
                    f"The request specified API version {shown} but this server requires version {lowest} or higher.",
                )
    return None
