"""Hashes of values by their content, the same in every process.

Pickles are no good for that: their bytes depend on which objects happen to be shared, on the order of sets, on
interned strings. So a value is walked instead, and each part is written with its type and length into one hash:

- numbers, text, bytes, None; lists, tuples; dicts and sets, in the order of their parts' hashes, as equal ones may be
  ordered differently;
- dates, UUIDs, paths, enum members, ranges, slices: by their text or their parts;
- dataclasses, named tuples, pydantic models, msgspec structs and any other object that could be pickled: by what
  pickling would take them apart into (`__reduce_ex__`), part by part;
- functions by their code, defaults and closure; classes and modules by name;
- NumPy arrays by type, shape and content; pandas and polars frames by columns.

Equal values of different types (1, 1.0, True) have different hashes: two hashes too many cost a run, one too few costs
a wrong result. What has no content to compare (a lock, an open file, a generator) raises `HashError`.
"""

import hashlib
import marshal
import os
from collections.abc import Callable
from copyreg import dispatch_table
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from uuid import UUID

from headrace.exceptions import HashError

SIZE = 16  # bytes
_ATOMS = frozenset({int, float, str, bool, bytes, complex, type(None), type(Ellipsis)})
_TEXTS = (date, time, timedelta, timezone, UUID, PurePath, range, slice)
_DEEPEST = 200


def stable_hash(*args: str | bytes, hash_algo: Callable[..., Any] = hashlib.md5) -> str:
    """A hash of texts, one after the other.

    Args:
        args: texts.
        hash_algo: a constructor of `hashlib`.
    """
    state = hash_algo()
    for part in args:
        state.update(part.encode() if isinstance(part, str) else part)
    return str(state.hexdigest())


def file_hash(path: str | os.PathLike[str], hash_algo: Callable[..., Any] = hashlib.md5) -> str:
    """A hash of the content of a file.

    Args:
        path: of the file.
        hash_algo: a constructor of `hashlib`.
    """
    state = hash_algo()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    return str(state.hexdigest())


def hash_objects(
    *args: Any, hash_algo: Callable[..., Any] | None = None, raise_on_failure: bool = False, **kwargs: Any
) -> str | None:
    """A hash of values: see the head of this module.

    Args:
        args: any values.
        hash_algo: a constructor of `hashlib` to use instead of BLAKE2.
        raise_on_failure: raise when a value has no content to compare; otherwise None is returned.
        kwargs: further values, by name.

    Raises:
        HashError: with `raise_on_failure`, for a value that cannot be hashed.
    """
    try:
        digest = content_hash((args, kwargs) if kwargs else args)
    except HashError:
        if raise_on_failure:
            raise
        return None
    return digest.hex() if hash_algo is None else stable_hash(digest, hash_algo=hash_algo)


def content_hash(value: Any) -> bytes:
    """Sixteen bytes that stand for a value and its type.

    Raises:
        HashError: a part of it has no content to compare.
    """
    try:
        return _Walk().hash(value)
    except RecursionError as error:
        raise HashError(f"A value of type {type(value).__name__!r} is nested too deeply to be hashed.") from error


class _Walk:
    """One walk through a value. `_above` are the objects that the present one is a part of, for those that hold
    themselves."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def hash(self, value: Any) -> bytes:
        kind = type(value)
        if kind in _ATOMS:
            return _digest(b"a", marshal.dumps(value, 2))
        if id(value) in self._above:
            return _digest(b"^", str(len(self._above) - self._above[id(value)]).encode())
        if len(self._above) > _DEEPEST:
            raise RecursionError
        self._above[id(value)] = len(self._above)
        try:
            return self._walk(kind, value)
        finally:
            del self._above[id(value)]

    def _walk(self, kind: type, value: Any) -> bytes:
        if kind is list or kind is tuple:
            if set(map(type, value)) <= _ATOMS:
                return _digest(b"p", kind.__name__.encode(), marshal.dumps(value, 2))
            return _digest(b"l", kind.__name__.encode(), *map(self.hash, value))
        if kind is dict:
            return _digest(b"d", *sorted(self.hash(key) + self.hash(item) for key, item in value.items()))
        if kind is set or kind is frozenset:
            return _digest(b"s", kind.__name__.encode(), *sorted(map(self.hash, value)))
        special = self._special(kind, value)
        return special if special is not None else self._object(kind, value)

    def _special(self, kind: type, value: Any) -> bytes | None:
        """The hash of what is known by name; None for any other object."""
        if isinstance(value, type):
            return _digest(b"c", _name(value))
        if isinstance(value, Enum):
            return _digest(b"e", _name(kind), value.name.encode())
        if isinstance(value, _TEXTS):
            zone = b""
            if isinstance(value, datetime | time) and value.tzinfo is not None:  # repr would show the zone's address
                zone = self._zone(value.tzinfo)
                value = value.replace(tzinfo=None)
            return _digest(b"t", _name(kind), repr(value).encode(), zone)
        if isinstance(value, tzinfo):
            return self._zone(value)
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return _digest(b"m", self.hash(value.__func__), self.hash(value.__self__))
        if isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, ModuleType | type(None)):
            return _digest(b"b", f"{value.__module__}.{value.__qualname__}".encode())
        if isinstance(value, ModuleType):
            return _digest(b"n", value.__name__.encode())
        if isinstance(value, CodeType):
            return self._code(value)
        return self._table(kind, value)

    def _zone(self, zone: tzinfo) -> bytes:
        return _digest(b"z", _name(type(zone)), (getattr(zone, "key", None) or repr(zone)).encode())

    def _function(self, function: FunctionType) -> bytes:
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        parts = (function.__code__, function.__defaults__, function.__kwdefaults__, cells)
        return _digest(b"f", _name(function), *map(self.hash, parts))

    def _code(self, code: CodeType) -> bytes:
        parts = (code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_freevars, code.co_flags)
        return _digest(b"o", *map(self.hash, parts))

    def _table(self, kind: type, value: Any) -> bytes | None:
        """The hash of an array or a frame."""
        library = (kind.__module__ or "").partition(".")[0]
        if library == "numpy" and hasattr(value, "dtype") and hasattr(value, "tobytes"):
            content = self.hash(value.tolist()) if value.dtype.hasobject else value.tobytes()
            return _digest(b"N", _name(kind), repr((value.dtype.descr, value.shape)).encode(), content)
        if library == "pandas" and kind.__name__ == "DataFrame":
            columns = [value.iloc[:, place] for place in range(value.shape[1])]
            return _digest(b"P", self.hash(value.index), self.hash(value.columns), *map(self.hash, columns))
        if library == "pandas" and kind.__name__ == "Series":
            inner = (value.name, str(value.dtype), value.to_numpy())
            return _digest(b"S", self.hash(value.index), *map(self.hash, inner))
        if library == "pandas" and hasattr(value, "to_numpy") and hasattr(value, "names"):
            return _digest(
                b"I", _name(kind), self.hash((list(value.names), str(value.dtype))), self.hash(value.to_numpy())
            )
        if library == "polars" and hasattr(value, "to_dict") and hasattr(value, "schema"):
            return _digest(b"R", str(value.schema).encode(), self.hash(value.to_dict(as_series=False)))
        return None

    def _object(self, kind: type, value: Any) -> bytes:
        """The hash of any other object, by what pickling takes it apart into."""
        if hasattr(value, "__pydantic_fields_set__"):  # which fields were set and which are defaults does not count
            inner = (value.__dict__, value.__pydantic_extra__, value.__pydantic_private__)
            return _digest(b"M", _name(kind), *map(self.hash, inner))
        reducer = dispatch_table.get(kind)
        try:
            reduced = reducer(value) if reducer is not None else value.__reduce_ex__(4)
        except RecursionError:
            raise
        except Exception as error:
            raise HashError(f"a value of type {kind.__qualname__!r} has no content to compare ({error})") from error
        if isinstance(reduced, str):
            return _digest(b"g", _name(kind), reduced.encode())
        maker, arguments, *rest = reduced
        state, items, pairs = ([*rest, None, None, None])[:3]
        parts = [_name(maker), self.hash(arguments), self.hash(state)]
        parts.append(self.hash(None if items is None else list(items)))
        parts.append(self.hash(None if pairs is None else dict(pairs)))
        return _digest(b"r", _name(kind), *parts)


def _digest(*parts: bytes) -> bytes:
    """The hash of some parts, each with its length."""
    state = hashlib.blake2b(digest_size=SIZE)
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.digest()


def _name(thing: Any) -> bytes:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}".encode()


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  reading it is the test
    except ValueError:
        return False
    return True
