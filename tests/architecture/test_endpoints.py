"""Each call of the API is said once and implemented once."""

import importlib
import pkgutil
from typing import Any

import headrace.schemas
from headrace.schemas.endpoint import Endpoint
from headrace.server.operations.registry import RESOURCES, load_all


def declared() -> dict[str, Endpoint[Any]]:
    """Every endpoint of `headrace.schemas`, by module and name."""
    found = {}
    for module in pkgutil.iter_modules(headrace.schemas.__path__):
        loaded = importlib.import_module(f"headrace.schemas.{module.name}")
        found |= {f"{module.name}.{name}": value for name, value in vars(loaded).items() if isinstance(value, Endpoint)}
    return found


def test_every_endpoint_is_implemented() -> None:
    """Every endpoint declared has an operation (a second one is refused when it is registered)."""
    operations = load_all()

    missing = [name for name, endpoint in declared().items() if endpoint not in operations]

    assert missing == []


def test_no_two_endpoints_are_the_same_call() -> None:
    """Method and path name one endpoint."""
    calls = [(endpoint.method, endpoint.path) for endpoint in load_all()]

    assert len(calls) == len(set(calls))


def test_every_module_of_operations_is_listed() -> None:
    """A module of operations that is not in the list would never be loaded."""
    import headrace.server.operations as package

    implementing = {
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if any(
            operation.function.__module__ == f"{package.__name__}.{module.name}" for operation in load_all().values()
        )
    }

    assert implementing <= set(RESOURCES)
