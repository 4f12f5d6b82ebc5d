"""Blocking work called from coroutines, and coroutines called from blocking code."""

import inspect
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from threading import Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a blocking function in a thread, in the context of the caller, and return its result."""
    import asyncio

    return await asyncio.to_thread(function, *args, **kwargs)


def finished(value: Any) -> Any:
    """The value of `value`: itself, or if it is awaitable, what it comes to.

    It is awaited in an event loop of its own, in a thread of its own when the caller is inside of a running loop.
    """
    if not inspect.isawaitable(value):
        return value
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_awaited(value))
    results: list[Any] = []
    errors: list[BaseException] = []
    context = copy_context()

    def run() -> None:
        try:
            results.append(context.run(asyncio.run, _awaited(value)))
        except BaseException as error:  # noqa: BLE001  it is raised where the value is wanted
            errors.append(error)

    thread = Thread(target=run, name="headrace-awaiting", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


async def _awaited(value: Awaitable[R]) -> R:
    return await value
