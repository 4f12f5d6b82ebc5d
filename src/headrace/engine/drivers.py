"""The two drivers of the engine's core: they perform its effects, one blocking, one awaiting.

Neither knows what a flow or a task is. Each sends the core an `Outcome` for every effect, whatever was raised, so a
cancellation too comes to the core as a value; whoever asked for the run raises it again when the core has ended.
"""

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from headrace.engine import steps as effects
from headrace.engine.interrupts import gate
from headrace.engine.steps import Call, Effect, Outcome, Sleep, Steps, T
from headrace.engine.timeouts import TimeLimit, TimeLimitReached


def drive(steps: Steps[T]) -> T:
    """Run a core to its end in this thread and return what it came to."""
    mine = gate()
    was_open = mine.open
    mine.open = False
    try:
        effect = next(steps)
        while True:
            outcome = perform(effect)
            mine.open = False
            effect = steps.send(outcome)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        mine.open = was_open


async def drive_async(steps: Steps[T]) -> T:
    """Run a core to its end in this coroutine and return what it came to."""
    try:
        effect = next(steps)
        while True:
            effect = steps.send(await perform_async(effect))
    except StopIteration as end:
        result: T = end.value
        return result


def drive_generator(steps: Steps[T], called: Any, function: Any, give: Callable[[T], Any]) -> Generator[Any, Any, Any]:
    """Run the core of a generator function: what that yields is yielded on, everything else is as in `drive`.

    Args:
        steps: the core.
        called: what the core calls.
        function: the generator function to call in its place.
        give: makes the generator's return value from what the core came to.
    """
    try:
        effect = next(steps)
        while True:
            if type(effect) is Call and effect.function is called:
                try:
                    outcome = Outcome((yield from function(*effect.args, **effect.kwargs)))
                except BaseException as error:  # noqa: BLE001
                    outcome = Outcome(None, error)
            else:
                outcome = perform(effect)
            effect = steps.send(outcome)
    except StopIteration as end:
        return give(end.value)


async def drive_generator_async(
    steps: Steps[T], called: Any, function: Any, give: Callable[[T], Any]
) -> AsyncGenerator[Any, None]:
    """The awaiting twin of `drive_generator`."""
    try:
        effect = next(steps)
        while True:
            if type(effect) is Call and effect.function is called:
                outcome = Outcome()
                try:
                    async for item in function(*effect.args, **effect.kwargs):
                        yield item
                except BaseException as error:  # noqa: BLE001
                    outcome = Outcome(None, error)
            else:
                outcome = await perform_async(effect)
            effect = steps.send(outcome)
    except StopIteration as end:
        give(end.value)


def perform(effect: Effect) -> Outcome:
    """Perform one effect, blocking."""
    try:
        gate().enter()
        if type(effect) is Call:
            if effect.timeout is not None:
                return _limited(effect)
            value = effect.function(*effect.args, **effect.kwargs)
            return Outcome(value if not effect.finish else run_to_end(value))
        if type(effect) is Sleep:
            effects.sleep(effect.seconds)
            return Outcome()
        return Outcome(effect.function(*effect.args, **effect.kwargs))  # type: ignore[union-attr]
    except BaseException as error:  # noqa: BLE001 - it is handed on as a value
        return Outcome(None, error)


async def perform_async(effect: Effect) -> Outcome:
    """Perform one effect, awaiting; I/O of the engine's own is done in a thread, so the event loop stays free."""
    import asyncio  # costs 40 ms: only those who are asynchronous pay

    try:
        if type(effect) is Call:
            if effect.timeout is None:
                return Outcome(await _awaited(effect))
            return await _limited_async(effect)
        if type(effect) is Sleep:
            await asyncio.sleep(effect.seconds)
            return Outcome()
        return Outcome(await asyncio.to_thread(effect.function, *effect.args, **effect.kwargs))  # type: ignore[union-attr]
    except BaseException as error:  # noqa: BLE001
        return Outcome(None, error)


def run_to_end(value: Any) -> Any:
    """The value of a coroutine, run in an event loop of its own; any other value as it is."""
    if not inspect.iscoroutine(value):
        return value
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(value)
    with ThreadPoolExecutor(1) as thread:  # this thread's loop is busy: with us
        return thread.submit(asyncio.run, value).result()


async def _awaited(effect: Call) -> Any:
    value = effect.function(*effect.args, **effect.kwargs)
    return await value if inspect.isawaitable(value) else value


def _limited(effect: Call) -> Outcome:
    assert effect.timeout is not None
    limit = TimeLimit(effect.timeout)
    try:
        with limit:
            return Outcome(effect.function(*effect.args, **effect.kwargs))
    except TimeLimitReached as reached:
        if reached.limit is limit or (reached.limit is None and limit.over):
            return Outcome(None, _timed_out(effect.timeout))
        raise


async def _limited_async(effect: Call) -> Outcome:
    import asyncio

    assert effect.timeout is not None
    limit = asyncio.timeout(effect.timeout)
    try:
        async with limit:
            return Outcome(await _awaited(effect))
    except TimeoutError as error:
        return Outcome(None, _timed_out(effect.timeout) if limit.expired() else error)


class TimedOut(TimeoutError):
    """A run took longer than its `timeout_seconds`."""


def _timed_out(seconds: float) -> TimedOut:
    return TimedOut(f"Scope timed out after {seconds:g} second(s).")
