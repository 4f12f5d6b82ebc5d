"""Rows of the database as plain dictionaries, which msgspec turns into structs."""

import functools
from typing import Any

from msgspec.structs import astuple
from sqlalchemy import Row

from headrace.schemas.states import State, StateDetails

_DETAILS, _NO_DETAILS = StateDetails.__struct_fields__, astuple(StateDetails())


def values_of(row: Row[Any]) -> dict[str, Any]:
    """The columns of a row by name."""
    return dict(zip(_names(row._fields), row, strict=True))


@functools.cache
def _names(fields: tuple[str, ...]) -> tuple[str, ...]:
    """Names as plain `str`: SQLAlchemy's are of a subclass, which msgspec does not take for keys."""
    return tuple(str(name) for name in fields)


def set_details(details: StateDetails) -> dict[str, Any]:
    """Those details of a state that say something."""
    given = zip(_DETAILS, astuple(details), _NO_DETAILS, strict=True)
    return {name: value for name, value, usual in given if value is not usual}


def kept_data(state: State) -> Any:
    """The data of a state; None when it only says that a result was not kept, which is as good as none."""
    unpersisted = isinstance(state.data, dict) and state.data.get("type") == "unpersisted"
    return None if unpersisted else state.data
