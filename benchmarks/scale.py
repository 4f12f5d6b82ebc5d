"""A big database, and how long the lists and counts of a UI take on it.

    python -m benchmarks.scale [--runs 1000000] [--only sqlite|postgresql] [--queries events]

makes flow runs, five times as many task runs, fifteen times as many log lines and five times as many events, spread
over ninety days, and prints the median time of each query of `benchmarks.queries`, run in-process on the store, beside
its limit: 100 ms for a first page, 200 ms for a count. The exit code is 1 when one is missed.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any
from uuid import UUID

from msgspec.structs import replace
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.schema import CreateIndex, DropIndex

from benchmarks.queries import NOW, queries, seconds_of
from benchmarks.rows import database_url
from headrace._internal.clock import ManualClock
from headrace.server.events.log import RESOURCE_ID, RESOURCE_ROLE
from headrace.server.services import event_retention
from headrace.server.store import open_store
from headrace.server.store.schema import is_for
from headrace.server.store.tables import METADATA
from headrace.settings import get_settings

START = NOW - timedelta(days=90)
FLOWS, DEPLOYMENTS, POOLS, QUEUES = 100, 300, 5, 15
TASKS, LINES = 5, 15
STATES = ("COMPLETED",) * 85 + ("FAILED",) * 8 + ("CRASHED",) * 3 + ("CANCELLED",) * 2 + ("SCHEDULED",) * 2
STEPS = ("flow-run.Late", "flow-run.Running", "task-run.Running", "task-run.Completed", "flow-run.Completed")
CHUNK = 20_000

Rows = Iterator[dict[str, Any]]


def made_id(kind: int, number: int, moment: datetime = START) -> UUID:
    """The version 7 id of the `number`-th thing of a kind, made at a moment."""
    return UUID(int=int(moment.timestamp() * 1000) << 80 | 7 << 76 | kind << 64 | 2 << 62 | number)


FLOW, DEPLOYMENT, POOL, QUEUE, RUN, RUN_STATE, TASK, TASK_STATE, LOG, EVENT = range(10)


def small_things() -> Iterator[tuple[str, Rows]]:
    """Flows, work pools, queues and deployments."""

    def these(kind: int, count: int, columns: Callable[[int], dict[str, Any]]) -> Rows:
        return ({"id": made_id(kind, n), "created": START, "updated": START} | columns(n) for n in range(count))

    plain = {"tags": [], "labels": {}}
    pool = {"type": "process", "base_job_template": {}, "is_paused": False, "status": "READY"}
    queue = {"is_paused": False, "priority": 1, "status": "READY"}
    deployment = {"labels": {}, "parameters": {}, "job_variables": {}, "paused": False, "status": "READY"}
    yield "flow", these(FLOW, FLOWS, lambda n: plain | {"name": f"flow-{n}"})
    yield "work_pool", these(POOL, POOLS, lambda n: pool | {"name": f"pool-{n}", "storage_configuration": {}})
    yield (
        "work_queue",
        these(QUEUE, QUEUES, lambda n: queue | {"name": f"queue-{n}", "work_pool_id": made_id(POOL, n % POOLS)}),
    )
    yield (
        "deployment",
        these(
            DEPLOYMENT,
            DEPLOYMENTS,
            lambda n: (
                deployment
                | {"flow_id": made_id(FLOW, n % FLOWS), "name": f"deployment-{n}", "tags": [f"team-{n % 7}"]}
                | {"enforce_parameter_schema": True, "work_queue_id": made_id(QUEUE, n % QUEUES)}
            ),
        ),
    )


def timing(n: int, began: datetime) -> dict[str, Any]:
    """The columns of a run that tell its times and its state."""
    kind = STATES[n % 100]
    waits, ended = kind == "SCHEDULED", began + timedelta(minutes=1)
    return {
        "expected_start_time": began,
        "next_scheduled_start_time": began if waits else None,
        "start_time": None if waits else began,
        "end_time": None if waits else ended,
        "total_run_time": 60.0,
        "run_count": 1,
        "state_type": kind,
        "state_name": "Late" if waits else kind.capitalize(),
        "state_timestamp": ended,
    }


def state_of(run: dict[str, Any]) -> dict[str, Any]:
    """The columns of a run's state."""
    columns = {"type": run["state_type"], "name": run["state_name"], "timestamp": run["state_timestamp"]}
    return {"id": run["state_id"], **columns, "message": None, "data": None, "state_details": {}}


def flow_run(n: int, began: datetime) -> dict[str, Any]:
    """The `n`-th flow run. Two in three have tags, one in 300 a seldom one, and one in 10 000 a rare one."""
    tags = ["rare"] if n % 10_000 == 17 else [] if n % 3 == 0 else [f"team-{n % 7}", "nightly"]
    if n % 300 == 1:
        tags.append("seldom")
    return {
        "id": made_id(RUN, n, began),
        "created": began,
        "updated": began,
        "flow_id": made_id(FLOW, n % FLOWS),
        "deployment_id": made_id(DEPLOYMENT, n % DEPLOYMENTS),
        "work_queue_id": made_id(QUEUE, n % QUEUES),
        "work_queue_name": f"queue-{n % QUEUES}",
        "name": f"able-otter-{n}",
        "parameters": {"day": n},
        "context": {},
        "empirical_policy": {},
        "job_variables": {},
        "tags": tags,
        "labels": {},
        "auto_scheduled": True,
        "state_id": made_id(RUN_STATE, n, began),
        "state_index": 1,
        **timing(n, began),
    }


def task_run(n: int, run_id: UUID, began: datetime) -> dict[str, Any]:
    """The `n`-th task run. One in three has tags, and one in fifty thousand a rare one."""
    key = f"step-{n % TASKS}"
    tags = ["rare"] if n % 50_000 == 17 else [f"team-{n % 77}", "io"] if n % 3 == 1 else []
    return {
        "id": made_id(TASK, n, began),
        "created": began,
        "updated": began,
        "flow_run_id": run_id,
        "name": key,
        "task_key": key,
        "dynamic_key": "0",
        "task_inputs": {},
        "empirical_policy": {},
        "tags": tags,
        "labels": {},
        "flow_run_run_count": 1,
        "state_id": made_id(TASK_STATE, n, began),
        **timing(n, began),
    }


def log_line(n: int, run_id: UUID, moment: datetime) -> dict[str, Any]:
    """The `n`-th log line."""
    return {
        "id": made_id(LOG, n, moment),
        "created": moment,
        "name": "headrace.flow_runs",
        "level": 40 if n % 50 == 0 else 20,
        "message": f"Wrote {n} rows of the table to the lake",
        "timestamp": moment,
        "flow_run_id": run_id,
    }


def event_of(n: int, run_id: UUID, moment: datetime) -> dict[str, Any]:
    """The `n`-th event: a step of a flow run, or of a task run in it."""
    step, run = STEPS[n % TASKS], f"prefect.flow-run.{run_id}"
    about = f"prefect.task-run.{made_id(TASK, n)}" if step.startswith("task-run") else run
    flow = {RESOURCE_ID: f"prefect.flow.{made_id(FLOW, n // TASKS % FLOWS)}", RESOURCE_ROLE: "flow"}
    return {
        "id": made_id(EVENT, n, moment),
        "occurred": moment,
        "received": moment,
        "event": f"prefect.{step}",
        "resource_id": about,
        "resource": {RESOURCE_ID: about},
        "related": [flow] if about is run else [{RESOURCE_ID: run, RESOURCE_ROLE: "flow-run"}, flow],
        "payload": {},
    }


def related_of(event: dict[str, Any]) -> Rows:
    """The rows that say what an event is related to."""
    for labels in event["related"]:
        ids = {"resource_id": labels[RESOURCE_ID], "occurred": event["occurred"], "event_id": event["id"]}
        yield ids | {"role": labels[RESOURCE_ROLE]}


def tags_of(runs: Rows) -> Rows:
    """The rows of the index of their tags."""
    return ({"tag": tag, "run_id": run["id"]} for run in runs for tag in run["tags"])


def big_things(runs: int) -> Iterator[tuple[str, Rows]]:
    """Flow runs and what they left behind."""
    step = (NOW - START) / runs

    def moments(each: int) -> Iterator[tuple[int, UUID, datetime]]:
        for n in range(runs):
            began = START + n * step
            run_id = made_id(RUN, n, began)
            for part in range(each):
                yield n * each + part, run_id, began + timedelta(seconds=part)

    yield "flow_run", (flow_run(n, moment) for n, _, moment in moments(1))
    yield "flow_run_tag", tags_of(flow_run(n, moment) for n, _, moment in moments(1))
    states = ((made_id(RUN, n, moment), flow_run(n, moment)) for n, _, moment in moments(1))
    yield "flow_run_state", (state_of(run) | {"flow_run_id": id, "state_index": 1} for id, run in states)
    yield "task_run", (task_run(*each) for each in moments(TASKS))
    yield "task_run_tag", tags_of(task_run(*each) for each in moments(TASKS))
    tasks = (task_run(*each) for each in moments(TASKS))
    yield "task_run_state", (state_of(task) | {"task_run_id": task["id"]} for task in tasks)
    yield "log", (log_line(*each) for each in moments(LINES))
    yield "event", (event_of(*each) for each in moments(TASKS))
    yield "event_related", (row for each in moments(TASKS) for row in related_of(event_of(*each)))


def copy_in(connection: Connection, name: str, rows: Rows) -> int:
    """Fill a table by the quickest way its database has."""
    first = next(rows)
    columns, table, count = list(first), METADATA.tables[name], 0
    encoders = [
        table.c[one].type.dialect_impl(connection.dialect).bind_processor(connection.dialect) for one in columns
    ]

    driver = connection.connection.cursor()
    values = (
        tuple(one if encode is None else encode(one) for one, encode in zip(row.values(), encoders, strict=True))
        for row in chain([first], rows)
    )
    if connection.dialect.name == "postgresql":
        with driver.copy(f"COPY {name} ({', '.join(columns)}) FROM STDIN") as copy:  # type: ignore[attr-defined]
            for row in values:
                copy.write_row(row)
                count += 1
        return count
    statement = f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
    while chunk := list(islice(values, CHUNK)):
        driver.executemany(statement, chunk)
        count += len(chunk)
    return count


def make_tables(url: str) -> None:
    """Make the tables, and the slices of the event log as a server makes them that keeps events for so long."""
    store, settings = open_store(url, ManualClock(NOW)), get_settings()
    events = replace(settings.server.events, retention_period=NOW - START)
    event_retention.run_once(store, replace(settings, server=replace(settings.server, events=events)))
    store.close()


def fill(url: str, runs: int) -> None:
    """Make the tables and fill them; indexes are made afterwards, which takes a fraction of the time."""
    make_tables(url)
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg" if url.startswith("postgres") else "sqlite")
    )
    indexes = [index for table in METADATA.sorted_tables for index in table.indexes]
    # in the order in which a store makes them: of equals SQLite takes the last
    indexes = sorted((one for one in indexes if is_for(one, engine.dialect.name)), key=lambda index: str(index.name))
    with engine.begin() as connection:
        for index in indexes:
            connection.execute(DropIndex(index, if_exists=True))
        for name, rows in (*small_things(), *big_things(runs)):
            began = time.monotonic()
            count = copy_in(connection, name, rows)
            print(f"  {name}: {count:,} rows in {time.monotonic() - began:.0f} s", flush=True)
    with engine.begin() as connection:
        began = time.monotonic()
        for index in indexes:
            connection.execute(CreateIndex(index))
        print(f"  indexes in {time.monotonic() - began:.0f} s", flush=True)
    if engine.dialect.name == "postgresql":  # what autovacuum does in time
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()


def measure(url: str, part: str) -> int:
    """Print how long each query takes whose name has this part; returns how many take too long."""
    store, missed = open_store(url), 0
    chosen = queries(made_id(RUN, 0), made_id(TASK, 0), made_id(FLOW, 7), made_id(DEPLOYMENT, 7))
    for query in (one for one in chosen if part in one.name):
        taken = seconds_of(store, query) * 1000
        slow = taken > query.limit
        missed += slow
        print(
            f"| {query.name} | {taken:,.1f} ms | ≤ {query.limit:.0f} ms | {'**missed**' if slow else 'met'} |",
            flush=True,
        )
    store.close()
    return missed


def databases(only: str | None, folder: Path) -> Iterable[tuple[str, str]]:
    """The databases to measure: name and URL, each empty."""
    if only != "postgresql":
        yield "SQLite", f"sqlite:///{folder / 'scale.db'}"
    if only != "sqlite" and (url := database_url("headrace_scale")):
        yield "PostgreSQL", url


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill and measure; the exit code is 1 when a query takes too long."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="how many flow runs")
    parser.add_argument("--only", choices=["sqlite", "postgresql"], help="one database alone")
    parser.add_argument("--url", help="measure this database, filled before, and leave it as it is")
    parser.add_argument("--queries", default="", help="only those whose name has this part")
    options = parser.parse_args(arguments)
    if options.url:
        return 1 if measure(options.url, options.queries) else 0
    missed = 0
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        for name, url in databases(options.only, Path(folder)):
            print(f"\n{name}, {options.runs:,} flow runs")
            fill(url, options.runs)
            missed += measure(url, options.queries)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
