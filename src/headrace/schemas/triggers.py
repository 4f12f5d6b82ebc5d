"""Triggers: which events, or which absence of them, make an automation act."""

from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal, TypeAlias
from uuid import UUID

from msgspec import Struct, field

from headrace._internal.ids import uuid7

ResourceSpecification = dict[str, str | list[str]]
"""Labels a resource must have: a pattern or several for each; `!` in front of one negates it."""
LONGEST = timedelta(days=36500).total_seconds()
LEAST_PROACTIVE = 10.0
"""A trigger that waits for what does not happen is looked at no oftener than this, in seconds."""


class Posture(StrEnum):
    """Whether a trigger fires when events come, or when they fail to come."""

    Reactive = "Reactive"
    Proactive = "Proactive"


def seconds(value: float | timedelta, name: str) -> float:
    """A duration as its number of seconds.

    Raises:
        ValueError: it is negative, or longer than a century.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0 <= number <= LONGEST:
        raise ValueError(f"{name} must be from 0 to {LONGEST:.0f} seconds; it is {number}")
    return number


class EventTrigger(Struct, kw_only=True, tag_field="type", tag="event"):
    """Fires on `threshold` events within `within` seconds, or, when proactive, when fewer came.

    Raises:
        ValueError: `within` is too long, negative, or too short for a proactive trigger.
    """

    id: UUID = field(default_factory=uuid7)
    match: ResourceSpecification = {}
    match_related: ResourceSpecification | list[ResourceSpecification] = {}
    after: list[str] = []
    expect: list[str] = []
    for_each: list[str] = []
    posture: Posture
    threshold: int = 1
    within: float | timedelta = 0.0

    def __post_init__(self) -> None:
        self.within = seconds(self.within, "within")
        for name in ("after", "expect", "for_each"):
            setattr(self, name, list(dict.fromkeys(getattr(self, name))))
        if self.posture is Posture.Proactive:
            self.within = self.within or LEAST_PROACTIVE
            if self.within < LEAST_PROACTIVE:
                raise ValueError(f"within must be at least {LEAST_PROACTIVE:.0f} seconds for a proactive trigger")


class CompoundTrigger(Struct, kw_only=True, tag_field="type", tag="compound"):
    """Fires when any, all, or so many of its triggers have fired within `within` seconds of each other.

    Raises:
        ValueError: `require` is a number that its triggers cannot reach, or `within` is no such duration.
    """

    id: UUID = field(default_factory=uuid7)
    triggers: list["Trigger"]
    within: float | timedelta | None
    require: int | Literal["any", "all"]

    def __post_init__(self) -> None:
        self.within = None if self.within is None else seconds(self.within, "within")
        if isinstance(self.require, int) and not 1 <= self.require <= len(self.triggers):
            raise ValueError(f"require must be from 1 to the number of triggers, {len(self.triggers)}")


class SequenceTrigger(Struct, kw_only=True, tag_field="type", tag="sequence"):
    """Fires when its triggers have fired in this order, within `within` seconds."""

    id: UUID = field(default_factory=uuid7)
    triggers: list["Trigger"]
    within: float | timedelta | None

    def __post_init__(self) -> None:
        self.within = None if self.within is None else seconds(self.within, "within")


Trigger: TypeAlias = EventTrigger | CompoundTrigger | SequenceTrigger


def name_trigger(said: Any) -> None:
    """Give a trigger that came without its `type` the one that its fields tell, and its inner triggers likewise."""
    if not isinstance(said, dict):
        return
    inner = said.get("triggers")
    said.setdefault("type", "compound" if "require" in said else "event" if inner is None else "sequence")
    for one in inner if isinstance(inner, list) else ():
        name_trigger(one)
