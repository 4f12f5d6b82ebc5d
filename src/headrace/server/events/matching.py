"""Whether an event fits a filter: what `headrace.server.events.filtering` says in SQL, for events just written."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from headrace.schemas.events import (
    Event,
    EventAnyResourceFilter,
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventRelatedFilter,
    EventResourceFilter,
    LabelPatterns,
    Labels,
)
from headrace.server.events.log import RESOURCE_ID, RESOURCE_ROLE
from headrace.server.store.tables.types import aware
from headrace.server.store.text_functions import has_words

PartT = TypeVar("PartT")

LOOK_BACK = timedelta(days=180)
"""How old events are that a filter without a beginning finds."""
_ANY_RELATED = EventRelatedFilter()
_encode = msgspec.json.Encoder().encode


def bounded(chosen: EventFilter | None, now: datetime) -> EventFilter:
    """A filter with both its moments: without them it reaches back 180 days, to midnight, and up to now."""
    chosen = chosen or EventFilter()
    since, until = chosen.occurred.since, chosen.occurred.until
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    since = midnight - LOOK_BACK if since is UNSET else aware(since)
    until = now if until is UNSET else aware(until)
    return replace(chosen, occurred=EventOccurredFilter(since=since, until=until))


def matches(chosen: EventFilter, event: Event) -> bool:
    """Whether an event fits a filter, all but the `distinct` of its resource, which is about many events.

    Args:
        chosen: with both its moments, see `bounded`.
        event: the event.
    """
    since, until = chosen.occurred.since, chosen.occurred.until
    moment = aware(event.occurred)
    return (
        (since is UNSET or moment >= since)
        and (until is UNSET or moment <= until)
        and (chosen.id.id is None or event.id in chosen.id.id)
        and (chosen.event is None or _name(chosen.event, event.event))
        and (chosen.resource is None or _resource(chosen.resource, event.resource))
        and all(
            one == _ANY_RELATED or any(_related(one, labels) for labels in event.related)
            for one in several(chosen.related)
        )
        and all(
            any(_resource(one, labels) for labels in (event.resource, *event.related))
            for one in several(chosen.any_resource)
        )
        and (chosen.text is None or _text(chosen.text.query, event))
    )


def several(part: PartT | list[PartT] | None) -> list[PartT]:
    """A part of a filter that may be absent, one, or a list, all of which must hold."""
    if part is None:
        return []
    return part if isinstance(part, list) else [part]


def _name(chosen: EventNameFilter, name: str) -> bool:
    return (
        (chosen.name is None or name in chosen.name)
        and (chosen.prefix is None or name.startswith(tuple(chosen.prefix)))
        and name not in (chosen.exclude_name or ())
        and not name.startswith(tuple(chosen.exclude_prefix or ()))
    )


def _resource(chosen: EventAnyResourceFilter | EventResourceFilter, labels: Labels) -> bool:
    id = labels[RESOURCE_ID]
    return (
        (chosen.id is None or id in chosen.id)
        and (chosen.id_prefix is None or id.startswith(tuple(chosen.id_prefix)))
        and labels_match(chosen.labels, labels)
    )


def _related(chosen: EventRelatedFilter, labels: Labels) -> bool:
    id, role = labels[RESOURCE_ID], labels[RESOURCE_ROLE]
    return (
        (chosen.id is None or id in chosen.id)
        and (chosen.role is None or role in chosen.role)
        and (chosen.resources_in_roles is None or (id, role) in chosen.resources_in_roles)
        and labels_match(chosen.labels, labels)
    )


def labels_match(patterns: LabelPatterns | None, labels: Labels) -> bool:
    """Whether a resource has all the labels that patterns name, each with a value that fits one of its patterns."""
    return patterns is None or all(_fits(labels.get(name), wanted) for name, wanted in patterns.items())


def _fits(value: str | None, wanted: str | Sequence[str]) -> bool:
    return value is not None and any(_fits_one(value, pattern) for pattern in several_patterns(wanted))


def several_patterns(wanted: str | Sequence[str]) -> Sequence[str]:
    """The patterns a label may fit, however they were given."""
    return [wanted] if isinstance(wanted, str) else wanted


def _fits_one(value: str, pattern: str) -> bool:
    if pattern.startswith("!"):
        return not _fits_one(value, pattern[1:])
    return fnmatchcase(value, pattern.replace("[", "[[]"))


def _text(query: str, event: Event) -> bool:
    parts = (_encode(part).decode() for part in (event.resource, event.related, event.payload))
    return has_words((event.event, *parts), query)
