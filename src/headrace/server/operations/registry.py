"""The table of operations: every endpoint and the one function that implements it.

`@implements(ENDPOINT, access="runs:write")` registers a plain synchronous function `(tx, **arguments) -> result`.
The HTTP layer and local mode run the same functions; neither adds anything of its own.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

from headrace.exceptions import ApiError
from headrace.schemas.endpoint import Endpoint
from headrace.server.store.caller import FOR_ADMINS

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

RESOURCES = (
    "flows",
    "flow_runs",
    "recording",
    "states",
    "leases",
    "logs",
    "task_runs",
    "task_workers",
    "flow_run_inputs",
    "run_reports",
    "run_graph",
    "deployments",
    "deployment_schedules",
    "deployment_runs",
    "deployment_scheduling",
    "work_pools",
    "work_queues",
    "scheduled_runs",
    "automations",
    "events",
    "block_types",
    "block_schemas",
    "block_documents",
    "variables",
    "artifacts",
    "saved_searches",
    "collections",
    "templates",
    "ui_schemas",
    "admin",
    "csrf",
    "api_keys",
    "run_keys",
    "audit",
    "concurrency_limits",
    "concurrency_limits_v2",
)
"""The modules of this package that hold implementations, each named for its module in `headrace.schemas`; those that
a run in local mode needs come first."""


@dataclass(frozen=True, slots=True)
class Existing:
    """A result that was there before the call: answered with the endpoint's `existing` status."""

    value: Any


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal that leaves something behind: what was written before is kept, which it is not when one is raised."""

    error: ApiError


@dataclass(frozen=True, slots=True)
class Raw:
    """A result that is no JSON: its bytes, their media type, and further headers of the answer."""

    content: bytes
    media_type: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """An endpoint, the function behind it, and what the function asks of the caller."""

    endpoint: Endpoint[Any]
    function: Callable[..., Any]
    access: str
    reads_only: bool
    parameters: dict[str, Any] = field(default_factory=dict)
    """Type of each argument that travels in the path or the query, by name."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """The default of each of them that may be left out, by name."""
    takes_body: bool = False
    """Whether the function has an argument `body`."""
    audited: str = ""
    """When a call leaves a row in the audit log: `always`, or when this argument is true; empty for never.  # S18"""

    @property
    def name(self) -> str:
        """Its name in OpenAPI, in logs and metrics."""
        return self.function.__name__


OPERATIONS: dict[Endpoint[Any], Operation] = {}


def implements(endpoint: Endpoint[Any], *, access: str) -> Callable[[FunctionT], FunctionT]:
    """Register the decorated function as the implementation of `endpoint`.

    Args:
        endpoint: what it implements; a second implementation of the same endpoint is an error.
        access: the permission a caller needs, as `area:read` or `area:write`; `none` opens it to anyone. The part
            behind the colon also says whether it runs in a reading or a writing transaction.

    Raises:
        ValueError: the endpoint is implemented already.
    """

    def register(function: FunctionT) -> FunctionT:
        if endpoint in OPERATIONS:
            raise ValueError(f"{endpoint.method} {endpoint.path} is implemented twice: {function.__qualname__}")
        hints = get_type_hints(function, include_extras=True)
        declared = list(inspect.signature(function).parameters.values())[1:]
        OPERATIONS[endpoint] = Operation(
            endpoint,
            function,
            access,
            not access.endswith(":write"),
            {one.name: hints[one.name] for one in declared if one.name != "body"},
            {one.name: one.default for one in declared if one.name != "body" and one.default is not one.empty},
            "body" in hints,
            _audited(endpoint, access, hints),
        )
        return function

    return register


def _audited(endpoint: Endpoint[Any], access: str, hints: dict[str, Any]) -> str:
    """See `Operation.audited`: it follows from what an operation is, so that none can be forgotten."""
    if (access in FOR_ADMINS and access.endswith(":write")) or endpoint.path.endswith("/bulk_delete"):
        return "always"
    sent = {*hints, *getattr(endpoint.body, "__struct_fields__", ())}
    return next((flag for flag in ("include_secrets", "force") if flag in sent), "")


def operation_of(endpoint: Endpoint[Any]) -> Operation:
    """The implementation of `endpoint`; modules are imported one after the other until it is found.

    Raises:
        LookupError: nothing implements it.
    """
    found = OPERATIONS.get(endpoint)
    for resource in RESOURCES if found is None else ():
        importlib.import_module(f"headrace.server.operations.{resource}")
        if found := OPERATIONS.get(endpoint):
            break
    if found is None:
        raise LookupError(f"No operation implements {endpoint.method} {endpoint.path}.")
    return found


def load_all() -> dict[Endpoint[Any], Operation]:
    """Import every module of operations and return the whole table."""
    for resource in RESOURCES:
        importlib.import_module(f"headrace.server.operations.{resource}")
    return OPERATIONS
