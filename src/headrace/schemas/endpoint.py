"""A call of the API, said once.

An `Endpoint` is declared beside the structs of its resource. The server implements it with one function on a
transaction (`headrace.server.operations.registry.implements`), a client calls the same object (`Client.call`), and
the HTTP route, its validation and its OpenAPI entry are derived from it.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

ResultT = TypeVar("ResultT")

WIRE_NAMES = {"page_token": "page-token"}
"""Arguments that travel in the query under a name that is none in Python."""


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint(Generic[ResultT]):
    """One operation of the API, as both sides of the wire see it.

    Args:
        method: HTTP method, in capitals.
        path: path below the API's root, with `{name}` for each path parameter.
        returns: type of the answer's body; `NoneType` for an empty one.
        body: type of the request's body; None when the call has none. An absent body is read as `{}`.
        status: HTTP status of a success.
        existing: status of a success that found the thing already there (`Existing` in the registry), if that differs.
        refusals: statuses of refusals that are this call's own.
        waits: whether a caller may be told to come back, and may ask to be held instead (`Prefer: wait=N`).

    Arguments of a call that are not in the path and not `body` travel in the query. Their names, types and defaults
    are those of the implementing function.
    """

    method: str
    path: str
    returns: type[ResultT]
    body: Any = None
    status: int = 200
    existing: int | None = None
    refusals: tuple[int, ...] = ()
    waits: bool = False
