"""Submitting: tasks and flows that run beside each other."""

import threading

import pytest

from headrace import allow_failure, flow, task, unmapped
from headrace.futures import as_completed, wait
from headrace.task_runners import ThreadPoolTaskRunner


@task
def square(x: int) -> int:
    """A step."""
    return x * x


@task
def fail() -> int:
    """A step that does not work."""
    raise ValueError("no data")


def test_submit_starts_a_task_and_gives_a_future() -> None:
    """`result()` waits for it."""

    @flow
    def report() -> int:
        future = square.submit(3)
        return int(future.result())

    assert report() == 9


def test_submitted_tasks_run_at_the_same_time() -> None:
    """Two tasks that wait for each other can both end only if both run."""
    both = threading.Barrier(2, timeout=10)

    @task
    def meet() -> int:
        return both.wait()

    @flow
    def report() -> set[int]:
        return {future.result() for future in [meet.submit(), meet.submit()]}

    assert report() == {0, 1}


def test_map_runs_a_task_for_each_element() -> None:
    """Lists are taken element by element; `unmapped` marks a list that goes to every call."""

    @task
    def scale(x: int, by: int, labels: list[str]) -> tuple[int, int]:
        return x * by, len(labels)

    @flow
    def report() -> list[tuple[int, int]]:
        return list(scale.map([1, 2, 3], by=10, labels=unmapped(["a", "b"])).result())

    assert report() == [(10, 2), (20, 2), (30, 2)]


def test_a_future_can_be_handed_to_another_task() -> None:
    """The other task starts when it is done, and gets the result."""

    @flow
    def report() -> int:
        return int(square.submit(square.submit(2)).result())

    assert report() == 16


def test_a_task_can_wait_for_others_without_using_their_results() -> None:
    """`wait_for` names what must have completed before."""
    order = []

    @task
    def write() -> None:
        order.append("write")

    @task
    def read() -> None:
        order.append("read")

    @flow
    def report() -> None:
        read.submit(wait_for=[write.submit()]).wait()

    report()

    assert order == ["write", "read"]


def test_a_task_does_not_run_when_what_it_needs_failed() -> None:
    """Unless the input is marked with `allow_failure`: then it gets the exception."""

    @task
    def describe(x: object) -> str:
        return type(x).__name__

    @flow
    def report() -> tuple[str, str]:
        bad = fail.submit()
        return describe.submit(bad, return_state=True).name, describe(allow_failure(bad))

    assert report() == ("NotReady", "ValueError")


def test_results_can_be_taken_as_they_come() -> None:
    """`as_completed` gives each future when it is done; `wait` tells which are."""

    @flow
    def report() -> tuple[set[int], int]:
        futures = square.map([1, 2, 3])
        found = {future.result() for future in as_completed(futures)}
        return found, len(wait(futures).done)

    assert report() == ({1, 4, 9}, 3)


def test_the_number_of_threads_can_be_chosen() -> None:
    """With one thread, tasks run one after the other."""
    names = set()

    @task
    def note(_: int) -> None:
        names.add(threading.current_thread().name)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def report() -> None:
        note.map(range(5))

    report()

    assert len(names) == 1


def test_flows_can_be_submitted_and_mapped_too() -> None:
    """Child runs beside each other, with futures like a task's."""

    @flow
    def load(region: str) -> int:
        return len(region)

    @flow
    def nightly() -> list[int]:
        return list(load.map(["north", "east"]).result())

    assert nightly() == [5, 4]


def test_a_flow_that_returns_futures_fails_when_one_of_them_failed() -> None:
    """The state of the flow is judged by the states of what it returns."""

    @flow
    def report() -> list[object]:
        return [square.submit(1), fail.submit()]

    state = report(return_state=True)

    assert state.message == "1/2 states failed."
    with pytest.raises(ValueError, match="no data"):
        state.result()
