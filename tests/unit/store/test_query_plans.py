"""No list or count that a UI asks for reads a big table from end to end."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, Engine, create_engine, event, make_url

from benchmarks.queries import NOW, queries
from benchmarks.scale import DEPLOYMENT, FLOW, RUN, TASK, fill, made_id
from headrace._internal.clock import ManualClock
from headrace.client.local import LocalClient
from headrace.schemas.events import READ_EVENTS, EventFilter, ReadEvents
from headrace.server.events.cursors import read_behind
from headrace.server.events.matching import bounded
from headrace.server.http.events_out import past
from headrace.server.operations import tagged
from headrace.server.operations.lookups import FEW
from headrace.server.store import open_store
from headrace.server.store.transaction import Store
from tests.support import postgresql

SLICE = r"(_default|_\d{8})?"
BIG = {"flow_run", "flow_run_state", "task_run", "task_run_state", "log", "event", "event_related"}
QUERIES = {
    query.name: query for query in queries(made_id(RUN, 0), made_id(TASK, 0), made_id(FLOW, 7), made_id(DEPLOYMENT, 7))
}
WHOLE = re.compile(r"SCAN (\w+)(?! USING)")
SOON_FOUND = {name for name in QUERIES if re.match("flow runs (of a work|that are no)", name)}
"""What so many rows fit that SQLite finds enough of them by reading on until it has two thousand."""


@pytest.fixture(autouse=True)
def _few_are_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """In databases of two thousand runs rare tags alone are seldom."""
    monkeypatch.setattr(tagged, "SELDOM", 50)


@pytest.fixture(scope="module")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SQLite database with more flow runs than are sorted at once; its size matters to no plan."""
    url = f"sqlite:///{tmp_path_factory.mktemp('plans') / 'plans.db'}"
    fill(url, FEW + 500)
    return url


@pytest.fixture(scope="module")
def postgres_database() -> Iterator[str]:
    """A PostgreSQL database with two thousand flow runs."""
    with postgresql.new_database() as url:
        fill(url, 2000)
        yield url


def listing(name: str) -> Callable[[Store], Any]:
    """The call of a query."""
    return lambda store: QUERIES[name].call(LocalClient(store))


def statements_of(url: str, call: Callable[[Store], Any]) -> list[tuple[str, Any]]:
    """The statements a call sends, with their parameters."""
    sent: list[tuple[str, Any]] = []

    def note(_: Connection, __: object, statement: str, parameters: Any, *___: object) -> None:
        sent.append((statement, parameters))

    store = open_store(url, ManualClock(NOW))
    event.listen(Engine, "before_cursor_execute", note)
    try:
        call(store)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
        store.close()
    return [one for one in sent if one[0].lstrip().startswith(("SELECT", "WITH")) and "FROM" in one[0]]


@pytest.mark.parametrize("name", sorted(QUERIES.keys() - SOON_FOUND))
def test_sqlite_has_an_index_for_it(sqlite_file: str, name: str) -> None:
    """A big table is searched, or walked along an index, never scanned."""
    plans = []
    engine = create_engine(sqlite_file)
    for statement, parameters in statements_of(sqlite_file, listing(name)):
        with engine.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans += [row[3] for row in plan]
    engine.dispose()

    scanned = {found[1] for plan in plans if (found := WHOLE.match(plan))}
    assert plans
    assert not scanned & BIG, plans


def postgresql_plans(url: str, call: Callable[[Store], Any]) -> list[str]:
    """The lines of the plans of a call, with sequential scans made dear."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    plans: list[str] = []
    for statement, parameters in statements_of(url, call):
        with engine.connect() as connection:
            connection.exec_driver_sql("SET enable_seqscan = off")
            plans += [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)]
    engine.dispose()
    return plans


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_postgresql_has_an_index_for_it(postgres_database: str, name: str) -> None:
    """With sequential scans made dear, none is left on a big table."""
    plans = postgresql_plans(postgres_database, listing(name))

    scanned = {found[1] for plan in plans if (found := re.search(rf"Seq Scan on (\w+?){SLICE} ", plan))}
    assert plans
    assert not scanned & BIG, plans


DAY = {"occurred": {"since": NOW - timedelta(days=1), "until": NOW}}
LOG_READS: dict[str, tuple[Callable[[Store], Any], bool]] = {
    "a page of a day": (lambda store: _page(store, DAY), True),
    "a page of a day's newest by resource": (lambda store: _page(store, DAY | {"resource": {"distinct": True}}), True),
    "the back-fill of a socket": (lambda store: store.read(lambda tx: past(tx, _filter(DAY), (NOW, 1), 50)), True),
    "a page of the whole log": (lambda store: _page(store, {}), False),
    "what is behind a cursor": (lambda store: store.read(lambda tx: read_behind(tx, (1, 1), 100)), False),
}
"""How the log is read, and whether within a day."""


def _filter(body: dict[str, Any]) -> EventFilter:
    return bounded(msgspec.convert(body, EventFilter), NOW)


def _page(store: Store, body: dict[str, Any]) -> Any:
    return LocalClient(store).call(READ_EVENTS, body=ReadEvents(filter=_filter(body), limit=50))


@pytest.mark.parametrize("name", LOG_READS)
def test_the_slices_of_the_log_are_read_in_the_order_of_their_indexes(postgres_database: str, name: str) -> None:
    """A question about a day touches the slices of that day alone; no page sorts more than the slices' own rows."""
    call, within_a_day = LOG_READS[name]
    plans = postgresql_plans(postgres_database, call)

    touched = set(re.findall(r" on (event(?:_default|_\d{8})) ", "\n".join(plans)))
    whole = [plan for plan in plans if "Seq Scan on event" in plan]
    assert (0 < len(touched) <= 2) if within_a_day else len(touched) >= 30, plans
    assert not whole, plans
