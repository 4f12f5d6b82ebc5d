"""How deep a body is nested is found without parsing it."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace.server.operations.arguments import _is_flat

TEXTS = st.text(alphabet='[]{}"\\a, ', max_size=6)
VALUES = st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


def levels(value: Any) -> int:
    """How deep a value is nested, by walking it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(levels, inner), default=0)


@given(VALUES, st.booleans())
def test_s6_brackets_and_quotes_inside_texts_do_not_count(value: Any, spaced: bool) -> None:
    """A body is flat at exactly the depths that a walk over its value finds."""
    raw = json.dumps(value, separators=None if spaced else (",", ":")).encode()

    assert [_is_flat(raw, depth) for depth in range(8)] == [levels(value) <= depth for depth in range(8)]
