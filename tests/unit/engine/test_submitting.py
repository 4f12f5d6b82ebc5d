"""Submitting and mapping: futures, their results, and the threads behind them."""

import asyncio
import threading
import time
from typing import Any

import pytest

from headrace import allow_failure, flow, task, unmapped
from headrace.exceptions import MappingLengthMismatch, MappingMissingIterable
from headrace.futures import as_completed, resolve_futures_to_results, wait
from headrace.task_runners import ThreadPoolTaskRunner
from headrace.utilities.annotations import quote
from tests.unit.engine import recorded


@task
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@task
def fail() -> None:
    """Fail."""
    raise ValueError("bad")


def inside(function: Any, **options: Any) -> Any:
    """What `function` gives inside a flow."""
    box = []
    flow(**options)(lambda: box.append(function()))()
    return box[0]


def test_map_takes_lists_element_by_element() -> None:
    """Other values, and those marked `unmapped`, go to every call."""
    assert inside(lambda: add.map([1, 2, 3], b=5).result()) == [6, 7, 8]
    assert inside(lambda: add.map([1, 2], b=[10, 20]).result()) == [11, 22]
    assert inside(lambda: add.map(x for x in (1, 2)).result()) == [2, 3]
    assert inside(lambda: task(lambda a, b: (a, b)).map([1, 2], unmapped([9])).result()) == [(1, [9]), (2, [9])]


def test_map_takes_a_future_of_a_list() -> None:
    """It is waited for, and its elements are mapped over."""
    numbers = task(lambda: [1, 2, 3])

    assert inside(lambda: add.map(numbers.submit()).result()) == [2, 3, 4]


def test_map_of_futures_passes_on_failures_that_are_allowed() -> None:
    """`allow_failure` around a list allows the failure of each element."""
    shown = task(lambda x: type(x).__name__)

    assert inside(lambda: shown.map(allow_failure([add.submit(1), fail.submit()])).result()) == ["int", "ValueError"]


@pytest.mark.parametrize("call", [lambda: add.map(1), lambda: add.map("abc", b="x")])
def test_map_needs_something_to_map_over(call: Any) -> None:
    """Numbers and text are no lists."""
    with pytest.raises(MappingMissingIterable, match="at least one iterable"):
        inside(call)


def test_map_needs_lists_of_one_length() -> None:
    """The message names each list and its length."""
    with pytest.raises(MappingLengthMismatch, match=r"'a': 2, 'b': 3"):
        inside(lambda: add.map([1, 2], [1, 2, 3]))


def test_states_are_given_when_asked_for() -> None:
    """`return_state` waits for the end."""
    assert inside(lambda: add.submit(1, return_state=True).result()) == 2
    assert [state.name for state in inside(lambda: add.map([1, 2], return_state=True))] == ["Completed", "Completed"]


def test_futures_deep_inside_arguments_are_resolved() -> None:
    """In lists, dicts and tuples, at any depth; not inside `quote`."""
    same = task(lambda x: x)

    assert inside(lambda: same({"a": [add.submit(1), (add.submit(2),)]})) == {"a": [2, (3,)]}
    assert inside(lambda: type(same(quote([add.submit(1)]))[0]).__name__) == "PrefectConcurrentFuture"


def test_an_argument_that_contains_itself_is_passed_on() -> None:
    """It cannot be searched to its end, and need not be."""
    ring: list[Any] = []
    ring.append(ring)

    assert inside(lambda: task(lambda x: x is ring)(ring)) is True


def test_submitting_needs_a_flow() -> None:
    """Outside of one the message says what to do."""
    with pytest.raises(RuntimeError, match="call it directly"):
        add.submit(1)


def test_outside_of_a_flow_a_task_runs_all_the_same() -> None:
    """A plain call needs no flow."""
    assert add(2) == 3
    assert add(2, return_state=True).result() == 3


def test_waiting_for_futures() -> None:
    """`wait` tells which have ended, `as_completed` gives them in the order of their ends."""
    first, second = threading.Event(), threading.Event()

    @task
    def after(gate: threading.Event, name: str) -> str:
        gate.wait()
        return name

    def body() -> Any:
        late, early = after.submit(quote(second), "late"), after.submit(quote(first), "early")
        before = wait([late, early], timeout=0)
        order = []
        first.set()
        for future in as_completed([late, early], timeout=10):
            order.append(future.result())
            second.set()
        return len(before.done), len(before.not_done), order, resolve_futures_to_results([late, early])

    assert inside(body) == (0, 2, ["early", "late"], ["late", "early"])


def test_a_result_can_be_waited_for_in_vain() -> None:
    """A time-out of `result` raises TimeoutError; the run goes on."""
    gate = threading.Event()

    def body() -> Any:
        future = task(lambda x: x.wait()).submit(quote(gate))
        with pytest.raises(TimeoutError):
            future.result(timeout=0.01)
        gate.set()
        return future.result()

    assert inside(body) is True


def test_the_flow_waits_for_what_it_submitted() -> None:
    """Tasks nobody waits for have ended when the flow has."""
    ended = []

    @task
    def slow() -> None:
        time.sleep(0.05)
        ended.append(1)

    inside(lambda: [slow.submit() for _ in range(3)])

    assert len(ended) == 3


def test_tasks_that_wait_for_tasks_do_not_exhaust_the_threads() -> None:
    """With a single thread, a task may submit others and wait for them: who waits does not count."""

    @task
    def outer(x: int) -> int:
        return int(add.submit(x).result())

    assert inside(lambda: outer.map([1, 2, 3]).result(), task_runner=ThreadPoolTaskRunner(max_workers=1)) == [2, 3, 4]


def test_no_more_run_at_once_than_the_runner_allows() -> None:
    """`max_workers` is the limit."""
    running, most, lock = [0], [0], threading.Lock()

    @task
    def counted(_: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.005)
        with lock:
            running[0] -= 1

    inside(lambda: counted.map(range(12)).wait(), task_runner=ThreadPoolTaskRunner(max_workers=3))

    assert most[0] == 3


def test_asynchronous_tasks_can_be_submitted_from_both_kinds_of_flows() -> None:
    """They get an event loop of their thread's own."""

    @task
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x

    @flow
    async def outer() -> Any:
        return [future.result() for future in later.map([1, 2])], add.submit(later.submit(5)).result()

    assert inside(lambda: later.submit(3).result()) == 3
    assert asyncio.run(outer()) == ([1, 2], 6)


def test_what_a_task_got_its_inputs_from_is_recorded() -> None:
    """By futures, by states, and by results that are passed on as they are."""
    numbers = task(lambda: [1], name="numbers")
    total = task(lambda x, y: (x, y), name="total")

    @flow
    def body() -> Any:
        made = numbers()
        total.submit(made, add.submit(1))

    state = body(return_state=True)

    runs = {run.name.rpartition("-")[0]: run for run in recorded.task_runs(state.state_details.flow_run_id)}
    inputs = runs["total"].task_inputs
    assert [item.id for item in inputs["x"]] == [runs["numbers"].id]
    assert [item.id for item in inputs["y"]] == [runs["add"].id]


def test_a_generator_task_gives_what_it_yields() -> None:
    """A plain call gives a generator; a submitted run has a list as its result."""

    @task
    def count(n: int) -> Any:
        yield from range(n)

    assert inside(lambda: list(count(3))) == [0, 1, 2]
    assert inside(lambda: count.submit(3).result()) == [0, 1, 2]


def test_an_asynchronous_generator_flow() -> None:
    """Its values are given as they come, and the run completes with the last."""

    @flow
    async def count(n: int) -> Any:
        for i in range(n):
            yield i

    async def collect() -> Any:
        return [i async for i in count(3)]

    assert asyncio.run(collect()) == [0, 1, 2]
