"""The signature of a flow's or task's function, read once, and arguments bound to it quickly.

`inspect.Signature.bind` costs 5 µs a call. A function whose parameters can all be given by name, as most, is bound here
by a few dictionary operations; the others go the long way. What results is the same: parameters by name, defaults
filled in, and a call by these parameters.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from headrace.exceptions import ParameterBindError, ReservedArgumentError, SignatureMismatchError

RESERVED = ("return_state", "wait_for")
_BY_NAME = inspect.Parameter.POSITIONAL_OR_KEYWORD
_ONLY_BY_NAME = inspect.Parameter.KEYWORD_ONLY


def check_names(parameters: Iterable[str]) -> None:
    """Check the names of a function's parameters.

    Raises:
        ReservedArgumentError: one is called `return_state` or `wait_for`.
    """
    for name in parameters:
        if name in RESERVED:
            raise ReservedArgumentError(f"{name!r} is a reserved argument name and cannot be used.")


class FunctionSignature:
    """How a function is called.

    Args:
        function: the user's function.

    Raises:
        ReservedArgumentError: it has a parameter called `return_state` or `wait_for`.
    """

    __slots__ = ("_positional", "_simple", "defaults", "function", "names", "required", "signature", "takes")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.signature = inspect.signature(function)
        parameters = self.signature.parameters
        check_names(parameters)
        self.names = tuple(parameters)
        self.takes = frozenset(self.names)
        self.defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self.required = [n for n, p in parameters.items() if n not in self.defaults and p.kind not in variadic]
        self._simple = all(p.kind in (_BY_NAME, _ONLY_BY_NAME) for p in parameters.values())
        self._positional = tuple(name for name, p in parameters.items() if p.kind is _BY_NAME)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters by name that a call with these arguments has, defaults included.

        Raises:
            ParameterBindError: they do not fit.
        """
        if not self._simple or len(args) > len(self._positional):
            return self._bind_slowly(args, kwargs)
        given = dict(zip(self._positional, args, strict=False))
        if kwargs:
            if not kwargs.keys() <= self.takes or not given.keys().isdisjoint(kwargs):
                return self._bind_slowly(args, kwargs)
            given.update(kwargs)
        if len(given) == len(self.names):
            return given if not kwargs else {name: given[name] for name in self.names}
        defaults = self.defaults
        try:
            return {name: given[name] if name in given else defaults[name] for name in self.names}
        except KeyError:
            return self._bind_slowly(args, kwargs)

    def _bind_slowly(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            name = getattr(self.function, "__name__", repr(self.function))
            raise ParameterBindError(
                f"Error binding parameters for function {name!r}: {error}.\n"
                f"Function {name!r} has signature {str(self.signature)[1:].rpartition(')')[0]!r} "
                f"but received args: {args} and kwargs: {list(kwargs)}."
            ) from None
        bound.apply_defaults()
        return dict(bound.arguments)

    def arguments(self, parameters: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and named arguments that call the function with these parameters.

        Raises:
            SignatureMismatchError: a parameter is not the function's.
        """
        if self._simple:
            return (), parameters if type(parameters) is dict else dict(parameters)
        if unknown := [name for name in parameters if name not in self.takes]:
            raise SignatureMismatchError(
                f"Function expects parameters {list(self.names)} but was provided with parameters {list(parameters)}; "
                f"{unknown} are not among them."
            )
        bound = inspect.BoundArguments(self.signature, {n: parameters[n] for n in self.names if n in parameters})
        return bound.args, bound.kwargs

    def variadic_named(self) -> str | None:
        """The name of its `**` parameter, if it has one."""
        kinds = ((name, p.kind) for name, p in self.signature.parameters.items())
        return next((name for name, kind in kinds if kind is inspect.Parameter.VAR_KEYWORD), None)
