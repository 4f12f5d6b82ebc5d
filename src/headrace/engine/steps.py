"""What a run waits for, as data: the engine's core yields these effects, and a driver performs them.

The core is a generator. It yields `Call` (a user's function), `Sleep` and `Blocking` (I/O), and gets an `Outcome` back
for each: a value, or the exception that was raised, as a value. So a user's exception never travels through the
generator, and a cancellation reaches it as one more outcome.
"""

import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Outcome:
    """How an effect ended.

    Args:
        value: what it gave; None when it raised.
        error: what it raised, if it did.
    """

    __slots__ = ("error", "value")

    def __init__(self, value: Any = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error

    def unwrap(self) -> Any:
        """The value.

        Raises:
            BaseException: what the effect raised; for the engine's own I/O, never for users' functions.
        """
        if self.error is not None:
            raise self.error
        return self.value


class Call:
    """Call a user's function, and await what it returns when it is asynchronous.

    Args:
        function: what to call.
        args: its positional arguments.
        kwargs: its named arguments.
        timeout: seconds it may take; None for as long as it likes.
        finish: whether a coroutine that it returns is carried to its end also by the blocking driver, as for hooks,
            which may be asynchronous though their run is not.
    """

    __slots__ = ("args", "finish", "function", "kwargs", "timeout")

    def __init__(
        self,
        function: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        timeout: float | None = None,
        finish: bool = False,
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs or {}
        self.timeout = timeout
        self.finish = finish


class Sleep:
    """Wait.

    Args:
        seconds: how long.
    """

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Blocking:
    """Do I/O: call a function of the engine that may block for a while.

    Args:
        function: what to call.
        args: its positional arguments.
        kwargs: its named arguments.
    """

    __slots__ = ("args", "function", "kwargs")

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs


Effect = Call | Sleep | Blocking
Steps = Generator[Effect, Outcome, T]
"""A core: yields effects, is sent outcomes, returns what the run came to."""

sleep: Callable[[float], None] = time.sleep
"""How the synchronous driver waits; a test may put a function of its own here."""
