"""How attributes of `headrace.runtime` are looked up: in the environment first, then in the run."""

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

_NO = frozenset({"", "0", "false", "f", "no", "n", "off"})


def cast(text: str, like: Any) -> Any:
    """A text of the environment as the type that the attribute has.

    Args:
        text: the text.
        like: the attribute's value as it would be without it.

    Raises:
        ValueError: the type has no form as text.
    """
    kind = type(like)
    if kind is bool:
        return text.lower() not in _NO
    if kind in (int, float):
        return kind(text)
    if kind is datetime:
        return datetime.fromisoformat(text)
    if kind is str or like is None:
        return text
    raise ValueError(f"An attribute of type {kind.__name__!r} cannot be set by a variable of the environment.")


def find(section: str, fields: Mapping[str, Callable[[], Any]], name: str) -> Any:
    """The value of an attribute.

    Args:
        section: `FLOW_RUN`, `TASK_RUN` or `DEPLOYMENT`.
        fields: what gives the value of each attribute.
        name: the attribute.

    Raises:
        AttributeError: there is no such attribute.
    """
    for prefix in ("HEADRACE", "PREFECT"):
        text = os.environ.get(f"{prefix}__RUNTIME__{section}__{name.upper()}")
        if text is not None:
            return cast(text, fields[name]()) if name in fields else text
    if name not in fields:
        raise AttributeError(f"headrace.runtime.{section.lower()} has no attribute {name!r}")
    return fields[name]()
