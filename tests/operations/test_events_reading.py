"""Reading the event log: filters, which SQL and Python understand alike, pages, and counts."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import Forbidden, ValidationFailed
from headrace.schemas.events import (
    COUNT_EVENTS,
    CREATE_EVENTS,
    READ_EVENTS,
    READ_EVENTS_PAGE,
    Countable,
    Event,
    EventFilter,
    EventPage,
)
from headrace.server.events import finding
from headrace.server.events.matching import bounded, matches
from headrace.server.http.events_out import past
from headrace.server.store.tables import EVENT
from headrace.server.store.transaction import Store
from tests.support.serving import ask, serving

START = datetime(2026, 1, 1, tzinfo=UTC)
RUN, FLOW = "app.run.1", "app.flow.1"


def _event(name: str, minute: int, resource: str = RUN, **labels: Any) -> Event:
    related = labels.pop("related", [])
    payload = labels.pop("payload", {})
    return Event(
        id=uuid7(),
        occurred=START - timedelta(minutes=minute),
        event=name,
        resource={"prefect.resource.id": resource, **{f"app.{key}": value for key, value in labels.items()}},
        related=related,
        payload=payload,
    )


def _related(id: str, role: str, **labels: str) -> dict[str, str]:
    return {"prefect.resource.id": id, "prefect.resource.role": role, **{f"app.{k}": v for k, v in labels.items()}}


TAG = _related("t.a", "tag")
EVENTS = [
    _event(
        "app.run.began", 40, state="Running", related=[_related(FLOW, "flow", size="large"), _related("t.a", "tag")]
    ),
    _event("app.run.ended", 30, state="Failed", related=[_related(FLOW, "flow"), _related(RUN, "sibling")]),
    _event("app.run.ended", 20, "app.run.2", state="Done", payload={"said": "100% of it, [sic]"}),
    _event("other.thing", 10, "other.1", state="Fa*led", related=[_related("t.a", "tag"), _related("t.b", "flow")]),
    _event("other.thing", 0, FLOW, payload={"said": "Nothing at all"}),
]
FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [0, 1, 2, 3, 4]),
    ({"event": {"name": ["other.thing"]}}, [3, 4]),
    ({"event": {"prefix": ["app.run"], "exclude_name": ["app.run.began"]}}, [1, 2]),
    ({"event": {"exclude_prefix": ["app."]}}, [3, 4]),
    (
        {"event": {"name": [], "prefix": []}, "id": {"id": []}, "resource": {"id": [], "labels": {"a": []}}},
        [0, 1, 2, 3, 4],
    ),
    ({"related": {"id": [], "role": []}, "any_resource": {"id": []}}, [0, 1, 2, 3, 4]),
    ({"id": {"id": [str(EVENTS[2].id)]}}, [2]),
    ({"resource": {"id": [RUN]}}, [0, 1]),
    ({"resource": {"id_prefix": ["app.run."]}}, [0, 1, 2]),
    ({"resource": {"labels": {"app.state": "F*"}}}, [1, 3]),
    ({"resource": {"labels": {"app.state": "!F*"}}}, [0, 2]),
    ({"resource": {"labels": {"app.state": ["Running", "Done"]}}}, [0, 2]),
    ({"resource": {"labels": {"app.state": "f*"}}}, []),
    ({"resource": {"labels": {"app.state": "D[o]ne"}}}, []),
    ({"related": {"id": [FLOW]}}, [0, 1]),
    ({"related": {"id": [FLOW], "role": ["tag"]}}, []),
    ({"related": {"role": ["tag", "sibling"]}}, [0, 1, 3]),
    ({"related": {"resources_in_roles": [[FLOW, "flow"], ["t.b", "tag"]]}}, [0, 1]),
    ({"related": {"role": ["flow"], "labels": {"app.size": "l?rge"}}}, [0]),
    ({"related": [{"id": [FLOW]}, {"id": ["t.a"]}]}, [0]),
    ({"any_resource": {"id": [FLOW]}}, [0, 1, 4]),
    ({"any_resource": {"id_prefix": ["t."]}}, [0, 3]),
    ({"any_resource": {"labels": {"app.size": "large"}}}, [0]),
    ({"any_resource": [{"id": [RUN]}, {"id": [FLOW]}]}, [0, 1]),
    ({"any_resource": {"id": [RUN]}, "event": {"name": ["app.run.ended"]}}, [1]),
    ({"any_resource": {"id": [FLOW], "labels": {"app.size": "large"}}}, [0]),
    ({"any_resource": {"id": ["t.b", *(f"none.{n}" for n in range(20)), "t.a"]}}, [0, 3]),
    ({"any_resource": {"id": [FLOW]}, "resource": {"id": [RUN]}}, [0, 1]),
    ({"any_resource": {"id": ["none"]}}, []),
    ({"related": {"id": [FLOW], "resources_in_roles": [["t.a", "tag"]]}}, []),
    ({"text": {"query": "NOTHING"}}, [4]),
    ({"text": {"query": "100% [sic]"}}, [2]),
    ({"text": {"query": "ended -done"}}, [1]),
    ({"text": {"query": "'of it'"}}, [2]),
    ({"occurred": {"since": "2025-12-31T23:30:00Z", "until": "2025-12-31T23:50:00Z"}}, [1, 2, 3]),
]


@pytest.fixture
def written(api: LocalClient) -> LocalClient:
    """The API, with the events in the log."""
    api.call(CREATE_EVENTS, body=EVENTS)
    return api


def _read(api: LocalClient, limit: int = 50, **filter: Any) -> EventPage:
    return api.call(READ_EVENTS, body={"filter": filter, "limit": limit})


@pytest.fixture(params=[finding.MOST, 0], ids=["looked up", "walked"])
def _most(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many events PostgreSQL looks up one by one; of more it walks through the log."""
    monkeypatch.setattr(finding, "MOST", request.param)


@pytest.mark.usefixtures("_most")
def test_g19_filters_choose_alike_in_sql_and_in_python(written: LocalClient) -> None:
    """Each filter finds the same events in both databases, and among events as they come in."""
    for chosen, expected in FILTERS:
        page = _read(written, **chosen, order="ASC")
        assert [event.id for event in page.events] == [EVENTS[index].id for index in expected], chosen
        assert page.total == len(expected)
        one = bounded(msgspec.convert(chosen, EventFilter), START)
        assert [index for index, event in enumerate(EVENTS) if matches(one, event)] == expected, chosen


def test_events_are_read_as_they_were_written(written: LocalClient) -> None:
    """The newest comes first, with the moment it came in."""
    page = _read(written)
    first = page.events[0]
    assert (first.id, first.event, first.payload) == (EVENTS[4].id, "other.thing", {"said": "Nothing at all"})
    assert first.received == START
    assert page.events[-1].related == EVENTS[0].related


def test_only_the_newest_event_of_each_resource_is_found_when_they_shall_be_distinct(written: LocalClient) -> None:
    """`distinct` leaves out what the filter finds of a resource besides its newest event."""
    page = _read(written, resource={"distinct": True})
    assert [event.id for event in page.events] == [EVENTS[index].id for index in (4, 3, 2, 1)]


def _pages(api: LocalClient, page: EventPage) -> Iterator[EventPage]:
    yield page
    while page.next_page is not None:
        token = page.next_page.partition("page-token=")[2]
        page = api.call(READ_EVENTS_PAGE, page_token=token)
        yield page


@pytest.mark.usefixtures("_most")
def test_of_a_resource_and_what_it_is_related_to_pages_and_counts_are_given(written: LocalClient) -> None:
    """In either order, and the newest of each resource alone."""
    of_flow = {"any_resource": {"id": [FLOW]}}
    for order, expected in ("ASC", [0, 1, 4]), ("DESC", [4, 1, 0]):
        pages = list(_pages(written, _read(written, 1, **of_flow, order=order)))
        found = [(event.id, page.total) for page in pages for event in page.events]
        assert found == [(EVENTS[index].id, 3) for index in expected]
    newest = _read(written, **of_flow, resource={"distinct": True})
    assert ([event.id for event in newest.events], newest.total) == ([EVENTS[4].id, EVENTS[1].id], 2)
    body = {"filter": of_flow | {"occurred": {"since": "2025-12-31T23:05:00Z"}}}
    by_name = written.call(COUNT_EVENTS, countable=Countable.event, body=body)
    by_time = written.call(
        COUNT_EVENTS, countable=Countable.time, body=body | {"time_unit": "minute", "time_interval": 30}
    )
    names = ["app.run.began", "app.run.ended", "other.thing"]
    assert [(one.value, one.count) for one in by_name] == [(name, 1) for name in names]
    assert [one.count for one in by_time] == [1, 1, 1]


@pytest.mark.usefixtures("_most")
def test_the_past_that_a_socket_tells_is_found_by_related_resources(written: LocalClient, store: Store) -> None:
    """Page by page, the oldest first."""
    chosen = bounded(msgspec.convert({"any_resource": {"id": [FLOW]}}, EventFilter), START)
    found, last = [], None
    for _ in range(3):
        page = store.read(lambda tx, last=last: past(tx, chosen, last, 2))
        found.append([event.id for _, event in page.events])
        last = page.last
        if last is None:
            break
    assert found == [[EVENTS[0].id, EVENTS[1].id], [EVENTS[4].id]]


@pytest.mark.parametrize("order", ["ASC", "DESC"])
def test_pages_follow_each_other_though_events_come_in(written: LocalClient, clock: ManualClock, order: str) -> None:
    """Each event is on one page; those that come in later are on none."""
    page = _read(written, 2, order=order)
    clock.advance(60)
    written.call(CREATE_EVENTS, body=[_event("late", -1)])

    pages = list(_pages(written, page))

    found = [event.id for one in pages for event in one.events]
    expected = [event.id for event in EVENTS]
    assert found == (expected if order == "ASC" else expected[::-1])
    assert [one.total for one in pages] == [5, 5, 5]


@pytest.mark.parametrize("token", ["abc", "", "é", "bnVsbA==", "e30="])
def test_a_page_that_was_never_given_out_is_refused(api: LocalClient, token: str) -> None:
    """A token that is none gets the 403 that Prefect's server gives."""
    with pytest.raises(Forbidden):
        api.call(READ_EVENTS_PAGE, page_token=token)


def test_g13_an_event_that_cannot_be_read_is_left_out(written: LocalClient, store: Store) -> None:
    """A broken row spoils no list and no count."""
    broken = update(EVENT).where(EVENT.c.id == EVENTS[1].id).values(resource=["no", "labels"])
    store.write(lambda tx: tx.execute(broken))

    assert len(_read(written).events) == 4
    assert _read(written, related={"role": ["flow"]}).total == 3
    assert written.call(COUNT_EVENTS, countable=Countable.resource, body={"filter": {}})


def test_events_are_counted_by_name_and_by_resource(written: LocalClient) -> None:
    """The most frequent come first."""
    by_name = written.call(COUNT_EVENTS, countable=Countable.event, body={"filter": {}})
    assert [(one.value, one.count) for one in by_name] == [
        ("app.run.ended", 2),
        ("other.thing", 2),
        ("app.run.began", 1),
    ]
    assert (by_name[0].start_time, by_name[0].end_time) == (EVENTS[1].occurred, EVENTS[2].occurred)
    first = written.call(COUNT_EVENTS, countable=Countable.resource, body={"filter": {}})[0]
    assert (first.value, first.label, first.count) == (RUN, RUN, 2)


def test_events_are_counted_in_stretches_of_time(written: LocalClient) -> None:
    """Stretches without events count 0; the last one holds the present moment."""
    body = {"filter": {"occurred": {"since": "2025-12-31T23:05:00Z"}}, "time_unit": "minute", "time_interval": 30}
    counts = written.call(COUNT_EVENTS, countable=Countable.time, body=body)

    assert [(one.value, one.label, one.count) for one in counts] == [
        ("0", "2025-12-31T23:00:00+00:00", 1),
        ("1", "2025-12-31T23:30:00+00:00", 3),
        ("2", "2026-01-01T00:00:00+00:00", 1),
    ]
    assert counts[0].end_time == datetime(2025, 12, 31, 23, 29, 59, 999999, tzinfo=UTC)
    assert len(written.call(COUNT_EVENTS, countable=Countable.day, body={"filter": {}})) == 181


def test_s7_too_many_stretches_are_refused(api: LocalClient) -> None:
    """A thousand are the most."""
    body = {"filter": {}, "time_unit": "second", "time_interval": 1}
    with pytest.raises(ValidationFailed, match="1000 buckets"):
        api.call(COUNT_EVENTS, countable=Countable.time, body=body)
    with pytest.raises(ValidationFailed, match="calendar"):
        api.call(COUNT_EVENTS, countable=Countable.time, body={**body, "time_interval": 1e17})


def test_unknown_fields_of_a_filter_are_refused(api: LocalClient) -> None:
    """As in Prefect; a misspelt condition must not find everything."""
    with pytest.raises(ValidationFailed):
        _read(api, resorce={"id": ["x"]})


def test_pages_are_linked_over_http(sqlite_store: Store) -> None:
    """`next_page` is an address of the same server, as its caller wrote it."""
    LocalClient(sqlite_store).call(CREATE_EVENTS, body=EVENTS)
    with serving(sqlite_store) as url:
        body = {"limit": 2, "filter": {"occurred": {"until": "2026-01-01T00:00:00Z"}}}
        first = ask(url, "POST", "/events/filter", body)
        link = first.json()["next_page"]
        assert link.startswith(f"{url}/events/filter/next?page-token=")
        second = ask(url, "GET", link.removeprefix(url))
        assert [event["id"] for event in second.json()["events"]] == [str(EVENTS[index].id) for index in (2, 1)]
        assert ask(url, "GET", "/events/filter/next?page-token=abc").status == 403
        assert ask(url, "GET", "/events/filter/next").status == 422
