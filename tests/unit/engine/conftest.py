"""Fixtures for tests of the engine: a home of its own in local mode, and each test under both drivers."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import flow, task
from headrace.engine import recorder
from headrace.logging.configuration import ensure_logging_setup, setup_logging
from headrace.settings import temporary_settings


@pytest.fixture(scope="session")
def engine_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that all tests of the engine share, so that its database is made once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def home(engine_home: Path) -> Iterator[Path]:
    """Run in local mode on a home of the tests' own."""
    with temporary_settings(**{"home": str(engine_home), "logging.level": "CRITICAL"}):
        ensure_logging_setup()
        setup_logging(incremental=True)  # the level of these settings, whatever test came before
        yield engine_home
        recorder.reset()


class Driver:
    """Makes flows and tasks of plain functions, synchronous or asynchronous, and runs them.

    Args:
        asynchronous: whether functions become coroutine functions.
    """

    def __init__(self, asynchronous: bool) -> None:
        self.asynchronous = asynchronous

    def _function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if not self.asynchronous:
            return function

        async def same(*args: Any, **kwargs: Any) -> Any:
            value = function(*args, **kwargs)
            return await value if asyncio.iscoroutine(value) else value

        same.__name__, same.__qualname__ = function.__name__, function.__qualname__
        same.__annotations__, same.__wrapped__ = function.__annotations__, function  # type: ignore[attr-defined]
        return same

    def task(self, function: Callable[..., Any], **options: Any) -> Any:
        """A task of the function."""
        return task(**options)(self._function(function))

    def flow(self, function: Callable[..., Any], **options: Any) -> Any:
        """A flow of the function."""
        return flow(**options)(self._function(function))

    def run(self, called: Any) -> Any:
        """What a call gives, awaited if need be."""
        if not asyncio.iscoroutine(called):
            return called

        async def finish() -> Any:
            return await called

        return asyncio.run(finish())

    def state(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """The final state of a flow of the function, called with `args`."""
        return self.run(self.flow(function, **options)(*args, return_state=True))


@pytest.fixture(params=["sync", "async"])
def driver(request: pytest.FixtureRequest) -> Driver:
    """One driver after the other."""
    return Driver(request.param == "async")
