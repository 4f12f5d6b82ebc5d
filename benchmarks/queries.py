"""What the pages of a UI ask for: lists, counts and histories, as bodies of calls."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from headrace.client.local import LocalClient
from headrace.schemas.deployments import READ_DEPLOYMENTS
from headrace.schemas.endpoint import Endpoint
from headrace.schemas.events import COUNT_EVENTS, READ_EVENTS
from headrace.schemas.flow_runs import (
    COUNT_FLOW_RUNS,
    FLOW_RUN_HISTORY,
    PAGINATE_FLOW_RUNS,
    READ_FLOW_RUN_HISTORY,
    READ_FLOW_RUNS,
)
from headrace.schemas.flows import NEXT_RUNS_BY_FLOW, PAGINATE_FLOWS
from headrace.schemas.logs import READ_LOGS
from headrace.schemas.task_runs import COUNT_TASK_RUNS, READ_DASHBOARD_TASK_RUN_COUNTS, READ_TASK_RUNS
from headrace.server.store.transaction import Store

PAGE, COUNT = 100.0, 200.0
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Query:
    """A call, and how many milliseconds it may take."""

    name: str
    endpoint: Endpoint[Any]
    body: dict[str, Any]
    limit: float = PAGE
    path: tuple[tuple[str, Any], ...] = ()
    """Arguments of the call that stand in its path."""

    def call(self, client: LocalClient) -> Any:
        """Make the call."""
        return client.call(self.endpoint, body=msgspec.convert(self.body, self.endpoint.body), **dict(self.path))


def seconds_of(store: Store, query: Query) -> float:
    """The median of five calls, after one that warms up; fewer when it is slow."""
    client = LocalClient(store)
    times: list[float] = []
    while len(times) < 6 and sum(times) < 5:
        began = time.perf_counter()
        query.call(client)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:] or times)


def days_ago(days: float) -> str:
    """A moment before the newest run, as a body has it."""
    return (NOW - timedelta(days=days)).isoformat()


def any_of(*values: Any) -> dict[str, Any]:
    """The condition that a column has one of these values."""
    return {"any_": list(values)}


def run_filters(flow: UUID, deployment: UUID) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every way in which a UI narrows a list of flow runs."""

    def state(*types: str) -> dict[str, Any]:
        return {"flow_runs": {"state": {"type": any_of(*types)}}}

    since = {"expected_start_time": {"after_": days_ago(7)}}
    yield "all", {}
    yield "failed or crashed", state("FAILED", "CRASHED")
    yield "completed", state("COMPLETED")
    yield "running (none)", state("RUNNING")
    yield "late", {"flow_runs": {"state": {"name": any_of("Late")}}}
    yield "of the last week", {"flow_runs": since}
    yield "of the last week, failed", {"flow_runs": since | {"state": {"type": any_of("FAILED")}}}
    yield "of the last week, completed", {"flow_runs": since | {"state": {"type": any_of("COMPLETED")}}}
    yield "of a flow", {"flows": {"id": any_of(flow)}}
    yield "of a flow, running (none)", {"flows": {"id": any_of(flow)}} | state("RUNNING")
    yield "of a flow, by name", {"flows": {"name": any_of("flow-7")}}
    yield "of a deployment", {"deployments": {"id": any_of(deployment)}}
    yield "of a deployment, failed", {"deployments": {"id": any_of(deployment)}} | state("FAILED")
    yield "of a deployment, completed", {"deployments": {"id": any_of(deployment)}} | state("COMPLETED")
    yield "of a work pool", {"work_pools": {"name": any_of("pool-3")}}
    yield "of a work queue", {"work_pool_queues": {"name": any_of("queue-3")}}
    for name, tag in ("frequent", "nightly"), ("rare", "rare"):
        tagged = {"tags": {"all_": [tag]}}
        yield f"with a {name} tag", {"flow_runs": tagged}
        yield f"with a {name} tag, failed", {"flow_runs": tagged | state("FAILED")["flow_runs"]}
        yield f"with a {name} tag, of the last week", {"flow_runs": tagged | since}
    yield "with a seldom or a rare tag", {"flow_runs": {"tags": any_of("rare", "seldom")}}
    yield "with a name like", {"flow_runs": {"name": {"like_": "otter-9999"}}}
    yield "that are no subflows", {"flow_runs": {"parent_task_run_id": {"is_null_": True}}}


def queries(run: UUID, task: UUID, flow: UUID, deployment: UUID) -> Iterator[Query]:
    """All queries.

    Args:
        run: a flow run with task runs and log lines.
        task: one of its task runs.
        flow: a flow with many runs.
        deployment: a deployment with many runs.
    """
    sorts = ("START_TIME_DESC", "EXPECTED_START_TIME_DESC", "START_TIME_ASC", "NAME_ASC", "ID_DESC")
    for name, body in run_filters(flow, deployment):
        for sort in sorts if not body else sorts[:2]:
            yield Query(f"flow runs {name}, {sort}", READ_FLOW_RUNS, body | {"sort": sort, "limit": 200})
        yield Query(f"count of flow runs {name}", COUNT_FLOW_RUNS, body, COUNT)
    yield Query("page of flow runs", PAGINATE_FLOW_RUNS, {"sort": "START_TIME_DESC", "limit": 50}, COUNT)
    span = {"history_start": days_ago(7), "history_end": days_ago(0), "history_interval_seconds": 6 * 3600}
    yield Query("history of a week", FLOW_RUN_HISTORY, span, COUNT)
    week = {"flow_runs": {"expected_start_time": {"after_": days_ago(7)}}}
    yield Query("points of a week", READ_FLOW_RUN_HISTORY, week | {"limit": 1000})
    of_run = {"flow_runs": {"id": any_of(run)}}
    yield Query("task runs of a run", READ_TASK_RUNS, of_run | {"sort": "EXPECTED_START_TIME_ASC"})
    failed = {"task_runs": {"state": {"type": any_of("FAILED")}}}
    yield Query("failed task runs", READ_TASK_RUNS, failed | {"sort": "EXPECTED_START_TIME_DESC"})
    for name, tag in ("frequent", "io"), ("rare", "rare"):
        tagged = {"task_runs": {"tags": {"all_": [tag]}}}
        yield Query(f"task runs with a {name} tag", READ_TASK_RUNS, tagged | {"sort": "END_TIME_DESC"})
        yield Query(f"count of task runs with a {name} tag", COUNT_TASK_RUNS, tagged, COUNT)
    tagged = {"flow_runs": {"tags": {"all_": ["rare"]}}}
    yield Query("task runs of flow runs with a rare tag", READ_TASK_RUNS, tagged | {"sort": "EXPECTED_START_TIME_DESC"})
    yield Query("latest task runs", READ_TASK_RUNS, {"sort": "END_TIME_DESC"})
    yield Query("count of task runs", COUNT_TASK_RUNS, {}, COUNT)
    yield Query("count of failed task runs", COUNT_TASK_RUNS, failed, COUNT)
    yield Query("count of task runs of a run", COUNT_TASK_RUNS, of_run, COUNT)
    day = {"task_runs": {"start_time": {"after_": days_ago(1)}}}
    yield Query("task runs of a day, for the dashboard", READ_DASHBOARD_TASK_RUN_COUNTS, day, COUNT)
    of_run = {"logs": {"flow_run_id": any_of(run)}}
    yield Query("log of a run", READ_LOGS, of_run | {"sort": "TIMESTAMP_ASC"})
    yield Query("errors of a run", READ_LOGS, {"logs": of_run["logs"] | {"level": {"ge_": 40}}})
    yield Query("log of a task run", READ_LOGS, {"logs": {"task_run_id": any_of(task)}})
    yield Query("latest log lines", READ_LOGS, {"sort": "TIMESTAMP_DESC"})
    yield Query("latest errors", READ_LOGS, {"logs": {"level": {"ge_": 40}}, "sort": "TIMESTAMP_DESC"})
    yield Query("page of flows", PAGINATE_FLOWS, {"sort": "NAME_ASC", "limit": 50})
    yield Query("next runs of flows", NEXT_RUNS_BY_FLOW, {"flow_ids": [flow]})
    yield Query("deployments", READ_DEPLOYMENTS, {"sort": "NAME_ASC", "limit": 100})
    yield from event_queries(run, flow)


def event_queries(run: UUID, flow: UUID) -> Iterator[Query]:
    """What a UI asks of the event log."""
    day = {"since": days_ago(1), "until": days_ago(0)}
    month = {"since": days_ago(30), "until": days_ago(0)}
    of_run = {
        "any_resource": {"id": [f"prefect.flow-run.{run}"]},
        "occurred": {"since": days_ago(90)} | {"until": days_ago(0)},
    }
    yield Query("events of a day", READ_EVENTS, {"filter": {"occurred": day}})
    yield Query("events of a run", READ_EVENTS, {"filter": of_run})
    late = {"event": {"name": ["prefect.flow-run.Late"]}, "occurred": day}
    yield Query("late runs of a day, as events", READ_EVENTS, {"filter": late})
    flow_runs = {"related": {"id": [f"prefect.flow.{flow}"]}}
    yield Query("events of a flow's runs in a day", READ_EVENTS, {"filter": flow_runs | {"occurred": day}})
    of_flow = flow_runs | {"occurred": month}
    yield Query("events of a flow's runs in a month", READ_EVENTS, {"filter": of_flow})
    late = {"event": {"prefix": ["prefect.flow-run.L"]}} | of_flow
    yield Query("late runs of a flow in a month, as events", READ_EVENTS, {"filter": late})
    by_day = (("countable", "day"),)
    yield Query("count of events of a run by day", COUNT_EVENTS, {"filter": of_run}, COUNT, by_day)
    yield Query("count of events of a flow's runs by day", COUNT_EVENTS, {"filter": of_flow}, COUNT, by_day)
    by_hour = {"filter": {"occurred": day}, "time_unit": "hour", "time_interval": 1}
    yield Query("count of events by hour", COUNT_EVENTS, by_hour, COUNT, (("countable", "time"),))
