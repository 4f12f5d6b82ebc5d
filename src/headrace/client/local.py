"""Local mode: the operations run in this process on the database, with no socket between.

A body goes through JSON all the same: it is checked as the server would check it, and what is stored cannot change
when the caller changes its objects afterwards. That costs some microseconds, where the transaction costs a hundred.
Batches of records are exempt: they are made by the engine, checked, and handed over for good.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import msgspec
from sqlalchemy.exc import IntegrityError

from headrace._internal.collector import collector_paused
from headrace.client.client import Calls, Client
from headrace.exceptions import ObjectNotFound, ValidationFailed
from headrace.schemas.endpoint import Endpoint
from headrace.schemas.recording import RECORD, Records
from headrace.server.operations.arguments import BodyReader, detail, invalid, read_text
from headrace.server.operations.auditing import carry_out, leaves_row
from headrace.server.operations.refusals import refusal_of
from headrace.server.operations.registry import Existing, Operation, Raw, Refusal, operation_of
from headrace.server.store import open_store
from headrace.server.store.transaction import Store, Tx

ResultT = TypeVar("ResultT")
HANDED_OVER: frozenset[Endpoint[Any]] = frozenset({RECORD})
LARGE_BATCH = 100
"""From how many task runs on the garbage collector is paused."""
_ENCODER = msgspec.json.Encoder()


class _Local:
    """An operation with what reads its arguments."""

    __slots__ = ("body", "operation", "path")

    def __init__(self, operation: Operation) -> None:
        if operation.endpoint is RECORD:
            operation = replace(operation, function=partial(_record, operation.function))
        self.operation = operation
        self.body = BodyReader(operation.endpoint.body) if operation.takes_body else None
        self.path = {step[1:-1] for step in operation.endpoint.path.split("/") if step.startswith("{")}

    def arguments(self, sent: dict[str, Any]) -> dict[str, Any]:
        """The arguments of path and query, as the server would read them."""
        found = {}
        for name, wanted in self.operation.parameters.items():
            value = sent.get(name)
            if value is None:
                if name not in self.operation.defaults:
                    raise invalid(detail("missing", ["query", name], "Field required"))
                continue
            found[name] = self._read(name, value, wanted) if isinstance(value, str) else value
        return found

    def _read(self, name: str, value: str, wanted: Any) -> Any:
        if name not in self.path:
            return read_text(value, wanted, ("query", name))
        try:
            return read_text(value, wanted, ("path", name))
        except ValidationFailed:  # as over HTTP, where no route has such a path
            error = ObjectNotFound()
            error.args = ("Not Found",)
            raise error from None


def _record(function: Callable[..., ResultT], tx: Tx, body: Records) -> ResultT:
    """Store a batch; a large one without collecting garbage meanwhile.

    Its rows are many objects for an instant, and make the collector look at all the others of this process as well.
    """
    with collector_paused() if len(body.task_runs) >= LARGE_BATCH else nullcontext():
        return function(tx, body)


class LocalClient(Client):
    """Calls operations in this process.

    Args:
        store: the database.
        find: finds the operation of an endpoint.
        owned: whether `close` closes the database too.
    """

    local = True

    def __init__(
        self, store: Store, find: Callable[[Endpoint[Any]], Operation] = operation_of, *, owned: bool = False
    ) -> None:
        self.store = store
        self._find = find
        self._owned = owned
        self._prepared: dict[Endpoint[Any], _Local] = {}

    def call(self, endpoint: Endpoint[ResultT], *, body: Any = None, wait: float = 0, **arguments: Any) -> ResultT:  # noqa: ARG002
        """See `Client.call`."""
        local, given = self._prepare(endpoint, body, arguments)
        operation = local.operation
        reads_only = operation.reads_only and not leaves_row(operation, given)
        answer: ResultT = _answer(self._carry_out(lambda tx: carry_out(tx, operation, given), reads_only))
        return answer

    def together(self, calls: Callable[[Calls], ResultT]) -> ResultT:
        """See `Client.together`."""
        return self._carry_out(lambda tx: calls(_Transaction(self, tx)), reads_only=False)

    def _prepare(self, endpoint: Endpoint[Any], body: Any, arguments: dict[str, Any]) -> tuple[_Local, dict[str, Any]]:
        local = self._prepared.get(endpoint)
        if local is None:
            local = self._prepared[endpoint] = _Local(self._find(endpoint))
        given = local.arguments(arguments)
        if local.body is not None:
            trusted = endpoint in HANDED_OVER and body is not None
            given["body"] = body if trusted else local.body.read(b"" if body is None else _ENCODER.encode(body))
        return local, given

    def _carry_out(self, step: Callable[[Tx], ResultT], reads_only: bool) -> ResultT:
        try:
            return self.store.read(step) if reads_only else self.store.write(step)
        except IntegrityError as error:
            raise refusal_of(error) from error

    def close(self) -> None:
        """Close the database, if it was opened for this client."""
        if self._owned:
            self.store.close()


class _Transaction:
    """The calls of one transaction; see `Client.together`."""

    def __init__(self, client: LocalClient, tx: Tx) -> None:
        self._client, self._tx = client, tx

    def call(self, endpoint: Endpoint[ResultT], *, body: Any = None, wait: float = 0, **arguments: Any) -> ResultT:  # noqa: ARG002
        """See `Client.call`."""
        local, given = self._client._prepare(endpoint, body, arguments)
        answer: ResultT = _answer(carry_out(self._tx, local.operation, given))
        return answer


def _answer(result: Any) -> Any:
    """What a caller gets of what an operation returned."""
    if isinstance(result, Existing):
        result = result.value
    if isinstance(result, Refusal):
        raise result.error
    return result.content if isinstance(result, Raw) else result


def open_local(url: str) -> LocalClient:
    """Open the database at `url` and make a client of it.

    Raises:
        StoreUnavailable: the database cannot be opened.
    """
    return LocalClient(open_store(url), owned=True)
