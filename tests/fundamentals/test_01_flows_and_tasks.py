"""The first steps: a flow is a function whose runs are recorded, a task is a step of it.

Read these files in the order of their numbers. Each test shows one idea and is a program you could have written.
"""

import asyncio

import pytest

from headrace import flow, get_client, task
from headrace.schemas.flow_runs import READ_FLOW_RUN


def test_a_flow_is_called_like_a_function() -> None:
    """`@flow` changes nothing about how a function is called."""

    @flow
    def greet(name: str) -> str:
        return f"Hello {name}"

    assert greet("Ada") == "Hello Ada"


def test_a_task_is_a_step_of_a_flow() -> None:
    """`@task` makes a function a step; called inside a flow it runs at once and gives its result."""

    @task
    def double(x: int) -> int:
        return 2 * x

    @flow
    def report() -> int:
        return double(double(1))

    assert report() == 4


def test_every_run_is_recorded() -> None:
    """A run has a state, which says how it ended and where it is recorded."""

    @flow
    def report(day: str) -> None: ...

    state = report("monday", return_state=True)

    run = get_client().call(READ_FLOW_RUN, id=state.state_details.flow_run_id)
    assert run.state_name == "Completed"
    assert run.parameters == {"day": "monday"}


def test_asynchronous_functions_work_the_same_way() -> None:
    """Coroutine functions can be flows and tasks; plain tasks can be called in asynchronous flows too."""

    @task
    async def fetch(x: int) -> int:
        await asyncio.sleep(0)
        return x

    @task
    def add(a: int, b: int) -> int:
        return a + b

    @flow
    async def report() -> int:
        a, b = await asyncio.gather(fetch(1), fetch(2))
        return add(a, b)

    assert asyncio.run(report()) == 3


def test_an_error_in_a_task_is_raised_where_it_was_called() -> None:
    """A flow can handle a task's error like any other; if it does not, the flow fails with it."""

    @task
    def divide(a: int, b: int) -> float:
        return a / b

    @flow
    def careful() -> float | None:
        try:
            return divide(1, 0)
        except ZeroDivisionError:
            return None

    @flow
    def careless() -> float:
        return divide(1, 0)

    assert careful() is None
    with pytest.raises(ZeroDivisionError):
        careless()


def test_flows_can_call_flows() -> None:
    """A flow called in a flow is a run of its own, a child of the other."""

    @flow
    def load(source: str) -> int:
        return len(source)

    @flow
    def nightly() -> int:
        return load("north") + load("south")

    assert nightly() == 10


def test_parameters_are_checked_by_their_annotations() -> None:
    """What a schedule or a form hands in as text arrives as the type the function asks for."""

    @flow
    def report(days: int, verbose: bool = False) -> tuple[int, bool]:
        return days, verbose

    assert report("7", "yes") == (7, True)  # type: ignore[arg-type]


def test_methods_can_be_flows_and_tasks() -> None:
    """Instance, class and static methods alike."""

    class Shop:
        name = "corner shop"

        @task
        def stock(self) -> str:
            return self.name

        @task
        @staticmethod
        def tax(price: float) -> float:
            return price * 2

        @task
        @classmethod
        def sign(cls) -> str:
            return cls.__name__

        @flow
        def day(self) -> tuple[str, float, str]:
            return self.stock(), self.tax(1.5), self.sign()

    assert Shop().day() == ("corner shop", 3.0, "Shop")
