"""Serializers: what comes back is what went in, in every format."""

import dataclasses
import datetime
import decimal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headrace.exceptions import SerializationError
from headrace.serializers import CompressedSerializer, JSONSerializer, PickleSerializer, Serializer, resolve_serializer

KINDS = ["pickle", "json", "compressed/pickle", "compressed/json"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Model(BaseModel):
    """A model of a user's."""

    name: str
    when: datetime.date


@dataclasses.dataclass
class Point:
    """A dataclass of a user's."""

    x: int
    tags: set[str]


class Upper(Serializer, kw_only=True):
    """A serializer of a user's."""

    type: str = "upper"
    suffix: str = ""

    def dumps(self, obj: Any) -> bytes:
        return (str(obj).upper() + self.suffix).encode()

    def loads(self, blob: bytes) -> Any:
        return blob.decode()


@pytest.mark.parametrize("kind", KINDS)
@given(value=JSON)
def test_plain_data_come_back(kind: str, value: Any) -> None:
    """Every format keeps what JSON knows."""
    serializer = resolve_serializer(kind)

    assert serializer.loads(serializer.dumps(value)) == value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "value",
    [
        Model(name="a", when=datetime.date(2026, 1, 2)),
        Point(1, {"a", "b"}),
        {"when": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "id": uuid.UUID(int=7)},
        [decimal.Decimal("1.50"), Path("/a/b"), {1, 2}, b"bytes"],
    ],
)
def test_objects_come_back(kind: str, value: Any) -> None:
    """Models, dataclasses, dates and their like come back with their type, out of JSON too."""
    serializer = resolve_serializer(kind)

    assert serializer.loads(serializer.dumps(value)) == value


def test_exceptions_come_back_from_json() -> None:
    """With their class and message."""
    serializer = JSONSerializer()

    back = serializer.loads(serializer.dumps(KeyError("gone")))

    assert isinstance(back, KeyError)
    assert "gone" in str(back)


def test_functions_of_main_go_by_value() -> None:
    """A pickle of something that is defined in `__main__` or in a function can be read by another process."""

    def make(number: int) -> Any:
        return lambda: number + 1

    blob = PickleSerializer().dumps({"f": make(41)})
    program = (
        "import sys\nfrom headrace.serializers import PickleSerializer\n"
        "print(PickleSerializer().loads(sys.stdin.buffer.read())['f']())"
    )

    other = subprocess.run([sys.executable, "-c", program], input=blob, capture_output=True, check=True)

    assert other.stdout.strip() == b"42"


def test_json_refuses_what_it_cannot_hold() -> None:
    """The error names the type."""
    with pytest.raises(SerializationError, match="'function'"):
        JSONSerializer().dumps(lambda: None)


def test_damaged_bytes_are_an_error_of_one_kind() -> None:
    """Whatever is wrong with stored bytes, it is a SerializationError."""
    for kind in KINDS:
        with pytest.raises(SerializationError):
            resolve_serializer(kind).loads(b"?? no such thing")


def test_serializers_are_found_by_type() -> None:
    """By name, by fields, as themselves; those of users too. Unknown ones are refused with what there is."""
    assert resolve_serializer("upper") == Upper()
    assert resolve_serializer({"type": "upper", "suffix": "!"}).dumps("a") == b"A!"
    assert resolve_serializer(Upper(suffix="?")) == Upper(suffix="?")
    nested = CompressedSerializer(serializer={"type": "json"}, compressionlib="gzip")
    assert nested.loads(nested.dumps([1])) == [1]
    with pytest.raises(ValueError, match=r"'nope'.*compressed/json"):
        resolve_serializer("nope")
    with pytest.raises(TypeError, match="int"):
        resolve_serializer(3)  # type: ignore[arg-type]


def test_options_of_json_reach_its_library() -> None:
    """`dumps_kwargs` and `loads_kwargs` are passed on; those that headrace sets itself are refused."""
    assert JSONSerializer(dumps_kwargs={"indent": 1}).dumps([1]) == b"[\n 1\n]"
    assert JSONSerializer(loads_kwargs={"parse_float": decimal.Decimal}).loads(b"1.5") == decimal.Decimal("1.5")
    with pytest.raises(ValueError, match="object_encoder"):
        JSONSerializer(dumps_kwargs={"default": str})
