"""Statements composed from filters: compiled once for each question, and then handed to the driver.

Composing a select from a filter and running it by SQLAlchemy takes 200 µs, ten times what a database needs to find a
page; and callers ask the same again and again. So the compiled form is kept by what was asked, and what differs from
one time to the next, ids and moments, are its parameters: a list of the last hour asks for another hour each time.

A form is made when its question comes for the second time, as to make one takes longer than to run the statement once.
"""

from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Dialect, Executable

from headrace.server.store.prepared import Form

MOST = 500
"""So many forms are kept, of some kilobytes each; a caller who makes up questions only makes others slower."""
LONGEST = 100
"""The longest list whose values are parameters of their own; a longer one is not worth keeping a form for."""
WIDEST = 2_000
"""So many characters of texts at most are kept of a question.  # G14"""


class Question:
    """What is asked, told apart from the values it is asked about.

    Args:
        parts: texts, numbers, filters and lists of them, which together say what statement is composed.
    """

    __slots__ = ("_known", "_width", "key", "values")

    def __init__(self, *parts: Any) -> None:
        self._known: set[int] = set()
        self._width = 0
        self.values: list[UUID | datetime] = []
        """The ids and moments in it."""
        self.key: Hashable | None = None
        """Equal for those questions that differ in their values only; None when its form is not kept."""
        try:
            self.key = tuple([self._part(part) for part in parts])
            hash(self.key)
        except (_Unkept, TypeError):
            self.key = None

    def _part(self, part: Any) -> Hashable:
        if isinstance(part, Struct):
            fields = [(name, getattr(part, name)) for name in part.__struct_fields__]
            return type(part), *[(name, self._part(value)) for name, value in fields if value is not None]
        if isinstance(part, list | tuple):
            if len(part) > LONGEST:
                raise _Unkept
            return tuple([self._part(one) for one in part])
        if isinstance(part, str):
            self._width += len(part)
            if self._width > WIDEST:
                raise _Unkept
        return self._value(part) if isinstance(part, UUID | datetime) else part

    def _value(self, value: UUID | datetime) -> Hashable:
        """The place of a value, which is known by its identity: it must not stand in two places."""
        if id(value) in self._known:
            raise _Unkept
        self._known.add(id(value))
        self.values.append(value)
        return type(value), len(self.values) - 1


class _Unkept(Exception):
    """It is not worth keeping a form for this question, or not safe."""


class _Never:
    """Stands for the form of a question whose values are changed on their way into the statement."""


NEVER = _Never()
_KEPT: dict[Hashable, Form | _Never | None] = {}
"""Forms by database and question; None for a question that came once."""


def form_of(dialect: Dialect, question: Question, compose: Callable[[], Executable]) -> Form | None:
    """The form of the statement that a question is composed to; None when it is better run as it is.

    Args:
        dialect: of the database.
        question: what is asked.
        compose: makes the statement; it may look at nothing that the question does not tell.
    """
    if question.key is None:
        return None
    key = (dialect.name, question.key)
    form = _KEPT.get(key)
    if form is None and key in _KEPT:
        form = Form(compose(), dialect, values=question.values)
        form = _KEPT[key] = form if form.places == set(range(len(question.values))) else NEVER
    elif form is None:
        if len(_KEPT) >= MOST:
            _KEPT.clear()
        _KEPT[key] = None
    return form if isinstance(form, Form) else None
