"""The route table: from method and path to an operation.

A tree with one level for each segment of a path. Measured: trying the regular expressions of 190 routes one after the
other costs more than the rest of a request; a walk down the tree does not grow with the number of routes. Fixed
segments go before parameters, and a parameter that cannot be read (an id that is no UUID) is as if its route were not
there: 404, not 422.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from headrace.exceptions import ValidationFailed
from headrace.server.operations.arguments import BodyReader, read_text
from headrace.server.operations.registry import Operation


class Route:
    """An operation as HTTP sees it, with all that can be prepared.

    Args:
        operation: what it carries out.
        depth: how deep its body may be nested.
    """

    __slots__ = ("body", "existing", "is_bulk", "operation", "path", "query", "status")

    def __init__(self, operation: Operation, depth: int) -> None:
        endpoint = operation.endpoint
        names = path_names(endpoint.path)
        self.operation = operation
        self.status = endpoint.status
        self.existing = endpoint.existing or endpoint.status
        self.is_bulk = "bulk" in endpoint.path
        self.path = [(name, operation.parameters[name]) for name in names]
        self.query = {name: wanted for name, wanted in operation.parameters.items() if name not in names}
        self.body = BodyReader(operation.endpoint.body, depth) if operation.takes_body else None

    def path_arguments(self, values: list[str]) -> dict[str, Any] | None:
        """The arguments in the path; None when one cannot be read."""
        try:
            return {
                name: read_text(value, wanted, ("path", name))
                for (name, wanted), value in zip(self.path, values, strict=True)
            }
        except ValidationFailed:
            return None


class Found(NamedTuple):
    """What the table knows about a call."""

    route: Route | None
    arguments: dict[str, Any]
    allowed: frozenset[str]
    """The methods the path has, when it has some but not this one."""


def path_names(path: str) -> list[str]:
    """The names of the parameters of a path, in order."""
    return [step[1:-1] for step in path.split("/") if step.startswith("{")]


class _Node:
    __slots__ = ("fixed", "methods", "parameter")

    def __init__(self) -> None:
        self.fixed: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.methods: dict[str, Route] = {}


class Routes:
    """The table.

    Args:
        operations: what to serve.
        depth: how deep bodies may be nested.
    """

    def __init__(self, operations: Mapping[Any, Operation], depth: int) -> None:
        self._root = _Node()
        self._plain: dict[tuple[str, str], Found] = {}
        for operation in operations.values():
            self._add(Route(operation, depth))

    def _add(self, route: Route) -> None:
        endpoint = route.operation.endpoint
        node = self._root
        for step in _steps(endpoint.path):
            if step.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.fixed.setdefault(step, _Node())
        node.methods[endpoint.method] = route
        if not route.path:
            self._plain[endpoint.method, endpoint.path] = Found(route, {}, frozenset())

    def find(self, method: str, path: str) -> Found:
        """Look up a call.

        Args:
            method: in capitals.
            path: below the API's root, still percent-encoded, so that a `%2F` belongs to its segment.
        """
        return self._plain.get((method, path)) or self._walk(method, _steps(path))

    def _walk(self, method: str, steps: list[str]) -> Found:
        allowed: set[str] = set()
        for node, values in _ends(self._root, steps, 0, ()):
            route = node.methods.get(method)
            known = route or next(iter(node.methods.values()), None)
            arguments = known.path_arguments(list(values)) if known else None
            if arguments is None:
                continue
            if route is not None:
                return Found(route, arguments, frozenset())
            allowed |= node.methods.keys()
        return Found(None, {}, frozenset(allowed))

    def knows(self, path: str) -> bool:
        """Whether the path has any method at all."""
        found = self.find("", path)
        return bool(found.allowed)


def _steps(path: str) -> list[str]:
    return path.split("/")[1:]


def _ends(
    node: _Node, steps: list[str], depth: int, values: tuple[str, ...]
) -> Iterator[tuple[_Node, tuple[str, ...]]]:
    """Every node that the path leads to, fixed segments before parameters."""
    if depth == len(steps):
        yield node, values
        return
    step = steps[depth]
    if following := node.fixed.get(step):
        yield from _ends(following, steps, depth + 1, values)
    if node.parameter is not None and (value := _decoded(step)):
        yield from _ends(node.parameter, steps, depth + 1, (*values, value))


def _decoded(step: str) -> str:
    """A segment without its percent signs; empty when it is no UTF-8."""
    if "%" not in step and step.isascii():
        return step
    try:
        return unquote_to_bytes(step).decode()
    except UnicodeDecodeError:
        return ""
