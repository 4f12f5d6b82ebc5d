"""Events: taking in those that clients report, and finding what the log holds."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import ColumnElement, FromClause, Row, Select, and_, func, or_, select

from headrace.exceptions import Forbidden, ValidationFailed
from headrace.schemas.events import (
    COUNT_EVENTS,
    CREATE_EVENTS,
    READ_EVENTS,
    READ_EVENTS_PAGE,
    Countable,
    CountEvents,
    Event,
    EventCount,
    EventFilter,
    EventOccurredFilter,
    EventOrder,
    EventPage,
    ReadEvents,
    ReceivedEvent,
    TimeUnit,
)
from headrace.schemas.recording import RefusedRecord, TaskRunRecord
from headrace.schemas.states import State
from headrace.server.events.filtering import sought
from headrace.server.events.finding import Order, found, found_if_few, walked
from headrace.server.events.log import RESOURCE_ID, RESOURCE_NAME, RESOURCE_ROLE, append
from headrace.server.events.matching import bounded
from headrace.server.operations.paging import listed
from headrace.server.operations.pool_scope import is_any_elsewhere
from headrace.server.operations.recording import in_parts, write_task_runs
from headrace.server.operations.registry import Refusal, implements
from headrace.server.operations.rows import values_of
from headrace.server.store.json_functions import member
from headrace.server.store.tables import EVENT, FLOW_RUN, TASK_RUN
from headrace.server.store.tables.types import aware
from headrace.server.store.time_functions import elapsed, moment
from headrace.server.store.transaction import Tx
from headrace.settings import get_settings

_OURS = tuple(
    f"prefect.{kind}."
    for kind in (
        "flow-run",
        "flow",
        "deployment",
        "work-pool",
        "work-queue",
        "variable",
        "block-type",
        "block-schema",
        "block-document",
        "automation",
        "artifact-collection",
        "concurrency-limit",
    )
)
_THEIRS = (
    "prefect.flow-run.heartbeat",
    "prefect.flow-run.pull-step.",
    "prefect.concurrency-limit.acquired",
    "prefect.concurrency-limit.released",
    "prefect.concurrency-limit.v1.acquired",
    "prefect.concurrency-limit.v1.released",
)
"""Of the kinds of events that are the server's, those that clients send all the same."""
_TASK_RUN = "prefect.task-run."


@implements(CREATE_EVENTS, access="events:write")
def create_events(tx: Tx, body: list[Event]) -> Refusal | None:
    """Write events. Those that cannot be taken are named in the answer, and all others are stored."""
    reasons = {one.id: one.reason for one in record_events(tx, body)}
    faults = [
        {"type": "value_error", "loc": ["body", place], "msg": f"The event {event.id} was refused: {reasons[event.id]}"}
        for place, event in enumerate(body)
        if event.id in reasons
    ]
    if not faults:
        return None
    message = f"{len(faults)} of {len(body)} events were refused, all others are stored. {faults[0]['msg']}"
    forged = any(map(is_forged, body))
    return Refusal(Forbidden(message) if forged else ValidationFailed(message, faults))  # G13


def record_events(tx: Tx, events: Sequence[Event]) -> list[RefusedRecord]:
    """Write events that a client reports; those about its task runs are turned into task runs and states.

    An event that cannot be taken harms only itself.  # G13

    Args:
        tx: a writing transaction.
        events: in any order; one that came before changes nothing.  # G8

    Returns:
        The events that were refused, and why.
    """
    refused, sound = [], []
    for event in events:
        reason = _fault(event)
        if reason is None:
            sound.append(event)
        else:
            refused.append(RefusedRecord(id=event.id, reason=reason))
    return refused + in_parts(tx, sound, _write)


def is_forged(event: Event) -> bool:
    """Whether only the server says such things.  # S15"""
    name = event.event
    return name.startswith("headrace.") or (name.startswith(_OURS) and not name.startswith(_THEIRS))


def _fault(event: Event) -> str | None:
    limits = get_settings().server.events
    if is_forged(event):
        return f"Events named {event.event!r} are the server's own."
    if not 0 < len(event.event) <= limits.maximum_event_name_length:
        return f"The name of an event has 1 to {limits.maximum_event_name_length} characters."
    if not event.resource.get(RESOURCE_ID):
        return f"The resource of an event needs the label {RESOURCE_ID}."
    if len(event.related) > limits.maximum_related_resources:
        return f"An event has at most {limits.maximum_related_resources} related resources."
    if not all(labels.get(RESOURCE_ID) and labels.get(RESOURCE_ROLE) for labels in event.related):
        return f"Each related resource of an event needs the labels {RESOURCE_ID} and {RESOURCE_ROLE}."
    most = limits.maximum_labels_per_resource
    if any(len(labels) > most for labels in (event.resource, *event.related)):
        return f"A resource of an event has at most {most} labels."
    return None


def _write(tx: Tx, events: Sequence[Event], careful: bool) -> None:
    append(tx, events)
    news: dict[UUID, TaskRunRecord] = {}
    for event in sorted((event for event in events if _is_news(event)), key=_age):
        record = _record(event)
        earlier = news.get(record.id)
        if earlier is not None:
            record.states = [*(state for state in earlier.states if state.id != event.id), *record.states]
        news[record.id] = record
    if news:
        _keep_within_pool(tx, list(news.values()))
        write_task_runs(tx, list(news.values()), careful)


def _keep_within_pool(tx: Tx, records: Sequence[TaskRunRecord]) -> None:
    """See that a login for one work pool tells of no other pool's runs.  # S5

    Raises:
        ValidationFailed: it does.
    """
    pool = tx.caller.work_pool
    if pool is None:
        return
    runs = [record.flow_run_id for record in records if record.flow_run_id is not None]
    if is_any_elsewhere(tx, FLOW_RUN, runs, pool) or is_any_elsewhere(tx, TASK_RUN, [one.id for one in records], pool):
        raise ValidationFailed(f"This login is for the work pool {pool!r} alone.")


def _is_news(event: Event) -> bool:
    return event.event.startswith(_TASK_RUN) and event.resource.get("prefect.orchestration") == "client"


def _age(event: Event) -> tuple[Any, UUID]:
    return aware(event.occurred), event.id


def _record(event: Event) -> TaskRunRecord:
    """What an event of Prefect's clients says of a task run, whose state has the event's id and moment.

    Raises:
        ValidationFailed: it does not say enough.
    """
    payload = event.payload
    try:
        run_id = UUID(event.resource[RESOURCE_ID].removeprefix(_TASK_RUN))
        details = {**(payload["validated_state"].get("state_details") or {})}
        flow_run_id = _flow_run(event.related) or details.get("flow_run_id")
        details |= {"task_run_id": run_id, "flow_run_id": flow_run_id}
        said = {
            **payload["validated_state"],
            "id": event.id,
            "timestamp": aware(event.occurred),
            "state_details": details,
        }
        state = msgspec.convert(said, State, strict=False)
        told = {name: value for name, value in payload["task_run"].items() if value is not None}
        more = {"id": run_id, "flow_run_id": flow_run_id, "states": [state], "epoch": 0}  # these clients know no epochs
        return msgspec.convert({**told, **more}, TaskRunRecord, strict=False)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValidationFailed(f"It does not describe a state of a task run: {error}") from error


def _flow_run(related: Iterable[dict[str, str]]) -> UUID | None:
    for labels in related:
        if labels[RESOURCE_ROLE] == "flow-run":
            return UUID(labels[RESOURCE_ID].removeprefix("prefect.flow-run."))
    return None


class _Place(Struct, kw_only=True):
    """Where a list of events goes on: behind the event of this moment and number."""

    filter: EventFilter
    limit: int
    total: int
    occurred: datetime
    seq: int


_COLUMNS = ("seq", *ReceivedEvent.__struct_fields__)
_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(_Place).decode


@implements(READ_EVENTS, access="events:read")
def read_events(tx: Tx, body: ReadEvents) -> EventPage:
    """The events a filter finds, page by page."""
    chosen = bounded(body.filter, tx.now)
    distinct, order, in_all = _is_distinct(chosen), _order(chosen), func.count().over().label("total")
    few = found_if_few(tx, chosen, lambda log: _page_of(log, body.limit).add_columns(in_all), order, distinct=distinct)
    if few is not None:
        return _page(tx, chosen, body.limit, few[0].total if few else 0, few)
    if tx.dialect == "sqlite" and sought(chosen):  # to look them up takes longer than to sort them: not twice
        keys = walked(
            tx, chosen, lambda log: select(*[log.c.seq, in_all]).limit(body.limit + 1), order, distinct=distinct
        )
        these = EVENT.c.seq.in_([row.seq for row in keys])
        rows = tx.execute(_page_of(EVENT, body.limit).where(these).order_by(*order(EVENT.c))).all()
        return _page(tx, chosen, body.limit, keys[0].total if keys else 0, rows)
    [count] = walked(tx, chosen, lambda log: select(func.count()).select_from(log), distinct=distinct)
    rows = walked(tx, chosen, lambda log: _page_of(log, body.limit), order, distinct=distinct)
    return _page(tx, chosen, body.limit, int(count[0]), rows)


@implements(READ_EVENTS_PAGE, access="events:read")
def read_events_page(tx: Tx, page_token: str) -> EventPage:
    """The next page of a list of events."""
    try:
        place = _decode(urlsafe_b64decode(page_token))
    except ValueError:  # of base64, of JSON, of the struct
        raise Forbidden("Forbidden") from None
    chosen, limit = place.filter, min(max(place.limit, 0), 50)
    down = chosen.order is EventOrder.DESC

    def page(log: FromClause) -> Select[Any]:
        return _page_of(log, limit).where(_behind((log.c.occurred, log.c.seq), (place.occurred, place.seq), down=down))

    return _page(tx, chosen, limit, place.total, found(tx, chosen, page, _order(chosen), distinct=_is_distinct(chosen)))


def _is_distinct(chosen: EventFilter) -> bool:
    return chosen.resource is not None and chosen.resource.distinct


def _order(chosen: EventFilter) -> Order:
    if chosen.order is EventOrder.DESC:
        return lambda columns: (columns.occurred.desc(), columns.seq.desc())
    return lambda columns: (columns.occurred, columns.seq)


def _page_of(log: FromClause, limit: int) -> Select[Any]:
    """A select of the rows of a page, and one more."""
    return select(*(log.c[name] for name in _COLUMNS)).limit(limit + 1)


def _behind(columns: Sequence[ColumnElement[Any]], values: Sequence[Any], *, down: bool) -> ColumnElement[bool]:
    (first, second), (one, two) = columns, values
    if down:
        return and_(first <= one, or_(first < one, second < two))  # so that what is newer is not even looked at
    return and_(first >= one, or_(first > one, second > two))


def _page(tx: Tx, chosen: EventFilter, limit: int, total: int, rows: Sequence[Row[Any]]) -> EventPage:
    events = listed(rows[:limit], read_event_row, "event")
    next_page = None
    if limit and len(rows) > limit:
        last = rows[limit - 1]
        place = _Place(filter=chosen, limit=limit, total=total, occurred=last.occurred, seq=last.seq)
        token = urlsafe_b64encode(_encode(place)).decode()
        next_page = f"{tx.address}/events/filter/next?page-token={token}"
    return EventPage(events=events, total=total, next_page=next_page)


def read_event_row(row: Row[Any]) -> ReceivedEvent:
    """A row of the log as the struct."""
    return msgspec.convert(values_of(row), ReceivedEvent)


MOST_STRETCHES = 1000
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
_UNITS = {unit: timedelta(**{f"{unit.value}s": 1}) for unit in TimeUnit}
_MICROSECOND = timedelta(microseconds=1)


@implements(COUNT_EVENTS, access="events:read")
def count_events(tx: Tx, countable: Countable, body: CountEvents) -> list[EventCount]:
    """How many events a filter finds, by what is asked for."""
    chosen = bounded(body.filter, tx.now)
    if countable in (Countable.day, Countable.time):
        by_day = countable is Countable.day
        unit, interval = (TimeUnit.day, 1.0) if by_day else (body.time_unit, body.time_interval)
        try:
            return _counted_by_time(tx, chosen, unit, interval)
        except OverflowError:
            raise ValidationFailed("Such stretches lead out of the calendar. Give shorter ones.") from None

    def counted(log: FromClause) -> Select[Any]:
        column = log.c.event if countable is Countable.event else log.c.resource_id
        label = column if countable is Countable.event else func.max(member(log.c.resource, RESOURCE_NAME))
        return select(
            func.count().label("count"),
            func.max(log.c.occurred).label("end_time"),
            func.coalesce(label, column).label("label"),
            func.min(log.c.occurred).label("start_time"),
            column.label("value"),
        ).group_by(column)

    rows = found(tx, chosen, counted, distinct=_is_distinct(chosen))
    counts = listed(rows, lambda row: msgspec.convert(values_of(row), EventCount), "count of events")
    return sorted(counts, key=lambda one: (-one.count, one.label, one.value))


def _counted_by_time(tx: Tx, chosen: EventFilter, unit: TimeUnit, interval: float) -> list[EventCount]:
    """Whole stretches of time that cover the filter's, up to now; those without events count 0."""
    step = max(_UNITS[unit] * interval, _MICROSECOND)
    grid = max(step, _UNITS[unit])
    since, until = chosen.occurred.since, chosen.occurred.until
    assert isinstance(since, datetime)
    assert isinstance(until, datetime)
    until = min(until, tx.now)
    start = _MONDAY + (since - _MONDAY) // grid * grid
    whole = ((until - _MONDAY) // grid + 1) * grid
    number = max(0, ceil((_MONDAY + whole - start) / step))
    if number > MOST_STRETCHES:
        raise ValidationFailed(
            f"The given interval would create {number} buckets, which is too many. Please increase the interval or "
            f"reduce the time range to produce {MOST_STRETCHES} buckets or fewer."
        )
    narrowed = replace(chosen, occurred=EventOccurredFilter(since=since, until=until))

    def counted(log: FromClause) -> Select[Any]:
        place: Any = (elapsed(moment(start), log.c.occurred) // (step // _MICROSECOND)).label("place")
        return select(place, func.count().label("number_in_it")).group_by(place)

    counts = {int(row.place): row.number_in_it for row in found(tx, narrowed, counted, distinct=_is_distinct(chosen))}
    return [
        EventCount(
            count=counts.get(index, 0),
            end_time=start + (index + 1) * step - _MICROSECOND,
            label=(start + index * step).isoformat(),
            start_time=start + index * step,
            value=str(index),
        )
        for index in range(number)
    ]
