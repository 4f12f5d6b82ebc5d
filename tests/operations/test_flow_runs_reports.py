"""Figures about many runs: histories, lateness, points, counts."""

from datetime import datetime
from typing import Any

import pytest

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import ValidationFailed
from headrace.schemas.filters import FlowFilter, FlowRunFilter, NameMatch, NullableTimeRange, TaskRunFilter
from headrace.schemas.flow_runs import (
    AVERAGE_FLOW_RUN_LATENESS,
    COUNT_TASK_RUNS_BY_FLOW_RUN,
    FLOW_RUN_HISTORY,
    READ_FLOW_RUN_HISTORY,
    READ_FLOW_RUNS,
    SET_FLOW_RUN_STATE,
    AverageFlowRunLateness,
    CountTaskRunsByFlowRun,
    FlowRunHistory,
    ReadFlowRunHistory,
    ReadFlowRuns,
    SetFlowRunState,
)
from headrace.schemas.history import HistoryResponse
from headrace.schemas.task_runs import (
    READ_DASHBOARD_TASK_RUN_COUNTS,
    READ_TASK_RUN_COUNTS_BY_STATE,
    TASK_RUN_HISTORY,
    ReadDashboardTaskRunCounts,
    ReadTaskRunCountsByState,
    TaskRunHistory,
)
from headrace.server.store.tables import FLOW_RUN
from headrace.server.store.transaction import Store
from tests.operations.runs_world import NOW, at, in_state, make_flow, make_run, make_task_run, scheduled, spoil


def history(api: LocalClient, start: datetime, end: datetime, seconds: float, **scope: Any) -> list[HistoryResponse]:
    """The history of flow runs over a span."""
    body = FlowRunHistory(history_start=start, history_end=end, history_interval_seconds=seconds, **scope)
    return api.call(FLOW_RUN_HISTORY, body=body)


def test_a_history_counts_runs_by_bucket_and_state(api: LocalClient, clock: ManualClock) -> None:
    """Runs count where they are expected, by state, with how long they ran and how late they were."""
    flow = make_flow(api)
    run = make_run(api, flow, "ran", scheduled(at(seconds=0)))
    clock.advance(30)
    api.call(SET_FLOW_RUN_STATE, id=run.id, body=SetFlowRunState(state=in_state("RUNNING"), force=True))
    clock.advance(60)
    make_run(api, flow, "late", scheduled(at(seconds=80)))
    for hour in (1, 1, 3):
        make_run(api, flow, "to come", scheduled(at(hours=hour, minutes=1)))

    first, second, *rest = history(api, NOW, at(hours=5), 3600)

    assert (first.interval_start, first.interval_end, second.interval_end) == (NOW, at(hours=1), at(hours=2))
    figures = {
        state.state_name: (state.count_runs, state.sum_estimated_run_time, state.sum_estimated_lateness)
        for state in first.states
    }
    assert figures == {"Running": (1, 60.0, 30.0), "Scheduled": (1, 0.0, 10.0)}
    assert [(state.state_name, state.count_runs, state.sum_estimated_lateness) for state in second.states] == [
        ("Scheduled", 2, 0.0)
    ]
    assert [len(bucket.states) for bucket in rest] == [0, 1, 0]


def test_figures_of_a_list_and_of_a_history_are_the_same(api: LocalClient, clock: ManualClock) -> None:
    """What the database adds up is what the single runs say of themselves."""
    flow = make_flow(api)
    for seconds, state in ((-5, "RUNNING"), (-7, "COMPLETED"), (-11, "PENDING"), (13, "FAILED"), (-3, "CRASHED")):
        run = make_run(api, flow, state, scheduled(at(seconds=seconds)))
        api.call(SET_FLOW_RUN_STATE, id=run.id, body=SetFlowRunState(state=in_state("RUNNING"), force=True))
        clock.advance(2.5)
        api.call(SET_FLOW_RUN_STATE, id=run.id, body=SetFlowRunState(state=in_state(state), force=True))
    make_run(api, flow, "waiting", scheduled(at(seconds=1)))
    clock.advance(100)
    runs = api.call(READ_FLOW_RUNS, body=ReadFlowRuns())

    [bucket] = history(api, at(hours=-1), at(hours=1), 7200)
    average = api.call(AVERAGE_FLOW_RUN_LATENESS, body=AverageFlowRunLateness())

    assert sum(state.count_runs for state in bucket.states) == len(runs)
    for state in bucket.states:
        of_state = [run for run in runs if run.state_name == state.state_name]
        assert state.sum_estimated_run_time == pytest.approx(sum(run.estimated_run_time for run in of_state))
        assert state.sum_estimated_lateness == pytest.approx(sum(run.estimated_start_time_delta for run in of_state))
    assert average == pytest.approx(sum(run.estimated_start_time_delta for run in runs) / len(runs))


def test_lateness_of_no_runs_is_null(api: LocalClient) -> None:
    """No run, no average."""
    none = FlowRunFilter(name=NameMatch(any_=["nope"]))

    assert api.call(AVERAGE_FLOW_RUN_LATENESS, body=AverageFlowRunLateness(flow_runs=none)) is None


def test_a_history_is_narrowed_by_filters(api: LocalClient) -> None:
    """Only runs that the filters find are counted."""
    make_run(api, make_flow(api, "etl"), state=scheduled(at(minutes=1)))
    make_run(api, make_flow(api, "report"), state=scheduled(at(minutes=1)))
    only = FlowFilter(name=NameMatch(any_=["etl"]))

    [bucket] = history(api, NOW, at(hours=1), 3600, flows=only)

    assert [state.count_runs for state in bucket.states] == [1]


@pytest.mark.parametrize("seconds", [0, 0.5, -60, float("nan"), 1e300])
def test_buckets_have_a_sensible_length(api: LocalClient, seconds: float) -> None:
    """A bucket shorter than a second, or longer than time, is refused."""
    for end in (at(hours=1), at(hours=-1)):
        with pytest.raises(ValidationFailed):
            history(api, NOW, end, seconds)


def test_a_history_has_a_bounded_number_of_buckets(api: LocalClient) -> None:
    """A span of years in seconds gives 500 buckets; one that ends before it begins gives none."""
    assert len(history(api, NOW, at(days=3650), 1)) == 500
    assert history(api, NOW, at(hours=-1), 60) == []


def test_a_page_draws_runs_as_points(api: LocalClient, clock: ManualClock) -> None:
    """Each run is a point: when, how long, how late, in which state."""
    flow = make_flow(api)
    run = make_run(api, flow, "ran", scheduled(NOW))
    clock.advance(4)
    api.call(SET_FLOW_RUN_STATE, id=run.id, body=SetFlowRunState(state=in_state("RUNNING"), force=True))
    clock.advance(6)

    [point] = api.call(READ_FLOW_RUN_HISTORY, body=ReadFlowRunHistory())

    assert (point.id, point.state_type, point.timestamp) == (run.id, "RUNNING", at(seconds=4))
    assert (point.duration, point.lateness) == (6.0, 4.0)


def test_g13_broken_runs_do_not_break_figures(api: LocalClient, store: Store) -> None:
    """A run in a state that does not exist is left out of histories and points."""
    flow = make_flow(api)
    runs = [make_run(api, flow, str(number), scheduled(at(minutes=1))) for number in range(3)]
    spoil(store, FLOW_RUN, runs[1].id, "state_type", "NONSENSE")

    [bucket] = history(api, NOW, at(hours=1), 3600)

    assert [state.count_runs for state in bucket.states] == [2]
    assert len(api.call(READ_FLOW_RUN_HISTORY, body=ReadFlowRunHistory())) == 2
    assert api.call(AVERAGE_FLOW_RUN_LATENESS, body=AverageFlowRunLateness()) == 0.0


def test_task_runs_are_counted_by_flow_run(api: LocalClient) -> None:
    """Each flow run has the number of its task runs; those that stand for child runs are not counted."""
    flow = make_flow(api)
    run, empty = make_run(api, flow), make_run(api, flow)
    tasks = [make_task_run(api, run, str(number)) for number in range(3)]
    make_run(api, flow, "child", parent_task_run_id=tasks[0].id)
    unknown = uuid7()

    counts = api.call(
        COUNT_TASK_RUNS_BY_FLOW_RUN, body=CountTaskRunsByFlowRun(flow_run_ids=[run.id, empty.id, unknown])
    )

    assert counts == {str(run.id): 2, str(empty.id): 0, str(unknown): 0}


def test_task_runs_are_counted_by_state_and_time(api: LocalClient) -> None:
    """Counts by type of state, and a history, of the task runs that filters find."""
    run = make_run(api, make_flow(api))
    for key, state in enumerate(("RUNNING", "COMPLETED", "COMPLETED", "FAILED")):
        make_task_run(api, run, str(key), state=in_state(state))
    of_run = FlowRunFilter(name=NameMatch(any_=["run"]))

    counts = api.call(READ_TASK_RUN_COUNTS_BY_STATE, body=ReadTaskRunCountsByState(flow_runs=of_run))
    [bucket] = api.call(
        TASK_RUN_HISTORY,
        body=TaskRunHistory(history_start=NOW, history_end=at(hours=1), history_interval_seconds=3600),
    )

    assert (counts.RUNNING, counts.COMPLETED, counts.FAILED, counts.CRASHED) == (1, 2, 1, 0)
    assert {state.state_name: state.count_runs for state in bucket.states} == {
        "Running": 1,
        "Completed": 2,
        "Failed": 1,
    }


def test_the_dashboard_counts_ends_in_twenty_buckets(api: LocalClient, clock: ManualClock) -> None:
    """Completed and failed task runs since a moment, in twenty buckets up to now or to the given end."""
    run = make_run(api, make_flow(api))
    for key, state in enumerate(("COMPLETED", "FAILED", "CRASHED", "RUNNING")):
        make_task_run(api, run, str(key), state=in_state(state))
        clock.advance(300)

    def counts(**span: datetime) -> list[dict[str, int]]:
        chosen = TaskRunFilter(start_time=NullableTimeRange(**span))
        return api.call(READ_DASHBOARD_TASK_RUN_COUNTS, body=ReadDashboardTaskRunCounts(task_runs=chosen))

    until_now, until_later = counts(after_=NOW), counts(after_=NOW, before_=at(seconds=6000))

    assert len(until_now) == len(until_later) == 20
    assert [each for each in until_now if any(each.values())] == [
        {"completed": 1, "failed": 0},
        {"completed": 0, "failed": 1},
        {"completed": 0, "failed": 1},
    ]
    assert until_later[:3] == [
        {"completed": 1, "failed": 0},
        {"completed": 0, "failed": 1},
        {"completed": 0, "failed": 1},
    ]
    with pytest.raises(ValidationFailed, match="after_"):
        api.call(READ_DASHBOARD_TASK_RUN_COUNTS, body=ReadDashboardTaskRunCounts(task_runs=TaskRunFilter()))
