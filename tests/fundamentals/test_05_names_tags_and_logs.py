"""Knowing runs again: names, tags, what a run knows of itself, and its log."""

from typing import Any

from headrace import flow, get_client, get_run_logger, tags, task
from headrace.engine import recorder
from headrace.runtime import flow_run, task_run
from headrace.schemas.filters import IdIn, LogFilter
from headrace.schemas.logs import READ_LOGS, ReadLogs


def lines_of(state: Any) -> list[str]:
    """What the log of a run says."""
    recorder.current().flush(5)
    only = LogFilter(flow_run_id=IdIn(any_=[state.state_details.flow_run_id]))
    return [log.message for log in get_client().call(READ_LOGS, body=ReadLogs(logs=only))]


def test_runs_can_be_named_by_their_parameters() -> None:
    """A template, or a function, makes the name."""

    @task(task_run_name=lambda parameters: f"load {parameters['table']}")
    def load(table: str) -> str:
        return str(task_run.name)

    @flow(flow_run_name="report of {day}")
    def report(day: str) -> tuple[str, str]:
        return str(flow_run.name), load("flights")

    assert report("monday") == ("report of monday", "load flights")


def test_tags_are_given_to_all_runs_inside_a_block() -> None:
    """A task's own tags are added."""

    @task(tags=["database"])
    def load() -> list[str]:
        return sorted(task_run.tags)

    @flow
    def report() -> list[str]:
        return load()

    with tags("nightly"):
        assert report() == ["database", "nightly"]


def test_a_run_knows_itself() -> None:
    """`headrace.runtime` tells about the run that the code is in; outside of one its attributes are None or empty."""

    @flow
    def report(day: str) -> tuple[Any, ...]:
        return flow_run.flow_name, flow_run.parameters, flow_run.run_count

    assert report("monday") == ("report", {"day": "monday"}, 1)
    assert (flow_run.id, flow_run.parameters) == (None, {})


def test_a_run_has_a_log() -> None:
    """Lines of `get_run_logger()` belong to the run they were written in."""

    @flow
    def report() -> None:
        get_run_logger().info("3 rows were loaded")

    assert "3 rows were loaded" in lines_of(report(return_state=True))


def test_prints_can_go_to_the_log() -> None:
    """With `log_prints`, what is printed in the flow and its tasks is logged."""

    @task
    def load() -> None:
        print("loading")

    @flow(log_prints=True)
    def report() -> None:
        load()
        print("done")

    lines = lines_of(report(return_state=True))

    assert [line for line in lines if line in ("loading", "done")] == ["loading", "done"]
