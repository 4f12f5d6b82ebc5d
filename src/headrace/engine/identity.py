"""Which run is which: the identity of task runs and child flow runs within their flow run.  # G10

A run's dynamic key is a hash of its inputs and its occurrence among calls of the same task with equal inputs:
`3f2a9c0b41d7e856-0`. It does not depend on the order in which different calls are made, so when a flow is tried again
each call finds what became of the same call before, whatever order threads and coroutines run in. Calls that are equal
are interchangeable, so counting them is enough.

Inputs are compared by value and exact type. For plain data (numbers, text, bytes, None, lists, tuples, dicts and sets
of them) the hash is made from its bytes; dates, UUIDs, paths, decimals and enum members have a text that is as good.
Anything else is pickled, which costs time for large objects; that is done only where it can be of use, because the
result will be persisted. Otherwise, and when pickling fails, the key is random and matches nothing: doubt means running
again, never a foreign result.
"""

import marshal
import pickle
import threading
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from pathlib import PurePath
from typing import Any
from uuid import UUID

from headrace._internal.ids import uuid7

ATOMS = frozenset({int, float, str, bool, type(None), bytes})
_TEXTS = frozenset({datetime, date, time, timedelta, Decimal, UUID, complex})
_SMALL = 20_000  # elements of a collection that are looked at for a key that is of no use but to tell calls apart


def _dump(value: Any) -> bytes:
    return marshal.dumps(value, 2)  # version 2 has no references to earlier parts, so equal values give equal bytes


class NoIdentity(Exception):
    """A value cannot be compared by its content."""


def is_plain(value: Any) -> bool:
    """Whether `value` is made of nothing but numbers, text, bytes and None, of exactly these types."""
    kind = type(value)
    if kind in ATOMS:
        return True
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        kinds = set(map(type, value))
        return kinds <= ATOMS or all(map(is_plain, value))
    if kind is dict:
        return set(map(type, value)) <= ATOMS and (
            set(map(type, value.values())) <= ATOMS or all(map(is_plain, value.values()))
        )
    return False


def canonical(value: Any, deep: bool) -> Any:
    """`value` as plain data that differs whenever the value or its type differs; a number first says how to read it.

    Args:
        value: anything.
        deep: pickle what is not data.

    Raises:
        NoIdentity: it cannot be compared by its content, or only by pickling and `deep` is false.
    """
    kind = type(value)
    if kind in ATOMS:
        return (0, value)
    if not deep and kind in (list, tuple, set, frozenset, dict) and len(value) > _SMALL:
        raise NoIdentity
    if is_plain(value):
        return (0, value)
    if kind in (list, tuple):
        return (1, kind.__name__, [canonical(item, deep) for item in value])
    if kind in (set, frozenset):
        return (1, kind.__name__, sorted(_dump(canonical(item, deep)) for item in value))
    if kind is dict:
        return (1, "dict", [(canonical(key, deep), canonical(item, deep)) for key, item in value.items()])
    if kind in _TEXTS or isinstance(value, PurePath):
        return (2, kind.__module__, kind.__qualname__, repr(value))
    if isinstance(value, Enum):
        return (3, kind.__module__, kind.__qualname__, value.name)
    if not deep:
        raise NoIdentity
    try:
        return (4, kind.__module__, kind.__qualname__, pickle.dumps(value, protocol=5))
    except Exception as error:
        raise NoIdentity from error


def inputs_hash(parameters: Mapping[str, Any], deep: bool) -> str:
    """Sixteen hexadecimal digits that stand for the inputs of a call; random ones when they have no identity.

    Args:
        parameters: the inputs by name, with futures replaced by results.
        deep: pickle what is not data, because the result is going to be found again.
    """
    try:
        if set(map(type, parameters.values())) <= ATOMS:
            content: Any = dict(parameters)
        else:
            content = [(name, canonical(value, deep)) for name, value in parameters.items()]
        return blake2b(_dump(content), digest_size=8).hexdigest()
    except (NoIdentity, ValueError, RecursionError):
        return f"x{uuid7().hex[17:]}"


class Occurrences:
    """Counts equal calls within one flow run."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def dynamic_key(self, task_key: str, inputs: str) -> str:
        """The dynamic key of the next call of that task with those inputs.

        Args:
            task_key: the task.
            inputs: what `inputs_hash` made of its inputs.
        """
        key = (task_key, inputs)
        with self._lock:
            ordinal = self._seen.get(key, 0)
            self._seen[key] = ordinal + 1
        return f"{inputs}-{ordinal}"


def function_key(function: Callable[..., Any], name: str) -> str:
    """The key of a task or flow: its function's name, and eight digits that stand for its module and qualified name.

    Args:
        function: the user's function.
        name: a name to fall back on.
    """
    called = getattr(function, "__qualname__", name)
    module = getattr(function, "__module__", "")
    digest = blake2b(f"{module}:{called}".encode(), digest_size=4).hexdigest()
    return f"{getattr(function, '__name__', name)}-{digest}"
