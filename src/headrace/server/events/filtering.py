"""Filters of events as SQL; `headrace.server.events.matching` says the same of events just written.

SQLite looks ids of related resources up in their index; what asks for more than an id looks at the labels themselves.
On PostgreSQL each row is tested by its labels, and `headrace.server.events.finding` sees to it that they are few.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from msgspec import Struct
from sqlalchemy import ColumnElement, Text, and_, case, cast, exists, false, func, literal, not_, or_, select, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from headrace.exceptions import ValidationFailed
from headrace.schemas.events import (
    EventAnyResourceFilter,
    EventFilter,
    EventNameFilter,
    EventRelatedFilter,
    LabelPatterns,
)
from headrace.server.events.log import INSIDE, RESOURCE_ID, RESOURCE_ROLE, THROUGH_RUNS
from headrace.server.events.matching import several, several_patterns
from headrace.server.store import condition
from headrace.server.store.filters import begins_with, begins_with_any
from headrace.server.store.json_functions import contains, member
from headrace.server.store.long_lists import among
from headrace.server.store.tables import EVENT, EVENT_RELATED
from headrace.server.store.text_functions import ESCAPE, like, words_of

MOST_VALUES = 300
_SHORT = 10
"""So many ids are looked for one after the other before it is quicker to take the related resources apart."""
Condition = ColumnElement[bool]
Column = ColumnElement[Any]

_TEXTS = (EVENT.c.event, *(cast(EVENT.c[name], Text) for name in ("resource", "related", "payload")))


class text_fits(condition.Condition):
    """Whether a text fits a pattern with `*` and `?`: `text_fits(column, for_sqlite, for_postgresql)`."""

    inherit_cache = True
    name = "text_fits"


@compiles(text_fits, "sqlite")
def _fits_sqlite(element: text_fits, compiler: SQLCompiler, **options: Any) -> str:
    column, pattern, _ = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({column} GLOB {pattern})"


@compiles(text_fits, "postgresql")
def _fits_postgresql(element: text_fits, compiler: SQLCompiler, **options: Any) -> str:
    column, _, pattern = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({column} LIKE {pattern} ESCAPE '{ESCAPE}')"


def values_in(part: Any) -> int:
    """How many values a part of a filter holds."""
    if isinstance(part, Struct):
        return sum(values_in(getattr(part, name)) for name in part.__struct_fields__)
    if isinstance(part, dict):
        return sum(1 + values_in(one) for one in part.values())
    return sum(map(values_in, part)) if isinstance(part, list | tuple) else part is not None


def conditions(chosen: EventFilter, dialect: str) -> list[Condition]:
    """What a filter asks of the rows of the log, all but the `distinct` of its resource.

    Args:
        chosen: with both its moments, see `matching.bounded`.
        dialect: of the database.

    Raises:
        ValidationFailed: it asks for too many things: most are a condition each.  # S7
    """
    if values_in((chosen.event, chosen.resource, chosen.related, chosen.any_resource)) > MOST_VALUES:
        raise ValidationFailed(f"A filter of events takes at most {MOST_VALUES} values. Ask for fewer at a time.")
    since, until = chosen.occurred.since, chosen.occurred.until
    found: list[Condition] = [EVENT.c.occurred >= since, EVENT.c.occurred <= until]
    if chosen.id.id is not None:
        found.append(among(EVENT.c.id, chosen.id.id))
    if chosen.event is not None:
        found += _name(chosen.event)
    if chosen.resource is not None:
        found += _resource(chosen.resource, EVENT.c.resource_id, EVENT.c.resource)
    found += [_related(one, chosen, dialect) for one in several(chosen.related)]
    found += [_any_resource(one, chosen, dialect) for one in several(chosen.any_resource)]
    if chosen.text is not None:
        for word, present in words_of(chosen.text.query):
            there = or_(*(like(text, word) for text in _TEXTS))
            found.append(there if present else not_(there))
    return found


def _name(chosen: EventNameFilter) -> Iterator[Condition]:
    name = EVENT.c.event
    if chosen.name is not None:
        yield among(name, chosen.name)
    if chosen.prefix is not None:
        yield begins_with_any(name, chosen.prefix)
    if chosen.exclude_name is not None:
        yield not_(among(name, chosen.exclude_name))
    if chosen.exclude_prefix is not None:
        yield not_(begins_with_any(name, chosen.exclude_prefix))


def _resource(chosen: EventAnyResourceFilter, id: Column, labels: Column) -> Iterator[Condition]:
    if chosen.id is not None:
        yield among(id, chosen.id)
    if chosen.id_prefix is not None:
        yield begins_with_any(id, chosen.id_prefix)
    yield from _labels(chosen.labels, labels)


def _labels(patterns: LabelPatterns | None, labels: Column) -> Iterator[Condition]:
    for name, wanted in (patterns or {}).items():
        value = member(labels, name)
        yield and_(value.is_not(None), or_(literal(0) == 1, *(_fits(value, one) for one in several_patterns(wanted))))


def _fits(value: Column, pattern: str) -> Condition:
    if pattern.startswith("!"):
        return not_(_fits(value, pattern[1:]))
    if "*" not in pattern and "?" not in pattern:
        return value == pattern
    escaped = pattern.replace(ESCAPE, ESCAPE * 2).replace("%", f"{ESCAPE}%").replace("_", f"{ESCAPE}_")
    for_postgresql = escaped.replace("*", "%").replace("?", "_")
    return text_fits(value, literal(pattern.replace("[", "[[]")), literal(for_postgresql))


class Sought(NamedTuple):
    """The ids by which a part of a filter finds events, and whether also those that are about these resources."""

    ids: Sequence[str]
    own: bool


def sought(chosen: EventFilter) -> list[Sought]:
    """The parts of a filter that name related resources: each finds no event that is not related to one of its ids."""
    found = [Sought(one.id, True) for one in several(chosen.any_resource) if one.id is not None]
    related = ((one, _related_ids(one)) for one in several(chosen.related))
    return found + [Sought(ids, False) for _, ids in related if ids is not None]


def through_runs(ids: Sequence[str], chosen: EventFilter) -> list[str]:
    """Those of the ids under which the index has not all events that a filter may find: see `THROUGH_RUNS`."""
    return [id for id in ids if id.startswith(THROUGH_RUNS)] if _may_be_inside(chosen.event) else []


def _may_be_inside(chosen: EventNameFilter | None) -> bool:
    """Whether a filter may find events that happened inside a flow run, by what they are called."""
    if chosen is None:
        return True
    named = chosen.name is None or any(name.startswith(INSIDE) for name in chosen.name)
    return named and (
        chosen.prefix is None or any(one.startswith(INSIDE) or INSIDE.startswith(one) for one in chosen.prefix)
    )


def _related_ids(chosen: EventRelatedFilter) -> Sequence[str] | None:
    if chosen.resources_in_roles is None:
        return chosen.id
    return [id for id, _ in chosen.resources_in_roles if chosen.id is None or id in chosen.id]


def _related(chosen: EventRelatedFilter, whole: EventFilter, dialect: str) -> Condition:
    ids = _related_ids(chosen)
    parts = [] if ids is None else [_is_related(ids, whole, dialect)]
    if chosen.role is None and chosen.labels is None and chosen.resources_in_roles is None:
        return and_(true(), *parts)
    labels = _each_related(dialect)
    id, role = member(labels, RESOURCE_ID), member(labels, RESOURCE_ROLE)
    same = list(_labels(chosen.labels, labels))
    if ids is not None:
        same.append(among(id, ids))
    if chosen.role is not None:
        same.append(among(role, chosen.role))
    if chosen.resources_in_roles is not None:
        same.append(or_(literal(0) == 1, *(and_(id == one, role == part) for one, part in chosen.resources_in_roles)))
    return and_(*parts, _has_related(labels, same))


def _any_resource(chosen: EventAnyResourceFilter, whole: EventFilter, dialect: str) -> Condition:
    own = and_(true(), *_resource(chosen, EVENT.c.resource_id, EVENT.c.resource))
    if chosen.id_prefix is None and chosen.labels is None:
        return own if chosen.id is None else or_(own, _is_related(chosen.id, whole, dialect))
    labels = _each_related(dialect)
    return or_(own, _has_related(labels, list(_resource(chosen, member(labels, RESOURCE_ID), labels))))


def _is_related(ids: Sequence[str], whole: EventFilter, dialect: str) -> Condition:
    """Whether an event is related to one of the resources."""
    if dialect == "sqlite":
        return _in_index(ids, whole)
    if len(ids) <= _SHORT:
        return or_(false(), *(contains(EVENT.c.related, [{RESOURCE_ID: id}]) for id in ids))
    labels = _each_related(dialect)
    return _has_related(labels, [among(member(labels, RESOURCE_ID), ids)])


def _in_index(ids: Sequence[str], whole: EventFilter) -> Condition:
    """Whether an event is related to one of the resources, by the index.

    What happened inside a flow run stands there only under the flow run; it is found by what that is related to.
    """
    since, until = whole.occurred.since, whole.occurred.until
    index, inside, about = EVENT_RELATED, EVENT_RELATED.alias("inside"), EVENT.alias("about")
    direct = select(index.c.event_id).where(
        among(index.c.resource_id, ids), index.c.occurred >= since, index.c.occurred <= until
    )
    of_runs = through_runs(ids, whole)
    if not of_runs:
        return EVENT.c.id.in_(direct)
    runs = (
        select(about.c.resource_id)
        .join(index, and_(index.c.event_id == about.c.id, index.c.occurred == about.c.occurred))
        .where(among(index.c.resource_id, of_runs), begins_with(about.c.resource_id, "prefect.flow-run."))
    )
    through = select(inside.c.event_id).where(
        inside.c.role == "flow-run", inside.c.resource_id.in_(runs), inside.c.occurred >= since
    )
    said = or_(false(), *(like(cast(EVENT.c.related, Text), f'"{id}"') for id in of_runs))
    through = through.where(inside.c.occurred <= until)
    return or_(EVENT.c.id.in_(direct), and_(EVENT.c.id.in_(through), said))


def _has_related(labels: Column, same: Sequence[Condition]) -> Condition:
    """Whether one of the related resources of an event, `labels`, fits all conditions."""
    return exists(select(1).select_from(labels.table).where(*same).correlate(EVENT))


def _each_related(dialect: str) -> Any:
    """The related resources of an event, one in each row."""
    if dialect == "sqlite":
        sound = case((func.json_valid(EVENT.c.related) == 1, cast(EVENT.c.related, Text)), else_="[]")  # G13
        return func.json_each(sound).table_valued("value").c.value
    return func.jsonb_array_elements(EVENT.c.related).table_valued("value").c.value
