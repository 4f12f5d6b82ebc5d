"""`map`: one call for each element of the lists among the arguments."""

from collections.abc import Iterable
from io import IOBase
from typing import Any

from headrace.engine.signature import FunctionSignature
from headrace.engine.upstream import Resolver, RunFuture, search, wait_for_all
from headrace.exceptions import MappingLengthMismatch, MappingMissingIterable
from headrace.schemas.states import State
from headrace.utilities.annotations import BaseAnnotation, allow_failure, unmapped

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def calls_of_map(signature: FunctionSignature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Arguments]:
    """The arguments of each call that `map(*args, **kwargs)` makes.

    Lists and other iterables are taken element by element; text, bytes, mappings of `unmapped` and all else goes to
    every call. A future or state counts as what it holds, and is waited for.

    Raises:
        ParameterBindError: the arguments do not fit the function.
        MappingMissingIterable: there is nothing to map over.
        MappingLengthMismatch: the lists differ in length.
    """
    signature.bind(args, kwargs)
    columns = [_column(value) for value in args]
    named = {name: _column(value) for name, value in kwargs.items()}
    lengths = {
        name: len(column)
        for name, column in (*zip(_names(signature, len(args)), columns, strict=True), *named.items())
        if column is not None
    }
    if not lengths:
        raise MappingMissingIterable(
            "No iterable parameters were received. Parameters for map must include at least one iterable. "
            f"Parameters: {dict(zip(_names(signature, len(args)), args, strict=True)) | kwargs}"
        )
    if len(set(lengths.values())) > 1:
        raise MappingLengthMismatch(
            "Received iterable parameters with different lengths. Parameters for map must all be the same length. "
            f"Got lengths: {lengths}"
        )
    count = next(iter(lengths.values()))
    fixed = [_fixed(value) if column is None else None for value, column in zip(args, columns, strict=True)]
    fixed_named = {name: _fixed(value) for name, value in kwargs.items() if named[name] is None}
    mapped_named = {name: column for name, column in named.items() if column is not None}
    calls = []
    for i in range(count):
        row = tuple(fixed[n] if column is None else column[i] for n, column in enumerate(columns))
        calls.append((row, fixed_named | {name: column[i] for name, column in mapped_named.items()}))
    return calls


def _names(signature: FunctionSignature, number: int) -> list[str]:
    names = list(signature.names[:number])
    return names + [f"{names[-1] if names else 'argument'}_{n}" for n in range(number - len(names))]


def _fixed(value: Any) -> Any:
    return value.value if isinstance(value, unmapped) else value


def _column(value: Any) -> list[Any] | None:
    """The elements to map over; None for what goes to every call."""
    if isinstance(value, allow_failure):
        inner = _column(value.value)
        return None if inner is None else [allow_failure(item) for item in inner]
    if isinstance(value, BaseAnnotation | str | bytes | bytearray | IOBase):
        return None
    if isinstance(value, RunFuture | State):
        wait_for_all(search([value])[0])
        value = Resolver(None).resolve(value)
        return _column(value)
    if type(value) is list:
        return value
    return list(value) if isinstance(value, Iterable) else None
