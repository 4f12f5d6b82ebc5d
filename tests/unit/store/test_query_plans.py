"""No list or count that a UI asks for reads a big table from end to end."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, make_url

from benchmarks.queries import Query, queries
from benchmarks.scale import DEPLOYMENT, FLOW, RUN, TASK, fill, made_id
from headrace.client.local import LocalClient
from headrace.server.operations.paging import FEW
from headrace.server.store import open_store
from tests.support import postgresql

BIG = {"flow_run", "flow_run_state", "task_run", "task_run_state", "log", "event", "event_related"}
QUERIES = {
    query.name: query for query in queries(made_id(RUN, 0), made_id(TASK, 0), made_id(FLOW, 7), made_id(DEPLOYMENT, 7))
}
WHOLE = re.compile(r"SCAN (\w+)(?! USING)")
READS_ALL = {name for name in QUERIES if " tag" in name}
"""Filters by tag alone look at the tags of every run."""
SOON_FOUND = {name for name in QUERIES if re.match("flow runs (of a work|that are no)", name)}
"""What so many rows fit that SQLite finds enough of them by reading on until it has two thousand."""


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


def statements_of(url: str, query: Query) -> list[tuple[str, Any]]:
    """The statements a call sends, with their parameters."""
    sent: list[tuple[str, Any]] = []

    def note(_: Connection, __: object, statement: str, parameters: Any, *___: object) -> None:
        sent.append((statement, parameters))

    store = open_store(url)
    client = LocalClient(store)
    event.listen(Engine, "before_cursor_execute", note)
    try:
        query.call(client)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
        store.close()
    return [one for one in sent if one[0].lstrip().startswith(("SELECT", "WITH")) and "FROM" in one[0]]


@pytest.mark.parametrize("name", sorted(QUERIES.keys() - READS_ALL - SOON_FOUND))
def test_sqlite_has_an_index_for_it(sqlite_file: str, name: str) -> None:
    """A big table is searched, or walked along an index, never scanned."""
    plans = []
    engine = create_engine(sqlite_file)
    for statement, parameters in statements_of(sqlite_file, QUERIES[name]):
        with engine.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans += [row[3] for row in plan]
    engine.dispose()

    scanned = {found[1] for plan in plans if (found := WHOLE.match(plan))}
    assert plans
    assert not scanned & BIG, plans


@pytest.mark.parametrize("name", sorted(QUERIES.keys() - READS_ALL))
def test_postgresql_has_an_index_for_it(postgres_database: str, name: str) -> None:
    """With sequential scans made dear, none is left on a big table."""
    engine = create_engine(make_url(postgres_database).set(drivername="postgresql+psycopg"))
    plans: list[str] = []
    for statement, parameters in statements_of(postgres_database, QUERIES[name]):
        with engine.connect() as connection:
            connection.exec_driver_sql("SET enable_seqscan = off")
            plans += [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)]
    engine.dispose()

    scanned = {found[1] for plan in plans if (found := re.search(r"Seq Scan on (\w+)", plan))}
    assert plans
    assert not scanned & BIG, plans
