"""From what a source says (a text, a value of TOML) to the type a setting declares, and back to text."""

from __future__ import annotations

import typing
from datetime import timedelta
from types import UnionType
from typing import Any

import msgspec

from headrace.exceptions import ConfigurationError
from headrace.settings.secret import STARS, Secret
from headrace.settings.table import Setting

WORDS = {
    **dict.fromkeys(("true", "1", "yes", "on", "y", "t"), True),
    **dict.fromkeys(("false", "0", "no", "off", "n", "f"), False),
}


class InvalidSetting(ConfigurationError, ValueError):
    """A source gives a setting a value it cannot have; the message names the setting, the source and the value."""


def convert(setting: Setting, raw: Any, source: str, name: str | None = None) -> Any:
    """Read what a source says as a value of the setting.

    Args:
        setting: whose value it is.
        raw: a text, or a value as TOML or Python has it.
        source: where it was found, for the message of an error.
        name: under which name it was found there.

    Returns:
        The value; `msgspec.UNSET` when the text is empty and the setting cannot be None: as if nothing was said.

    Raises:
        InvalidSetting: it cannot be read so.
    """
    if setting.is_secret:
        return _secret(raw)
    if raw == "" and type(None) in _members(setting.type):
        return None
    if raw == "" and setting.type is not str and setting.type is not Any:
        return msgspec.UNSET
    try:
        candidate = _candidate(raw.strip(), setting.type) if isinstance(raw, str) else _plain(raw, setting.type)
        return msgspec.convert(candidate, setting.hint, strict=False)
    except (msgspec.ValidationError, msgspec.DecodeError, OverflowError) as error:
        raise InvalidSetting(
            f"{name or setting.name} in {source} is {raw!r}, which is not {expected(setting)}: {error}."
        ) from None


def expected(setting: Setting) -> str:
    """What values the setting takes, in words."""
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        timedelta: "a number of seconds or an ISO 8601 duration such as PT15S",
        str: "a text",
        type(None): "empty",
    }
    said = []
    for member in _members(setting.type):
        origin = typing.get_origin(member)
        if origin is list:
            said.append("a list separated by commas")
        elif origin is dict:
            said.append("a JSON object")
        elif origin is typing.Literal:
            said.append("one of " + ", ".join(map(str, typing.get_args(member))))
        else:
            said.append(words.get(member, "a value"))
    return " or ".join(said)


def _members(wanted: Any) -> tuple[Any, ...]:
    members = typing.get_args(wanted) if typing.get_origin(wanted) in (typing.Union, UnionType) else (wanted,)
    return tuple(member.__origin__ if hasattr(member, "__metadata__") else member for member in members)


def _secret(raw: Any) -> Secret | None:
    if isinstance(raw, Secret):
        return raw
    return Secret(str(raw)) if raw not in ("", None) else None


def _candidate(text: str, wanted: Any) -> Any:
    members = _members(wanted)
    origins = [typing.get_origin(member) for member in members]
    if bool in members and text.lower() in WORDS:
        return WORDS[text.lower()]
    if timedelta in members and (seconds := _number(text)) is not None:
        return timedelta(seconds=seconds)
    if dict in origins or (list in origins and text.startswith("[")):
        return msgspec.json.decode(text)
    if (float in members or int in members) and _number(text) is not None:
        return text
    if list in origins:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text.upper() if "DEBUG" in typing.get_args(wanted) else text


def _plain(raw: Any, wanted: Any) -> Any:
    """A value of TOML or Python: numbers are seconds where a duration is wanted, sets and tuples are lists."""
    members = _members(wanted)
    if timedelta in members and isinstance(raw, int | float) and not isinstance(raw, bool):
        return timedelta(seconds=raw)
    if isinstance(raw, set | frozenset | tuple):
        return sorted(raw) if isinstance(raw, set | frozenset) else list(raw)
    if hasattr(raw, "__fspath__"):
        return raw.__fspath__()
    return raw


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def to_text(value: Any) -> str | None:
    """The text that, in the environment, stands for a value; None for None. Secrets are written out."""
    if value is None:
        return None
    if isinstance(value, Secret):
        return value.get_secret_value()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        return to_text(value.total_seconds())
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    if isinstance(value, list | dict | set | tuple):
        return msgspec.json.encode(value).decode()
    return str(value)


def shown(setting: Setting, value: Any) -> str:
    """The same for people: secrets as stars."""
    return STARS if setting.is_secret and value else to_text(value) or ""
