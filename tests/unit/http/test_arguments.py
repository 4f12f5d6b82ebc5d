"""Whatever a caller sends, it is an argument or a refusal that names its place, and never an accident."""

import json
import math
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.exceptions import ValidationFailed
from headrace.server.operations.arguments import BodyReader, read_text
from tests.support.shelf import CREATE_BOOK, READ_BOOKS, NewBook

READERS = [BodyReader(one.body) for one in (CREATE_BOOK, READ_BOOKS)]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.fixed_dictionaries(
    {}, optional={"title": VALUES, "pages": VALUES, "notes": VALUES, "read_at": VALUES, "limit": VALUES}
)


def outcome(reader: BodyReader, raw: bytes) -> Any:
    """What was read, or the place of the first fault."""
    try:
        return reader.read(raw)
    except ValidationFailed as refusal:
        details = refusal.details
    assert details
    assert all(one["loc"][0] == "body" and one["msg"] and one["type"] for one in details)
    return details[0]["loc"]


@given(st.binary(max_size=200))
@example(b'{"title": 3, bad')
@example(b'{"title": 3, "x": "\xff"}')
@example(b'{"title": 3, "x": ' + b"[" * 5000)
@example(b'{"title": "A", "x": ' + b'{"a":' * 200 + b"1" + b"}" * 201)
@settings(max_examples=300, deadline=None)
def test_s6_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """No sequence of bytes raises anything but a refusal with a place."""
    for reader in READERS:
        outcome(reader, raw)


@given(BODIES)
@settings(max_examples=300, deadline=None)
def test_s6_any_json_is_read_or_refused(body: dict[str, Any]) -> None:
    """No JSON does either; and what is accepted can be encoded and read again as the same."""
    raw = json.dumps(body).encode()

    for reader in READERS:
        read = outcome(reader, raw)
        if isinstance(read, msgspec.Struct):
            assert reader.read(msgspec.json.encode(read)) == read


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_s6_accepted_values_fit_every_database(value: Any) -> None:
    """In what is accepted there is no NUL, no lone surrogate, and no number beyond 64 bits."""
    read = outcome(READERS[0], json.dumps({"title": "A", "notes": {"n": value}}).encode())

    waiting = [read.notes] if isinstance(read, NewBook) else []
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            assert "\0" not in one
            one.encode()
        elif isinstance(one, int):
            assert -(2**63) <= one < 2**63
        elif isinstance(one, float):
            assert math.isfinite(one)
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            waiting += one


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_s6_any_text_of_path_or_query_is_read_or_refused(text: str) -> None:
    """A text is read as the type it should have, or refused with its place."""
    for wanted in (str, int, bool, UUID, float):
        details = None
        try:
            assert isinstance(read_text(text, wanted, ("query", "q")), wanted)
        except ValidationFailed as refusal:
            details = refusal.details
        assert details is None or details[0]["loc"] == ["query", "q"]


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_s6_text_that_no_database_keeps_is_refused(text: str) -> None:
    """NUL and lone surrogates do not get in by path or query either."""
    with pytest.raises(ValidationFailed, match="NUL or is not valid Unicode"):
        read_text(text, str, ("path", "name"))
