"""Attempts: how often, after how long, and on which condition a run is tried again."""

from collections.abc import Iterator
from typing import Any

import pytest

from headrace import flow, task
from headrace.engine import steps
from headrace.engine.retries import delay_after, delays_of
from headrace.runtime import flow_run, task_run
from headrace.tasks import exponential_backoff
from tests.unit.engine import recorded
from tests.unit.engine.conftest import Driver


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Notes how long the synchronous driver would have slept."""
    noted: list[float] = []
    monkeypatch.setattr(steps, "sleep", noted.append)
    return noted


def failing(times: int, value: Any = "done") -> Any:
    """A function that fails so many times before it gives a value."""
    left: Iterator[int] = iter(range(times))

    def body(*_: Any) -> Any:
        if next(left, None) is not None:
            raise ValueError("not yet")
        return value

    return body


def test_a_task_is_tried_again_up_to_its_retries(driver: Driver) -> None:
    """With two retries the third attempt may succeed; with one, the last error is raised."""
    assert driver.run(driver.task(failing(2), retries=2)()) == "done"
    with pytest.raises(ValueError, match="not yet"):
        driver.run(driver.task(failing(2), retries=1)())


def test_states_of_a_retried_task() -> None:
    """With a delay it waits as AwaitingRetry and goes on as Retrying; its run count tells the attempts."""
    body = task(retries=1, retry_delay_seconds=0.01, name="flaky")(failing(1))

    state = flow(lambda: body())(return_state=True)

    (run,) = recorded.task_runs(state.state_details.flow_run_id)
    assert recorded.task_run_states(run.id) == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]
    assert run.run_count == 2


def test_delays_are_taken_in_turn(naps: list[float]) -> None:
    """Each retry has its delay; the last one counts for all that follow."""
    task(retries=3, retry_delay_seconds=[1, 5])(failing(3))()

    assert naps == [1, 5, 5]


def test_delays_may_be_made_by_a_function(naps: list[float]) -> None:
    """`exponential_backoff` doubles the delay with every retry."""
    task(retries=4, retry_delay_seconds=exponential_backoff(10))(failing(4))()

    assert naps == [10, 20, 40, 80]


def test_jitter_only_lengthens_a_delay() -> None:
    """The delay grows by at most its jitter factor."""
    drawn = [delay_after(1, (10,), 0.5) for _ in range(200)]

    assert min(drawn) >= 10
    assert max(drawn) <= 15
    assert len(set(drawn)) > 100


def test_more_than_fifty_delays_are_refused() -> None:
    """A list of delays has a limit."""
    with pytest.raises(ValueError, match="more than 50"):
        delays_of([1] * 51, 60)


def test_a_condition_decides_whether_to_try_again(driver: Driver) -> None:
    """It is asked with the task, the run and the failed state, whose result is the exception."""
    asked = []

    def condition(asking: Any, run: Any, state: Any) -> bool:
        asked.append((asking.name, run.run_count, type(state.result(raise_on_failure=False))))
        return False

    body = driver.task(failing(1), retries=3, retry_condition_fn=condition, name="picky")

    with pytest.raises(ValueError, match="not yet"):
        driver.run(body())
    assert asked == [("picky", 1, ValueError)]


def test_a_condition_that_raises_means_no(driver: Driver) -> None:
    """The task's own error is what the caller gets."""
    body = driver.task(failing(1), retries=1, retry_condition_fn=lambda *_: 1 / 0)

    with pytest.raises(ValueError, match="not yet"):
        driver.run(body())


def test_a_flow_is_tried_again_in_its_process(driver: Driver) -> None:
    """Its states tell the attempts, and so does `runtime.flow_run.run_count` inside of it."""
    counts = []
    flaky = failing(1, "fine")

    def body() -> Any:
        counts.append(flow_run.run_count)
        return flaky()

    state = driver.state(body, retries=1)

    assert counts == [1, 2]
    run = recorded.flow_run(state)
    assert recorded.flow_run_states(run.id) == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]
    assert run.run_count == 2


def test_the_run_count_of_a_task_is_known_inside() -> None:
    """`runtime.task_run.run_count` counts the attempts."""
    counts = []

    @task(retries=1)
    def counted() -> None:
        counts.append(task_run.run_count)
        if len(counts) == 1:
            raise ValueError

    counted()

    assert counts == [1, 2]
