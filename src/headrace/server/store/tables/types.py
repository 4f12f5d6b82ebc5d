"""Column types that mean the same on SQLite and on PostgreSQL.

A stored value that cannot be read comes out as `Unreadable`, so that it spoils its own row, which nothing will take
it for, and not the fetching of all the others.  # G13
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, DateTime, Dialect, LargeBinary, String, Text, Uuid
from sqlalchemy.types import TypeDecorator, TypeEngine

from headrace._internal.ids import uuid_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = datetime(1970, 1, 1)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
Columns = Callable[[Sequence[Any]], Iterable[Any]]
"""Converts the values of a column."""
_convert, _IDS = msgspec.convert, list[UUID | None]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A stored value that is not of its column's type."""

    value: object


def _read_id(value: Any) -> Any:
    if value is None:
        return None
    if type(value) is bytes and len(value) == 16:
        return uuid_of(int.from_bytes(value))
    return Unreadable(value)


def _read_ids(column: Sequence[Any]) -> Iterable[Any]:
    try:
        return _convert(column, _IDS)
    except msgspec.ValidationError:
        return map(_read_id, column)


def _read_moment(value: Any) -> Any:
    try:
        return None if value is None else _EPOCH + timedelta(0, 0, value)  # by name it would take a third longer
    except (TypeError, OverflowError):
        return Unreadable(value)


def _read_moments(column: Sequence[Any]) -> Iterable[Any]:
    try:
        return [None if value is None else _EPOCH + timedelta(0, 0, value) for value in column]
    except (TypeError, OverflowError):
        return map(_read_moment, column)


def _write_ids(column: Sequence[Any]) -> Iterable[Any]:
    return [None if value is None else value.int.to_bytes(16) for value in column]  # half the cost of `bytes`


def _write_moments(column: Sequence[Any]) -> Iterable[Any]:
    return [None if value is None else microseconds(value) for value in column]


def _write_json(column: Sequence[Any]) -> Iterable[Any]:
    return [None if value is None else _encode(value).decode() for value in column]


def column_writer(kind: TypeEngine[Any], dialect: Dialect) -> Columns | None:
    """What makes of a whole column of values what the database stores; None where each is converted by itself."""
    if isinstance(kind, Json):
        return _write_json
    if dialect.name == "sqlite":
        return _write_ids if isinstance(kind, Id) else _write_moments if isinstance(kind, Moment) else None
    return None


def column_reader(kind: TypeEngine[Any], dialect: Dialect) -> Columns | None:
    """What reads a whole column of a result at once; None where each value is read by itself."""
    if dialect.name == "sqlite":
        return _read_ids if isinstance(kind, Id) else _read_moments if isinstance(kind, Moment) else None
    return None


def _read_json(value: Any) -> Any:
    try:
        return None if value is None else _decode(value)
    except (ValueError, TypeError):  # msgspec's errors are ValueErrors
        return Unreadable(value)


class Id(TypeDecorator[UUID]):
    """A UUID: 16 bytes in SQLite, where the order of bytes is the order of version 7 ids; native in PostgreSQL."""

    impl = LargeBinary(16)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Uuid() if dialect.name == "postgresql" else LargeBinary(16))

    def bind_processor(self, dialect: Dialect) -> Any:
        if dialect.name == "postgresql":
            return None
        return lambda value: None if value is None else value.bytes

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:  # noqa: ARG002
        if dialect.name == "postgresql":
            return None
        return _read_id


def aware(moment: datetime) -> datetime:
    """A moment with its time zone: UTC when it has none, which JSON allows."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """A moment as SQLite stores it: microseconds since 1970."""
    since = moment - (_EPOCH if moment.tzinfo is not None else _NAIVE_EPOCH)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds  # a quarter of the cost of `//`


class Moment(TypeDecorator[datetime]):
    """A moment in UTC: microseconds since 1970 in SQLite, `timestamptz` in PostgreSQL.

    One without a time zone is taken for UTC.
    """

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DateTime(timezone=True) if dialect.name == "postgresql" else BigInteger())

    def bind_processor(self, dialect: Dialect) -> Any:
        if dialect.name == "postgresql":
            return lambda value: None if value is None else aware(value)
        return lambda value: None if value is None else microseconds(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:  # noqa: ARG002
        if dialect.name == "postgresql":
            return lambda value: None if value is None else value.astimezone(UTC)
        return _read_moment


class Json(TypeDecorator[Any]):
    """Any value that msgspec writes as JSON: text in SQLite, `jsonb` in PostgreSQL. None is SQL's NULL."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import JSONB  # costs 40 ms, which a run on SQLite need not pay

            return dialect.type_descriptor(JSONB())
        return dialect.type_descriptor(Text())

    def bind_processor(self, dialect: Dialect) -> Any:  # noqa: ARG002
        return lambda value: None if value is None else _encode(value).decode()

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:  # noqa: ARG002
        return _read_json  # psycopg leaves it as text, see `postgresql_lines.leave_json`


Name = String  # lengths are checked where input is read, not by the database
