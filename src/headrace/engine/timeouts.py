"""Time limits on synchronous functions.

In the main thread an interval timer and SIGALRM interrupt the function, also inside a blocking system call such as
`time.sleep` or reading a socket. In other threads, and where there is no SIGALRM, a timer thread asks the interpreter
to raise in the thread: that takes effect when the thread runs Python again, so a call that blocks in C is interrupted
only when it returns. Asynchronous functions are cancelled by asyncio, see `drivers`.

What is raised is no `Exception`, so that an `except Exception` in a user's loop does not swallow it.
"""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

from headrace.engine.interrupts import gate, in_main_thread


class TimeLimitReached(BaseException):
    """Raised inside a function whose time is up.

    Args:
        limit: the limit it went over, so that of nested ones each knows its own.
    """

    def __init__(self, limit: "TimeLimit") -> None:
        super().__init__(f"The time limit of {limit.seconds} second(s) was reached.")
        self.limit = limit


class TimeLimit:
    """A block that is left by `TimeLimitReached` after some time.

    Args:
        seconds: how long the block may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.over = False
        self._by_alarm = in_main_thread() and hasattr(signal, "SIGALRM")

    def __enter__(self) -> Self:
        if self._by_alarm:
            self._set_alarm()
        else:
            self._start_timer(threading.get_ident())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._by_alarm:
            self._restore_alarm()
        else:
            self._stop_timer(error)

    def _set_alarm(self) -> None:
        def ring(_number: int, _frame: FrameType | None) -> None:
            self.over = True
            gate().knock(TimeLimitReached(self))

        self._began = time.monotonic()
        self._outer_handler: Any = signal.signal(signal.SIGALRM, ring)
        # An outer limit that ends first must not be put off by this one; its own handler is called then.
        self._outer_left = signal.setitimer(signal.ITIMER_REAL, max(self.seconds, 1e-6))[0]
        if 0 < self._outer_left < self.seconds:
            signal.signal(signal.SIGALRM, self._outer_handler)
            signal.setitimer(signal.ITIMER_REAL, self._outer_left)

    def _restore_alarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._outer_handler)
        if self._outer_left > 0:
            left = self._outer_left - (time.monotonic() - self._began)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-6))

    def _start_timer(self, thread: int) -> None:
        self._lock = threading.Lock()
        self._done = False

        def ring() -> None:
            with self._lock:
                if not self._done:
                    self.over = True
                    raise_in_thread(thread, TimeLimitReached)

        self._timer = threading.Timer(self.seconds, ring)
        self._timer.daemon = True
        self._timer.start()

    def _stop_timer(self, error: BaseException | None) -> None:
        with self._lock:
            self._done = True
        self._timer.cancel()
        if self.over and not isinstance(error, _Bare):
            # Asked for and not raised yet: the function returned in between. Take it back.
            raise_in_thread(threading.get_ident(), None)


class _Bare(TimeLimitReached):
    """What the interpreter raises in another thread: it can be given a class only, so it names no limit."""

    def __init__(self) -> None:
        BaseException.__init__(self, "The time limit was reached.")
        self.limit = None  # type: ignore[assignment]


def raise_in_thread(thread: int, kind: type[BaseException] | None) -> None:
    """Have the interpreter raise in another thread as soon as that runs Python code.

    Args:
        thread: its ident.
        kind: the class to raise; None takes back what has not been raised yet.
    """
    import ctypes  # needed by few

    if kind is TimeLimitReached:
        kind = _Bare
    target = ctypes.py_object(kind) if kind is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), target)
