"""The route table."""

from types import NoneType
from typing import Any
from uuid import UUID, uuid4

import pytest

from headrace.schemas.endpoint import Endpoint
from headrace.server.http.routes import Routes
from headrace.server.operations.registry import Operation

PATHS = (
    ("GET", "/runs/{id}", {"id": UUID}),
    ("POST", "/runs/filter", {}),
    ("POST", "/runs/", {}),
    ("GET", "/runs/{id}/input/{key}", {"id": UUID, "key": str}),
    ("GET", "/runs/{key}/latest", {"key": str}),
    ("GET", "/pools/{name}", {"name": str}),
    ("POST", "/pools/filter", {}),
    ("GET", "/pools/{number}/pages", {"number": int}),
)


@pytest.fixture(scope="module")
def routes() -> Routes:
    """A table of these paths."""
    table: dict[Any, Operation] = {}
    for method, path, parameters in PATHS:
        endpoint = Endpoint(method, path, returns=NoneType)
        table[endpoint] = Operation(endpoint, lambda _: None, "x:read", True, dict(parameters))
    return Routes(table, 64)


def found(routes: Routes, method: str, path: str) -> tuple[str, dict[str, Any]] | set[str]:
    """The path that was found and its arguments, or the methods that are allowed."""
    answer = routes.find(method, path)
    return set(answer.allowed) if answer.route is None else (answer.route.operation.endpoint.path, answer.arguments)


def test_paths_lead_to_their_operations(routes: Routes) -> None:
    """Fixed segments come first; where they have no such method, a parameter may take the segment."""
    run = uuid4()

    assert found(routes, "GET", f"/runs/{run}") == ("/runs/{id}", {"id": run})
    assert found(routes, "POST", "/runs/filter") == ("/runs/filter", {})
    assert found(routes, "POST", "/runs/") == ("/runs/", {})
    assert found(routes, "GET", f"/runs/{run}/input/a%20b%2Fc") == (
        "/runs/{id}/input/{key}",
        {"id": run, "key": "a b/c"},
    )
    assert found(routes, "GET", "/runs/filter/latest") == ("/runs/{key}/latest", {"key": "filter"})
    assert found(routes, "GET", "/pools/filter") == ("/pools/{name}", {"name": "filter"})
    assert found(routes, "GET", "/pools/7/pages") == ("/pools/{number}/pages", {"number": 7})


def test_a_parameter_that_cannot_be_read_is_no_route(routes: Routes) -> None:
    """Neither does it lead anywhere, nor does it allow a method."""
    assert found(routes, "GET", "/runs/x") == set()
    assert found(routes, "DELETE", "/runs/x") == set()
    assert found(routes, "GET", "/pools/x/pages") == set()
    assert found(routes, "GET", "/pools/%00") == set()
    assert found(routes, "GET", "/pools/%ed%a0%80") == set()
    assert found(routes, "GET", "/pools/") == set()


def test_other_methods_are_named(routes: Routes) -> None:
    """A path that exists says which methods it has; a fixed segment hides no parameter that also fits."""
    assert found(routes, "DELETE", f"/runs/{uuid4()}") == {"GET"}
    assert found(routes, "GET", "/runs/filter") == {"POST"}
    assert found(routes, "DELETE", "/pools/filter") == {"GET", "POST"}
    assert routes.knows("/runs/")
    assert not routes.knows("/runs")
