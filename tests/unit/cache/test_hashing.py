"""Hashes by content: equal values have equal ones in every process, different values have different ones."""

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import io
import math
import os
import pathlib
import re
import subprocess
import sys
import threading
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headrace.exceptions import HashError
from headrace.utilities.hashing import content_hash, file_hash, hash_objects, stable_hash


class Color(enum.Enum):
    """An enumeration."""

    RED = 1
    BLUE = 2


class Model(BaseModel):
    """A pydantic model."""

    a: int = 1
    b: list[str] = []


class Wire(msgspec.Struct):
    """A msgspec struct."""

    a: int


@dataclasses.dataclass
class Data:
    """A dataclass."""

    a: int
    inner: Any = None


class Pair(NamedTuple):
    """A named tuple."""

    a: int
    b: int


class Plain:
    """An ordinary object."""

    def __init__(self, a: Any) -> None:
        self.a = a


def function(x: int, y: int = 2) -> int:
    """A function."""
    return x + y


def samples() -> list[Any]:
    """Values of many types, made anew."""
    return [
        1, 1.5, True, None, "text", b"bytes", 2j, "ä\ud800", [1, "a", None], (1, 2), {"a": 1, "b": [2]},
        {1, 2, 3}, frozenset("abc"), {"x", "y", "z", "w"}, range(3), slice(1, 2), re.compile("a+"), ValueError("x"),
        datetime.datetime(2026, 1, 2, 3), datetime.date(2026, 1, 2), datetime.timedelta(3),
        datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), zoneinfo.ZoneInfo("Europe/Berlin"),
        datetime.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        decimal.Decimal("1.10"), uuid.UUID(int=5), pathlib.PurePosixPath("/a"), Color.RED, Color,
        Model(a=2), Wire(a=1), Data(1, Data(2)), Pair(1, 2), Plain([1]), Plain({"s", "t", "u"}),
        function, functools.partial(function, y=3), len, math.sin, os, io.BytesIO,
        collections.OrderedDict(a=1), collections.Counter("aab"), collections.deque([1, 2]),
    ]  # fmt: skip


def test_equal_values_have_equal_hashes_in_every_process() -> None:
    """Whatever the seed of str's own hash, two processes agree on every sample."""
    program = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location({__name__!r}, {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec); sys.modules[spec.name] = module\n"
        "spec.loader.exec_module(module)\n"
        "print(*[module.content_hash(one).hex() for one in module.samples()])"
    )

    def run(seed: str) -> list[str]:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        )
        return done.stdout.split()

    assert run("1") == run("2") == [content_hash(one).hex() for one in samples()]


def test_different_values_have_different_hashes() -> None:
    """No two samples have the same hash."""
    hashes = [content_hash(one) for one in samples()]

    assert len(set(hashes)) == len(hashes)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.frozensets(st.text() | st.integers(), max_size=4)
    ),
    max_leaves=12,
)


def typed(value: Any) -> Any:
    """A value with its types, so that comparing tells 1 from 1.0 and True, and 0.0 from -0.0."""
    if isinstance(value, dict):
        return ("dict", sorted((repr(typed(key)), repr(typed(item))) for key, item in value.items()))
    if isinstance(value, frozenset):
        return ("frozenset", sorted(repr(typed(item)) for item in value))
    if isinstance(value, list | tuple):
        return (type(value).__name__, [typed(item) for item in value])
    return (type(value).__name__, repr(value))


@given(one=VALUES, other=VALUES)
def test_hashes_are_equal_exactly_when_values_are(one: Any, other: Any) -> None:
    """Equal in value and type, equal in hash; and the other way round."""
    assert (content_hash(one) == content_hash(other)) == (typed(one) == typed(other))


@given(value=st.dictionaries(st.text(), VALUES, max_size=6))
def test_the_order_of_a_dict_does_not_matter(value: dict[str, Any]) -> None:
    """Equal dicts have equal hashes in whatever order they were filled."""
    assert content_hash(dict(reversed(value.items()))) == content_hash(value)


def test_sharing_does_not_matter() -> None:
    """One object twice, or two equal ones: the hash is the same. (Pickles differ.)"""
    shared = [1, {"a": "b"}]

    assert content_hash([shared, shared]) == content_hash([[1, {"a": "b"}], [1, {"a": "b"}]])
    assert content_hash("".join(["ab", "cd"])) == content_hash("abcd")


def test_a_value_that_holds_itself_has_a_hash() -> None:
    """It is finite, and differs from one that holds another."""
    one: list[Any] = [1, {}]
    one.append(one)
    same: list[Any] = [1, {}]
    same.append(same)
    other: list[Any] = [1, {}, [1, {}]]

    assert content_hash(one) == content_hash(same) != content_hash(other)


def test_functions_are_hashed_by_what_they_do() -> None:
    """Equal code, defaults and closure are equal; any difference shows."""

    def make(number: int, default: int = 0) -> Callable[[int], int]:
        def inner(x: int, y: int = default) -> int:
            return x + y + number

        return inner

    assert content_hash(make(1)) == content_hash(make(1))
    assert len({content_hash(one) for one in (make(1), make(2), make(1, 5), function, Plain(1).__init__)}) == 5


def test_models_are_equal_however_their_defaults_came() -> None:
    """A field that was set to its default is the same as one that was left."""
    assert content_hash(Model(a=1)) == content_hash(Model()) != content_hash(Model(a=2))


def test_a_moment_is_told_from_the_same_clock_elsewhere() -> None:
    """The zone counts, also where the text of the time is the same."""
    berlin, paris = (
        datetime.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo(f"Europe/{city}")) for city in ("Berlin", "Paris")
    )

    assert len({content_hash(one) for one in (berlin, paris, berlin.replace(tzinfo=None))}) == 3


LOCK = threading.Lock()


@pytest.mark.parametrize("value", [LOCK, (x for x in [1]), Plain(LOCK), {"a": [LOCK]}])
def test_what_has_no_content_is_refused(value: Any) -> None:
    """Locks, generators and what holds them raise an error that names the type."""
    with pytest.raises(HashError, match=r"'lock'|'generator'"):
        content_hash(value)


def test_an_open_file_is_refused(tmp_path: pathlib.Path) -> None:
    """A file is named by its path, not by being open."""
    with open(tmp_path / "file", "w") as file, pytest.raises(HashError, match="TextIOWrapper"):
        content_hash(file)


def test_arrays_and_frames_are_hashed_by_content() -> None:
    """NumPy arrays by type, shape and content; pandas frames by columns, index and values."""
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")

    def arrays() -> list[Any]:
        base = numpy.arange(6)
        return [base, base.reshape(2, 3), base.astype("int32"), base[::2], numpy.array(["a", None], dtype=object)]

    def frames() -> list[Any]:
        base = pandas.DataFrame({"a": [1, 2], "b": ["x", None]}, index=["i", "j"])
        return [
            base, base[["b", "a"]], base.iloc[::-1], base.rename(columns={"a": "c"}), base.reset_index(drop=True),
            base["a"], base["a"].rename("d"), base.index, base.astype({"a": "float"}),
        ]  # fmt: skip

    for make in (arrays, frames):
        hashes = [content_hash(one) for one in make()]
        assert hashes == [content_hash(one) for one in make()]
        assert len(set(hashes)) == len(hashes)


def test_nesting_has_an_end() -> None:
    """A value nested thousands deep is refused, not a crash."""
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]

    with pytest.raises(HashError, match="deep"):
        content_hash(deep)


def test_hash_objects_as_prefect_has_it(tmp_path: pathlib.Path) -> None:
    """The helpers that users call: of several values, of texts, of a file."""
    (tmp_path / "file").write_bytes(b"abc")

    assert hash_objects(1, "a") == hash_objects(1, "a") != hash_objects("a", 1)
    assert hash_objects(1, name=2) != hash_objects(1, 2)
    assert hash_objects(threading.Lock()) is None
    with pytest.raises(HashError):
        hash_objects(threading.Lock(), raise_on_failure=True)
    assert file_hash(tmp_path / "file") == stable_hash("abc") == stable_hash("a", b"bc")
