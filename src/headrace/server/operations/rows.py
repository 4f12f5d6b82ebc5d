"""Rows of the database as plain dictionaries, which msgspec turns into structs."""

import functools
from typing import Any

from sqlalchemy import Row


def values_of(row: Row[Any]) -> dict[str, Any]:
    """The columns of a row by name."""
    return dict(zip(_names(row._fields), row, strict=True))


@functools.cache
def _names(fields: tuple[str, ...]) -> tuple[str, ...]:
    """Names as plain `str`: SQLAlchemy's are of a subclass, which msgspec does not take for keys."""
    return tuple(str(name) for name in fields)
