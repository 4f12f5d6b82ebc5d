"""Events: what happened, to which resource, and what else was concerned; and how to find them.

Labels are texts by name. A resource has at least `prefect.resource.id`, a related one also `prefect.resource.role`.
"""

from datetime import datetime
from enum import StrEnum
from types import NoneType
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

from headrace._internal.ids import uuid7
from headrace.schemas.endpoint import Endpoint

Labels = dict[str, str]
LabelPatterns = dict[str, str | list[str]]
"""What labels must be: a text, in which `*` stands for any text and a leading `!` for not, or one of several."""


class Event(Struct, kw_only=True):
    """Something that happened, as whoever saw it reports it."""

    occurred: datetime
    event: str
    resource: Labels
    related: list[Labels] = []
    payload: dict[str, Any] = {}
    id: UUID = field(default_factory=uuid7)
    follows: UUID | None = None


class ReceivedEvent(Event, kw_only=True):
    """An event as it is stored, with the moment it came in."""

    received: datetime


class EventOccurredFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """When it occurred: in the last 180 days up to now, unless other moments are given."""

    since: datetime | UnsetType = UNSET
    until: datetime | UnsetType = UNSET


class _Narrowing(Struct, kw_only=True, forbid_unknown_fields=True):
    """A part of a filter, in which an empty list narrows nothing: clients send one for what they do not set."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            given = getattr(self, name)
            if isinstance(given, dict):
                given = {label: wanted for label, wanted in given.items() if wanted != []}
            if isinstance(given, list | dict):
                setattr(self, name, given or None)


class EventNameFilter(_Narrowing, kw_only=True):
    """What it is called: one of these names or beginnings, and none of those."""

    exclude_name: list[str] | None = None
    exclude_prefix: list[str] | None = None
    name: list[str] | None = None
    prefix: list[str] | None = None


class EventAnyResourceFilter(_Narrowing, kw_only=True):
    """A resource it is about or related to."""

    id: list[str] | None = None
    id_prefix: list[str] | None = None
    labels: LabelPatterns | None = None


class EventResourceFilter(EventAnyResourceFilter, kw_only=True):
    """The resource it is about; `distinct` keeps only the newest event of each."""

    distinct: bool = False


class EventRelatedFilter(_Narrowing, kw_only=True):
    """What it is related to; `resources_in_roles` are pairs of an id and a role."""

    id: list[str] | None = None
    labels: LabelPatterns | None = None
    resources_in_roles: list[tuple[str, str]] | None = None
    role: list[str] | None = None


class EventIDFilter(_Narrowing, kw_only=True):
    """Its id is one of these."""

    id: list[UUID] | None = None


class EventTextFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Words that it must hold somewhere; `-word` must not be there, quotes join words."""

    query: Annotated[str, Meta(max_length=200)]


class EventOrder(StrEnum):
    """The order of a list of events, by the time they occurred."""

    ASC = "ASC"
    DESC = "DESC"


class EventFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which events; what is not set narrows nothing."""

    any_resource: EventAnyResourceFilter | list[EventAnyResourceFilter] | None = None
    event: EventNameFilter | None = None
    id: EventIDFilter = field(default_factory=EventIDFilter)
    occurred: EventOccurredFilter = field(default_factory=EventOccurredFilter)
    order: EventOrder = EventOrder.DESC
    related: EventRelatedFilter | list[EventRelatedFilter] | None = None
    resource: EventResourceFilter | None = None
    text: EventTextFilter | None = None


class ReadEvents(Struct, kw_only=True):
    """Which events to list, and how many on a page."""

    filter: EventFilter | None = None
    limit: Annotated[int, Meta(ge=0, le=50)] = 50


class EventPage(Struct, kw_only=True):
    """A page of events, how many there are in all, and the address of the next page."""

    events: list[ReceivedEvent]
    next_page: str | None
    total: int


class Countable(StrEnum):
    """What events can be counted by."""

    day = "day"
    time = "time"
    event = "event"
    resource = "resource"


class TimeUnit(StrEnum):
    """Units of the stretches of time that events are counted in."""

    week = "week"
    day = "day"
    hour = "hour"
    minute = "minute"
    second = "second"


class CountEvents(Struct, kw_only=True):
    """Which events to count; by time, in stretches of `time_interval` units."""

    filter: EventFilter
    time_interval: Annotated[float, Meta(ge=0.01)] = 1.0
    time_unit: TimeUnit = TimeUnit.day


class EventCount(Struct, kw_only=True):
    """How many events there are of a kind or in a stretch of time, and the first and last moment of it."""

    count: int
    end_time: datetime
    label: str
    start_time: datetime
    value: str


CREATE_EVENTS = Endpoint("POST", "/events", body=list[Event], returns=NoneType, status=204)
READ_EVENTS = Endpoint("POST", "/events/filter", body=ReadEvents, returns=EventPage)
READ_EVENTS_PAGE = Endpoint("GET", "/events/filter/next", returns=EventPage)
COUNT_EVENTS = Endpoint("POST", "/events/count-by/{countable}", body=CountEvents, returns=list[EventCount])
