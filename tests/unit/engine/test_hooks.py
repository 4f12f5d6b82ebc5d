"""Hooks are called in the order of the states, with what they are about."""

from collections.abc import Callable
from typing import Any

import pytest

from headrace.states import Cancelled
from tests.unit.engine.conftest import Driver


@pytest.fixture
def calls() -> list[tuple[str, ...]]:
    """What hooks note."""
    return []


def noting(calls: list[tuple[str, ...]], name: str) -> Callable[..., None]:
    """A hook that notes its name and arguments."""

    def hook(owner: Any, run: Any, state: Any) -> None:
        calls.append((name, type(owner).__name__, type(run).__name__, state.name))

    return hook


def test_hooks_of_a_flow_and_its_task(driver: Driver, calls: list[tuple[str, ...]]) -> None:
    """Running before Completed, the task's before the flow's."""
    inner = driver.task(lambda: 1, name="t", on_running=[noting(calls, "tr")], on_completion=[noting(calls, "tc")])

    driver.state(lambda: inner(), on_running=[noting(calls, "fr")], on_completion=[noting(calls, "fc")])

    assert calls == [
        ("fr", "Flow", "FlowRun", "Running"),
        ("tr", "Task", "TaskRun", "Running"),
        ("tc", "Task", "TaskRun", "Completed"),
        ("fc", "Flow", "FlowRun", "Completed"),
    ]


def test_failure_hooks_are_called_once_retries_are_used_up(driver: Driver, calls: list[tuple[str, ...]]) -> None:
    """Each attempt calls the running hooks; only the last failure is a failure."""

    def body() -> None:
        raise ValueError

    driver.state(body, retries=1, on_running=[noting(calls, "r")], on_failure=[noting(calls, "f")])

    assert [(name, state) for name, _, _, state in calls] == [("r", "Running"), ("r", "Retrying"), ("f", "Failed")]


def test_cancellation_hooks(driver: Driver, calls: list[tuple[str, ...]]) -> None:
    """A flow that ends as Cancelled calls `on_cancellation`, not `on_failure`."""
    driver.state(
        lambda: Cancelled(), on_cancellation=[noting(calls, "cancelled")], on_failure=[noting(calls, "failed")]
    )

    assert [name for name, *_ in calls] == ["cancelled"]


def test_a_crash_calls_its_hooks_and_goes_on_to_the_caller(calls: list[tuple[str, ...]]) -> None:
    """A KeyboardInterrupt makes the run Crashed; the caller gets it, also when it asked for the state."""
    sync = Driver(False)

    def body() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync.state(body, on_crashed=[noting(calls, "crashed")], on_failure=[noting(calls, "failed")])

    assert [(name, state) for name, _, _, state in calls] == [("crashed", "Crashed")]


def test_a_hook_that_raises_harms_nothing(driver: Driver, calls: list[tuple[str, ...]]) -> None:
    """The next hook is called, and the run keeps its state."""

    def broken(*_: Any) -> None:
        raise RuntimeError("hook")

    state = driver.state(lambda: 1, on_completion=[broken, noting(calls, "next")])

    assert state.is_completed()
    assert [name for name, *_ in calls] == ["next"]


def test_hooks_may_be_asynchronous(driver: Driver) -> None:
    """A coroutine function as hook is carried to its end under both drivers."""
    noted = []

    async def hook(_flow: Any, _run: Any, state: Any) -> None:
        noted.append(state.name)

    driver.state(lambda: 1, on_completion=[hook])

    assert noted == ["Completed"]


def test_hooks_can_be_added_by_decorators(driver: Driver) -> None:
    """`@task.on_completion` adds a hook and leaves the function as it was."""
    noted = []
    body = driver.task(lambda: 1, name="t")

    @body.on_completion
    def hook(_task: Any, _run: Any, state: Any) -> None:
        noted.append(state.name)

    driver.run(body())

    assert noted == ["Completed"]
    assert callable(hook)


@pytest.mark.parametrize("hooks", [3, [3]])
def test_hooks_are_checked_when_they_are_given(driver: Driver, hooks: Any) -> None:
    """Anything but a list of functions is refused, with the place and an example."""
    with pytest.raises(TypeError, match="on_completion"):
        driver.flow(lambda: 1, on_completion=hooks)
