"""From what a caller sent to the arguments of an operation, for both transports.

A body is read by a typed decoder made once for each operation. What JSON allows and a database does not (NUL,
integers beyond 64 bits, nesting without end) is refused here, so that no operation meets it.  # S6

Decoding is strict first: it is the fast way, and what our own clients send. What fails there is read once more as
Prefect's server reads it: text is taken for numbers and booleans, and a field of the body that is null for one that was
left out.
"""

import re
from itertools import islice
from typing import Any
from uuid import UUID

import msgspec

from headrace.exceptions import ValidationFailed

DEPTH = 64
INVALID = "Invalid request received."
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_LONG_NUMBER = b"0" * 19
_AS_NAUGHT = bytes.maketrans(b"123456789E+", b"000000000e-")
_EXPONENTS = (b"0e000", b"0e-000")
_COSTLY_NUMBER = re.compile(rb"[0-9][eE][-+]?0*(?:2[5-9]|3[0-9])[0-9](?=[\s,\]}])")
MOST_BRACKETS = 300_000
"""Lists and objects that a body may have: making so many takes 0.1 s, in one go.  # S7"""
MOST_COSTLY = 1_000
"""Numbers of 1e250 and more, or as near to zero, that a body may have: each takes 15 µs to read, in one go.  # S7"""
_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_LEAST, _MOST = -(2**63), 2**63 - 1
_PLACE = re.compile(r"^(?P<fault>.*?)(?: - at (?:`key` in )?`(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_MISSING = re.compile(r"^Object missing required field `([^`]*)`")
_UNKNOWN = re.compile(r"^Object contains unknown field `([^`]*)`")
_KINDS = (
    ("<=", "less_than_equal"),
    (">=", "greater_than_equal"),
    (" < ", "less_than"),
    (" > ", "greater_than"),
    ("matching regex", "string_pattern_mismatch"),
    ("of length", "length"),
    ("Invalid UUID", "uuid_parsing"),
    ("RFC3339", "datetime_parsing"),
    ("Invalid enum value", "enum"),
    ("Expected `int", "int_type"),
    ("Expected `str", "string_type"),
    ("Expected `bool", "bool_type"),
    ("Expected `float", "float_type"),
    ("Expected `array", "list_type"),
    ("Expected `object", "dict_type"),
    ("Expected `uuid", "uuid_parsing"),
    ("Expected `datetime", "datetime_parsing"),
)

Detail = dict[str, Any]


def detail(kind: str, place: list[str | int], message: str) -> Detail:
    """One fault, as Prefect's clients know it: what kind, where, and in words."""
    return {"type": kind, "loc": place, "msg": message}


def invalid(*details: Detail) -> ValidationFailed:
    """The error that names these faults and their places."""
    told = "; ".join(f"{'.'.join(str(step) for step in one['loc'])}: {one['msg']}" for one in details)
    return ValidationFailed(f"{INVALID} {told}", list(details))


def fault_of(error: Exception, root: str) -> Detail:
    """Turn what msgspec says into a fault with its place, below `root` ("body", "query", "path")."""
    found = _PLACE.match(str(error))
    assert found is not None
    fault, path = found["fault"], found["path"] or ""
    place: list[str | int] = [root]
    for name, index in _STEP.findall(path):
        place.append(name or (int(index) if index.isdigit() else index))
    if missing := _MISSING.match(fault):
        return detail("missing", [*place, missing[1]], "Field required")
    if unknown := _UNKNOWN.match(fault):
        return detail("extra_forbidden", [*place, unknown[1]], "This field is not known")
    kind = next((kind for words, kind in _KINDS if words in fault), "value_error")
    return detail(kind, place, fault)


class BodyReader:
    """Reads the bodies of one operation, or the messages of one socket.

    Args:
        wanted: their type.
        depth: how deep a body may be nested.
    """

    def __init__(self, wanted: Any, depth: int = DEPTH) -> None:
        self._strict = msgspec.json.Decoder(wanted)
        self._lax = msgspec.json.Decoder(wanted, strict=False)
        self._depth = depth
        self._complete = getattr(wanted, "complete", None)

    def read(self, raw: bytes) -> Any:
        """The body as its type says; an absent one, and `null`, is read as `{}`.

        Raises:
            ValidationFailed: it is no JSON, not of its type, or holds what no database can keep.
        """
        absent = not raw or raw == b"null"
        if absent:
            raw = b"{}"
        shape = raw.translate(_AS_NAUGHT)
        brackets = raw.count(b"[") + raw.count(b"{")
        if brackets > MOST_BRACKETS:
            raise invalid(
                detail("too_costly", ["body"], "The body has too many lists and objects. Send less at a time.")
            )
        if len(raw) > 4 * MOST_COSTLY and sum(map(shape.count, _EXPONENTS)) > MOST_COSTLY:
            _refuse_what_takes_long(raw)
        try:
            value = self._decode(raw)
        except ValidationFailed:
            if absent:
                raise invalid(detail("missing", ["body"], "Field required")) from None
            raise
        _refuse_what_no_database_keeps(raw, shape, brackets, self._depth)
        return value

    def _decode(self, raw: bytes) -> Any:
        try:
            return self._strict.decode(raw)
        except msgspec.ValidationError as error:
            fault = fault_of(error, "body")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise invalid(detail("json_invalid", ["body"], f"JSON decode error: {_plain(error)}")) from None
        except RecursionError:
            raise invalid(_too_deep(self._depth)) from None
        try:
            return self._lax.decode(self._mended(raw))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # what stands behind the first fault
            mended = self._complete is not None and isinstance(error, msgspec.ValidationError)
            raise invalid(fault_of(error, "body") if mended else fault) from None

    def _mended(self, raw: bytes) -> bytes:
        """A body without the fields that are null, and with what its type knows to add."""
        said = msgspec.json.decode(raw)
        if not isinstance(said, dict) or (None not in said.values() and self._complete is None):
            return raw
        said = {name: value for name, value in said.items() if value is not None}
        if self._complete is not None:
            self._complete(said)
        return msgspec.json.encode(said)


def _plain(error: Exception) -> str:
    """What is wrong with the JSON, without the bytes around it.  # S16"""
    return error.reason if isinstance(error, UnicodeDecodeError) else str(error)


def _too_deep(depth: int) -> Detail:
    return detail("too_deep", ["body"], f"The body is nested deeper than {depth} levels. Make it flatter.")


def _refuse_what_takes_long(raw: bytes) -> None:
    if sum(1 for _ in islice(_COSTLY_NUMBER.finditer(raw), MOST_COSTLY + 1)) > MOST_COSTLY:
        raise invalid(detail("too_costly", ["body"], "The body has too many numbers next to zero or beyond 1e250."))


def _refuse_what_no_database_keeps(raw: bytes, shape: bytes, brackets: int, depth: int) -> None:
    """Look through well-formed JSON for NUL, numbers beyond 64 bits, and too deep a nesting.  # S6"""
    if b"\\u0000" in raw and _NUL.search(raw):
        raise invalid(detail("nul_character", ["body"], "A text holds the character NUL (\\u0000). Leave it out."))
    if brackets > depth and not _is_flat(raw, depth):
        raise invalid(_too_deep(depth))
    if _LONG_NUMBER in shape and (place := _too_large(msgspec.json.decode(raw), ["body"])):
        raise invalid(detail("int_too_large", place, "A whole number must fit in 64 bits."))


def _is_flat(raw: bytes, depth: int) -> bool:
    """Whether well-formed JSON has at most `depth` levels, found at the speed of C."""
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    # between two brackets, an odd number of quotes says that one of them is inside a text
    marks = raw.translate(_AS_SQUARE, _NO_MARKS).replace(b'""', b"")
    brackets = b"".join(marks.split(b'"')[::2])
    for _ in range(depth):  # each round takes away the innermost level
        if not brackets:
            break
        brackets = brackets.replace(b"[]", b"")
    return not brackets


def _too_large(value: Any, place: list[str | int]) -> list[str | int] | None:
    """Where a number beyond 64 bits stands; None when there is none."""
    waiting = [(value, place)]
    while waiting:
        value, place = waiting.pop()
        if isinstance(value, int) and not _LEAST <= value <= _MOST:
            return place
        if isinstance(value, dict):
            waiting.extend((item, [*place, key]) for key, item in value.items())
        elif isinstance(value, list):
            waiting.extend((item, [*place, index]) for index, item in enumerate(value))
    return None


def read_text(text: str, wanted: Any, place: tuple[str, str]) -> Any:
    """Read a value of the path or the query as the type its operation declares.

    Args:
        text: the value, percent-decoding done.
        wanted: its type.
        place: where it stood, such as `("query", "since")`.

    Raises:
        ValidationFailed: it cannot be read so.
    """
    if wanted is str:
        value: Any = text
    else:
        try:
            value = UUID(text) if wanted is UUID else msgspec.convert(text, wanted, strict=False)
        except ValueError as error:  # msgspec's own is one
            known = isinstance(error, msgspec.ValidationError)
            fault = fault_of(error, place[0]) if known else detail("uuid_parsing", [], "Invalid UUID")
            raise invalid({**fault, "loc": list(place)}) from None
    if isinstance(value, str) and ("\0" in value or not (value.isascii() or _is_unicode(value))):
        raise invalid(detail("string_unicode", list(place), "The text holds NUL or is not valid Unicode."))
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True
