"""Which state a flow ends in, by what its function returns or raises: as measured on Prefect, unless it says so."""

from typing import Any

import pytest

from headrace import flow, task
from headrace.exceptions import CancelledRun, FailedRun, UpstreamTaskError
from headrace.states import Cancelled, Completed, Failed
from tests.unit.engine.conftest import Driver


@task
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@task
def fail(message: str = "bad") -> None:
    """Fail."""
    raise ValueError(message)


def described(state: Any) -> tuple[str, str, str | None]:
    """A state in short."""
    return state.type.value, state.name, state.message


def test_a_value_completes_the_run_and_is_its_result(driver: Driver) -> None:
    """A flow that returns an ordinary value is Completed, and the value is its result."""
    state = driver.state(lambda: 5)

    assert described(state) == ("COMPLETED", "Completed", None)
    assert state.result() == 5


def test_none_completes_the_run_although_a_submitted_task_failed(driver: Driver) -> None:
    """Failures of submitted tasks that are not returned do not make the flow fail."""

    def body() -> None:
        fail.submit()

    assert described(driver.state(body)) == ("COMPLETED", "Completed", None)


def test_an_exception_fails_the_run(driver: Driver) -> None:
    """What the function raises is raised by a plain call, and told by the state."""

    def body() -> None:
        raise ValueError("bad 1")

    state = driver.state(body)

    assert described(state) == ("FAILED", "Failed", "Flow run encountered an exception: ValueError: bad 1")
    with pytest.raises(ValueError, match="bad 1"):
        driver.run(driver.flow(body)())


def test_a_returned_state_is_the_final_state(driver: Driver) -> None:
    """A state that is returned is taken as it is, its data as the result."""
    state = driver.state(lambda: Completed(message="hi", data=5))

    assert described(state) == ("COMPLETED", "Completed", "hi")
    assert state.result() == 5
    assert driver.run(driver.flow(lambda: Completed(data=7))()) == 7


def test_a_returned_failed_state_raises_for_a_plain_call(driver: Driver) -> None:
    """A failed state without an exception stands for `FailedRun` with its message."""
    assert described(driver.state(lambda: Failed(message="nope"))) == ("FAILED", "Failed", "nope")
    with pytest.raises(FailedRun, match="nope"):
        driver.run(driver.flow(lambda: Failed(message="nope"))())
    with pytest.raises(CancelledRun, match="c"):
        driver.run(driver.flow(lambda: Cancelled(message="c"))())


def test_states_are_judged_together(driver: Driver) -> None:
    """All of several returned states must be completed; a list that holds other things is an ordinary value."""
    mixed = driver.state(lambda: [Completed(), Failed(message="b")])
    fine = driver.state(lambda: [Completed(), Completed()])
    ordinary = driver.state(lambda: [1, Failed(message="b")])

    assert described(mixed) == ("FAILED", "Failed", "1/2 states failed.")
    with pytest.raises(FailedRun, match="b"):
        mixed.result()
    assert described(fine) == ("COMPLETED", "Completed", "All states completed.")
    assert [state.type for state in fine.result()] == ["COMPLETED", "COMPLETED"]
    assert described(ordinary) == ("COMPLETED", "Completed", None)


def test_returned_futures_are_waited_for_and_become_states(driver: Driver) -> None:
    """Futures among what is returned count as the states they end in, and the result holds these."""
    one = driver.state(lambda: add.submit(1))
    bad = driver.state(lambda: [add.submit(1), fail.submit(), add.submit(3)])
    nested = driver.state(lambda: (add.submit(1), {"a": add.submit(3)}))

    assert described(one) == ("COMPLETED", "Completed", "All states completed.")
    assert one.result().result() == 2
    assert described(bad) == ("FAILED", "Failed", "1/3 states failed.")
    with pytest.raises(ValueError, match="bad"):
        bad.result()
    assert [state.name for state in bad.result(raise_on_failure=False)] == ["Completed", "Failed", "Completed"]
    first, second = nested.result()
    assert (str(first), first.result(), second["a"].result()) == ("Completed()", 2, 4)


def test_a_task_that_returns_a_state_ends_in_it() -> None:
    """A plain call of such a task gives the state; its future gives the state's data."""

    @task
    def done() -> Any:
        return Completed(message="hi", data=5)

    @task
    def failed() -> Any:
        return Failed(message="ff")

    @flow
    def body() -> Any:
        return done().message, done.submit().result(), failed().name, failed(return_state=True).message

    assert body() == ("hi", 5, "Failed", "ff")


def test_a_task_whose_input_failed_does_not_run() -> None:
    """It stays Pending as NotReady, and asking for its result raises; a plain call raises too (Prefect gives None)."""
    ran = []

    @task
    def after(x: Any) -> None:
        ran.append(x)

    @flow
    def body() -> Any:
        bad = fail.submit()
        future = after.submit(bad)
        future.wait()
        waiting = after.submit(1, wait_for=[bad])
        waiting.wait()
        with pytest.raises(UpstreamTaskError):
            after(bad)
        with pytest.raises(UpstreamTaskError):
            future.result()
        return future.state.name, future.state.type.value, waiting.state.name, future.state.message, bad.task_run_id

    name, kind, waited, message, upstream = body()

    assert (name, kind, waited, ran) == ("NotReady", "PENDING", "NotReady", [])
    assert message == f"Upstream task run '{upstream}' did not reach a 'COMPLETED' state."
