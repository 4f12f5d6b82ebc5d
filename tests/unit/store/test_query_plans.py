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
from headrace.schemas.deployments import GET_SCHEDULED_FLOW_RUNS_FOR_DEPLOYMENTS
from headrace.schemas.endpoint import Endpoint
from headrace.schemas.events import READ_EVENTS, EventFilter, ReadEvents
from headrace.schemas.flow_runs import COUNT_FLOW_RUNS, COUNT_TASK_RUNS_BY_FLOW_RUN, READ_FLOW_RUNS
from headrace.schemas.logs import READ_LOGS
from headrace.schemas.states import StateType
from headrace.schemas.work_pools import GET_SCHEDULED_FLOW_RUNS
from headrace.server.events.cursors import read_behind
from headrace.server.events.matching import bounded
from headrace.server.http.events_out import past
from headrace.server.operations import tagged
from headrace.server.operations.closing import close_inside
from headrace.server.operations.expiring import ended_trees, expired_flow_runs, some
from headrace.server.operations.facts import _CACHED
from headrace.server.operations.flow_runs import _BY_KEY
from headrace.server.operations.lookups import FEW
from headrace.server.operations.orphans import vanished_runs
from headrace.server.services.overdue import overdue
from headrace.server.store import composed, open_store
from headrace.server.store.long_lists import among
from headrace.server.store.tables import ARTIFACT, LOG
from headrace.server.store.tables import TASK_RUN as TASK_RUNS
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
    """In databases of two thousand runs rare tags alone are seldom; and every question is the first of its kind."""
    monkeypatch.setattr(tagged, "SELDOM", 50)
    monkeypatch.setattr(composed, "_KEPT", {})


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


def sqlite_plans(url: str, call: Callable[[Store], Any]) -> list[str]:
    """The lines of the plans of a call."""
    engine = create_engine(url)
    plans: list[str] = []
    for statement, parameters in statements_of(url, call):
        with engine.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans += [row[3] for row in plan]
    engine.dispose()
    return plans


@pytest.mark.parametrize("name", sorted(QUERIES.keys() - SOON_FOUND))
def test_sqlite_has_an_index_for_it(sqlite_file: str, name: str) -> None:
    """A big table is searched, or walked along an index, never scanned."""
    plans = sqlite_plans(sqlite_file, listing(name))

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


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def rows_read(url: str, call: Callable[[Store], Any]) -> int:
    """How many rows of the log and of its index PostgreSQL reads for a call, those it passes over included."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    read = 0
    for statement, parameters in statements_of(url, call):
        with engine.connect() as connection:
            [[[plan]]] = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).all()
        for node in _nodes(plan["Plan"]):
            if str(node.get("Relation Name", "")).startswith("event"):
                rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                read += rows * node["Actual Loops"]
    engine.dispose()
    return read


OF_FEW = {
    "events of a run": 20,
    "count of events of a run by day": 20,
    "events of a flow's runs in a day": 0,  # it had none that day
    "events of a flow's runs in a month": 100,
    "late runs of a flow in a month, as events": 100,
    "count of events of a flow's runs by day": 100,
}
"""How many rows of ten thousand events, of which a run has five and a flow a hundred, a question may read."""


@pytest.mark.parametrize("name", OF_FEW)
def test_postgresql_reads_little_of_the_log_for_few_matches(postgres_database: str, name: str) -> None:
    """Whatever the slices, and however the planner takes tables that are as small as these."""
    read = rows_read(postgres_database, listing(name))
    assert read <= OF_FEW[name]
    assert read > 0 or OF_FEW[name] == 0


def called(endpoint: Endpoint[Any], body: dict[str, Any], **path: Any) -> Callable[[Store], Any]:
    """A call of the API."""
    return lambda store: LocalClient(store).call(endpoint, body=msgspec.convert(body, endpoint.body), **path)


MANY_RUNS = [made_id(RUN, number) for number in range(150)]
A_RUN, A_FLOW, A_DEPLOYMENT = made_id(RUN, 0), made_id(FLOW, 7), made_id(DEPLOYMENT, 7)
BEFORE = {"scheduled_before": NOW}
LOOK_UPS: dict[str, tuple[Callable[[Store], Any], str]] = {
    "late runs": (lambda store: store.read(lambda tx: overdue(tx, [StateType.SCHEDULED])), "flow_run__state_type_due"),
    "lost runs": (
        lambda store: store.read(lambda tx: overdue(tx, [StateType.PENDING, StateType.RUNNING])),
        "flow_run__state_type_due",
    ),
    "a worker's poll": (
        called(GET_SCHEDULED_FLOW_RUNS, BEFORE, name="pool-3"),
        "flow_run__work_queue_id_state_type_next_scheduled_start_time",
    ),
    "a poll for deployments": (
        called(GET_SCHEDULED_FLOW_RUNS_FOR_DEPLOYMENTS, BEFORE | {"deployment_ids": [A_DEPLOYMENT]}),
        "flow_run__deployment_id_next_scheduled_start_time",
    ),
    "what the scheduler has made": (
        lambda store: store.read(lambda tx: tx.execute(_BY_KEY.statement, {"flow": A_FLOW, "key": "k"}).all()),
        "flow_run__flow_id_idempotency_key",
    ),
    "children of a run": (
        called(READ_FLOW_RUNS, {"flow_runs": {"parent_flow_run_id": {"any_": [A_RUN]}}}),
        "flow_run__parent_task_run_id",
    ),
    "what to close inside a run": (
        lambda store: store.write(lambda tx: close_inside(tx, A_RUN, StateType.CRASHED)),
        "flow_run__parent_task_run_id",
    ),
    "task runs that stand for a run": (
        called(COUNT_TASK_RUNS_BY_FLOW_RUN, {"flow_run_ids": [A_RUN]}),
        "flow_run__parent_task_run_id",
    ),
    "runs begun since": (
        called(COUNT_FLOW_RUNS, {"flow_runs": {"start_time": {"after_": NOW - timedelta(hours=1)}}}),
        "flow_run__stands_at",
    ),
    "runs that ended long ago": (
        lambda store: store.read(lambda tx: expired_flow_runs(tx, NOW - timedelta(days=300), NOW, 200)),
        "flow_run__end_time",
    ),
    "what ran below runs": (
        lambda store: store.read(lambda tx: ended_trees(tx, MANY_RUNS, NOW)),
        "task_run__flow_run_id_task_key_dynamic_key",
    ),
    "what ran below runs, by their parents": (
        lambda store: store.read(lambda tx: ended_trees(tx, MANY_RUNS, NOW)),
        "flow_run__parent_task_run_id",
    ),
    "log lines inside runs": (
        lambda store: store.read(lambda tx: some(tx, LOG.c.id, among(LOG.c.flow_run_id, MANY_RUNS), 1000)),
        "log__flow_run_id_timestamp",
    ),
    "artifacts inside runs": (
        lambda store: store.read(lambda tx: some(tx, ARTIFACT.c.id, among(ARTIFACT.c.flow_run_id, MANY_RUNS), 1000)),
        "artifact__flow_run_id",
    ),
    "task runs inside runs": (
        lambda store: store.read(lambda tx: some(tx, TASK_RUNS.c.id, among(TASK_RUNS.c.flow_run_id, MANY_RUNS), 1000)),
        "task_run__flow_run_id_task_key_dynamic_key",
    ),
    "runs that log lines name": (
        lambda store: store.read(lambda tx: vanished_runs(tx, LOG, A_RUN, 100)),
        "log__flow_run_id_timestamp",
    ),
    "runs that artifacts name": (
        lambda store: store.read(lambda tx: vanished_runs(tx, ARTIFACT, A_RUN, 100)),
        "artifact__flow_run_id",
    ),
    "a cached result": (
        lambda store: store.read(lambda tx: tx.execute(_CACHED.statement, {"key": "k", "now": NOW}).all()),
        "task_run__cache_key",
    ),
    "log of a run": (called(READ_LOGS, {"logs": {"flow_run_id": {"any_": [A_RUN]}}}), "log__flow_run_id_timestamp"),
    "log of a task run": (
        called(READ_LOGS, {"logs": {"task_run_id": {"any_": [made_id(TASK, 0)]}}}),
        "log__task_run_id_timestamp",
    ),
}
"""What services, workers and engines look up, and the index it is found in; most of these have few of the rows."""


@pytest.mark.parametrize("name", LOOK_UPS)
def test_sqlite_looks_it_up_in_an_index_of_few_rows(sqlite_file: str, name: str) -> None:
    """SQLite sees that the index has all rows that can be meant."""
    call, index = LOOK_UPS[name]
    assert re.search(rf"INDEX ix_{index} \(", "\n".join(sqlite_plans(sqlite_file, call)))


@pytest.mark.parametrize("name", LOOK_UPS)
def test_postgresql_looks_it_up_in_an_index_of_few_rows(postgres_database: str, name: str) -> None:
    """So does PostgreSQL."""
    call, index = LOOK_UPS[name]
    assert re.search(rf"(using|on) ix_{index} ", "\n".join(postgresql_plans(postgres_database, call)) + " ")
