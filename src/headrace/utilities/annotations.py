"""Marks around an argument that say how the engine shall treat it.

A mark holds one value: `unmapped(x).value`. Marks are seen by the engine only when they are given to a call; a flow or
task receives the plain value.
"""

from typing import Any, Generic, TypeVar

T = TypeVar("T")


class BaseAnnotation(Generic[T]):
    """A mark around one value.

    Args:
        value: what is marked.
    """

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def unwrap(self) -> T:
        """The value without the mark."""
        return self.value

    def rewrap(self, value: Any) -> "BaseAnnotation[Any]":
        """The same mark around another value."""
        return type(self)(value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self), self.value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class unmapped(BaseAnnotation[T]):
    """An argument of `map` that every call gets whole, though it could be iterated over."""

    __slots__ = ()

    def __getitem__(self, _: object) -> T:
        return self.value


class allow_failure(BaseAnnotation[T]):
    """An upstream run that may fail: the task runs all the same and gets the exception in place of the result."""

    __slots__ = ()


class quote(BaseAnnotation[T]):
    """A value that is passed on as it is: not searched for futures or states, however big."""

    __slots__ = ()

    def unquote(self) -> T:
        """The value."""
        return self.value


class Quote(quote[T]):
    """An older name of `quote`."""

    __slots__ = ()


class opaque(BaseAnnotation[T]):
    """A value that takes no part in working out what a task depends on."""

    __slots__ = ()


class freeze(BaseAnnotation[T]):
    """A parameter of a deployment that shall not be changed by a run."""

    __slots__ = ()

    def unfreeze(self) -> T:
        """The value."""
        return self.value


class NotSet:
    """Stands for "not given" where None is a value."""
