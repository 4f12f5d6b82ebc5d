"""What people type at the command line, as data."""

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from headrace.exceptions import ValidationFailed

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)[a-z]*", re.IGNORECASE)


def read_pairs(pairs: list[str] | None, option: str) -> dict[str, str]:
    """`KEY=VALUE` texts as a dictionary.

    Raises:
        ValidationFailed: one has no `=`.
    """
    found = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValidationFailed(f"{option} wants KEY=VALUE, not '{pair}'.")
        found[key] = value
    return found


def read_value(text: str) -> Any:
    """A value as JSON where it is JSON, else the text itself."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def read_parameters(params: list[str] | None, everything: str | None) -> dict[str, Any]:
    """The parameters of a run, from `--param` and `--params`.

    Raises:
        ValidationFailed: a pair has no `=`, or `--params` is not a JSON object.
    """
    parameters: dict[str, Any] = {}
    if everything is not None:
        try:
            parameters = msgspec.json.decode(sys.stdin.read() if everything == "-" else everything, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ValidationFailed(f"--params wants one JSON object: {error}") from None
    return parameters | {key: read_value(value) for key, value in read_pairs(params, "--param").items()}


def read_variables(pairs: list[str] | None) -> dict[str, Any] | None:
    """Job variables from `--job-variable`; None when there are none.

    Raises:
        ValidationFailed: a pair has no `=`.
    """
    return {key: read_value(value) for key, value in read_pairs(pairs, "--job-variable").items()} or None


def moment_of_start(start_in: str | None, start_at: str | None, now: datetime | None = None) -> datetime | None:
    """When a run shall start, from `--start-in` and `--start-at`; None for at once.

    Raises:
        ValidationFailed: both were given, or one cannot be read.
    """
    if start_in and start_at:
        raise ValidationFailed("Give --start-in or --start-at, not both.")
    if start_in:
        return (now or datetime.now(UTC)) + read_span(start_in, "--start-in")
    if not start_at:
        return None
    try:
        moment = datetime.fromisoformat(start_at)
    except ValueError:
        raise ValidationFailed(
            f"--start-at wants a date and time such as 2026-09-01T08:00, not '{start_at}'."
        ) from None
    return moment.astimezone(UTC)  # without a zone it is the local time of this machine


def read_span(text: str, option: str) -> timedelta:
    """A length of time such as `30s`, `10 minutes` or `2h`.

    Raises:
        ValidationFailed: it is none; the message names the option.
    """
    words = text.strip().removeprefix("in ").strip()
    parts = _SPAN.findall(words)
    if not parts or _SPAN.sub("", words).strip(" ,"):
        raise ValidationFailed(f"{option} wants a length of time such as 30s, '10 minutes' or 2h, not '{text}'.")
    return timedelta(seconds=sum(float(number) * _UNITS[unit.lower()] for number, unit in parts))


def read_template(path: Path | None) -> dict[str, Any]:
    """The job template in a JSON file; empty without one.

    Raises:
        ValidationFailed: the file cannot be read, or is no JSON object.
    """
    if path is None:
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise ValidationFailed(f"The job template {path} cannot be read: {error}") from None
