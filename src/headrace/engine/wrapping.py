"""What flows and tasks have in common as wrappers of a function: its kind, its signature, and methods of classes."""

import inspect
from collections.abc import Callable
from copy import copy
from functools import cached_property, update_wrapper
from typing import Any, Self

from headrace.engine import parts
from headrace.engine.retries import Delays, delays_of
from headrace.engine.signature import FunctionSignature, check_names


class FunctionWrapper:
    """A function with options, which can also be a method of a class."""

    _doc: str | None
    _method: str
    _options: dict[str, Any]
    _key: str
    """The attribute that tells it from all others; it stays the same when it is bound to an object."""
    _section: str
    """The section of the settings that has its defaults."""
    fn: Callable[..., Any]
    run_fn: Callable[..., Any]
    isasync: bool
    isgenerator: bool

    def _wrap(self, fn: Any) -> None:
        """Take the function in.

        Raises:
            TypeError: it is none.
            ReservedArgumentError: a parameter has a name that calling it needs.
        """
        self._method = type(fn).__name__ if isinstance(fn, staticmethod | classmethod) else ""
        self.fn = fn.__func__ if self._method else fn
        if not callable(self.fn):
            raise TypeError("'fn' must be callable")
        code = getattr(inspect.unwrap(self.fn), "__code__", None)
        if code is not None:
            check_names(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
        doc = getattr(self.fn, "__doc__", None)  # not by getdoc, which looks into classes and comes back here
        self._doc = inspect.cleandoc(doc) if doc else None
        update_wrapper(self, self.fn)  # type: ignore[arg-type]  # it is called by __call__ of the class
        self._look_at_function()

    def _look_at_function(self) -> None:
        function = self.fn if inspect.isroutine(self.fn) else type(self.fn).__call__
        self.isgenerator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        self.isasync = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        self.run_fn = self.fn if not self.isgenerator else _collected(self.fn, self.isasync)

    @cached_property
    def signature(self) -> FunctionSignature:
        """The function's signature."""
        return FunctionSignature(self.fn)

    # What takes settings is worked out when it is asked for, so that a decorator need not load them.

    @cached_property
    def retries(self) -> int:
        """How often a run that failed is tried again."""
        own: int | None = self._options["retries"]
        return own if own is not None else self._defaults().default_retries

    @cached_property
    def retry_delay_seconds(self) -> Delays:
        """The delay before a retry, as it was given."""
        own: Delays = self._options["retry_delay_seconds"]
        return own if own is not None else self._defaults().default_retry_delay_seconds

    @cached_property
    def delays(self) -> tuple[float, ...]:
        """The delays before the retries."""
        return delays_of(self.retry_delay_seconds, self.retries)

    def _defaults(self) -> Any:
        return getattr(parts.settings.get_settings(), self._section)

    def __get__(self, instance: Any, owner: type | None = None) -> Self:
        """The same, bound to an object, when the function is a method."""
        target = owner if self._method == "classmethod" else instance
        if target is None or self._method == "staticmethod":
            return self
        bound = copy(self)
        bound.__dict__[self._key] = getattr(self, self._key)
        for known_of_the_function in ("signature", "_validator"):
            bound.__dict__.pop(known_of_the_function, None)
        bound.fn = self.fn.__get__(target)
        bound._look_at_function()
        return bound

    @property
    def ismethod(self) -> bool:
        """Whether it is bound to an object."""
        return hasattr(self.fn, "__self__")

    @property
    def isclassmethod(self) -> bool:
        """Whether its function is a class method."""
        return self._method == "classmethod"

    @property
    def isstaticmethod(self) -> bool:
        """Whether its function is a static method."""
        return self._method == "staticmethod"


def _collected(function: Callable[..., Any], asynchronous: bool) -> Callable[..., Any]:
    """A generator function as one that returns all it yields; for submitted runs, whose result is a list."""
    if asynchronous:

        async def collect_async(*args: Any, **kwargs: Any) -> list[Any]:
            return [item async for item in function(*args, **kwargs)]

        return update_wrapper(collect_async, function)

    def collect(*args: Any, **kwargs: Any) -> list[Any]:
        return list(function(*args, **kwargs))

    return update_wrapper(collect, function)
