"""Interrupts from outside: they reach users' functions and waits, never the engine's own bookkeeping.

A signal (SIGTERM, SIGINT) or a time-out ends what runs by raising. If that hit the core between two effects, the run
would be left half recorded. So each thread has a gate: a driver opens it while it performs an effect and shuts it while
the core thinks. An interrupt that finds the gate shut waits, and is raised when the gate opens next, that is at the
start of the next effect.

    core ── shut ──> perform ── open ──> user's function ──> a task inside it: shut, open, shut ──> ...

The gate of a thread that runs nothing of ours is open, so `^C` works there as always.

SIGTERM is handled as long as a flow run is in progress in the main thread: it raises `TerminationSignal` there, or
cancels the coroutine of the flow when that is asynchronous. Where the process had a handler of its own, that is put
back afterwards.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from headrace.exceptions import TerminationSignal


class Gate:
    """Whether this thread may be interrupted now, and what waits until it may."""

    __slots__ = ("open", "waiting")

    def __init__(self) -> None:
        self.open = True
        self.waiting: BaseException | None = None

    def knock(self, interrupt: BaseException) -> None:
        """Raise `interrupt`, now or when the gate opens; called in the gate's own thread.

        Raises:
            BaseException: `interrupt`, if the gate is open.
        """
        if self.open:
            raise interrupt
        self.waiting = interrupt

    def enter(self) -> None:
        """Open the gate.

        Raises:
            BaseException: what has been waiting.
        """
        self.open = True
        if self.waiting is not None:
            interrupt, self.waiting = self.waiting, None
            raise interrupt


class _Gates(threading.local):
    def __init__(self) -> None:
        self.gate = Gate()


_gates = _Gates()


def gate() -> Gate:
    """The gate of the calling thread."""
    return _gates.gate


def in_main_thread() -> bool:
    """Whether the caller is in the main thread, the only one that Python gives signals to."""
    return threading.current_thread() is threading.main_thread()


_depth = 0  # flow runs in progress in the main thread


@contextmanager
def signals_raise(on_signal: Callable[[BaseException], None] | None = None) -> Iterator[None]:
    """While inside, SIGTERM and SIGINT end the flow run of the main thread; elsewhere this does nothing.

    Args:
        on_signal: what to do with the interrupt instead of raising it in the main thread; how an asynchronous flow,
            which must not be torn out of its event loop, is cancelled.
    """
    global _depth
    if not in_main_thread() or _depth:
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        interrupt: BaseException = KeyboardInterrupt() if number == signal.SIGINT else TerminationSignal(number)
        if on_signal is not None:
            on_signal(interrupt)
        else:
            gate().knock(interrupt)

    numbers = [signal.SIGTERM] if on_signal else [signal.SIGTERM, signal.SIGINT]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN and before[number] is not None:
            signal.signal(number, handle)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        _put_back(before)


def _put_back(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None:
            signal.signal(number, handler)


@contextmanager
def cancels_this_coroutine(run: Any) -> Iterator[None]:
    """While inside, SIGTERM cancels the coroutine that the caller runs in, when its event loop is in the main thread.

    Args:
        run: the flow run; `interrupted` of it is set to the interrupt, to tell this from other cancellations.
    """
    import asyncio

    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def cancel(interrupt: BaseException) -> None:
        run.interrupted = interrupt
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)

    with signals_raise(cancel):
        yield
