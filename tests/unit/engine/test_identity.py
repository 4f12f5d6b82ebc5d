"""Identity: a call is known again by its task, its inputs and its occurrence among equals, never by its position."""

import datetime as dt
import enum
import random
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import flow, task
from headrace.cache_policies import NO_CACHE
from headrace.engine.identity import Occurrences, inputs_hash
from tests.unit.engine import recorded


class Colour(enum.Enum):
    """An enumeration of a user's."""

    RED = 1


@dataclass
class Point:
    """A class of a user's."""

    x: int


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner)
        | st.sets(st.integers() | st.text(max_size=3))
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of equal types, all the way down."""
    return repr(one) == repr(other) or (
        isinstance(one, set) and one == other and {*map(repr, one)} == {*map(repr, other)}
    )


@given(one=PLAIN, other=PLAIN)
@settings(max_examples=1000)
def test_g10_different_inputs_have_different_hashes(one: Any, other: Any) -> None:
    """Two inputs have one hash exactly when they are equal in value and type."""
    assert (inputs_hash({"x": one}, True) == inputs_hash({"x": other}, True)) == same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        ("1", 1),
        (b"a", "a"),
        ([1], (1,)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (dt.date(2026, 1, 1), dt.datetime(2026, 1, 1)),
        (Colour.RED, 1),
        (Path("a"), "a"),
        (Point(1), Point(2)),
        (dt.date(2026, 1, 1), (2, "datetime", "date", "datetime.date(2026, 1, 1)")),
        (bytearray(b"a"), b"a"),
    ],
)
def test_g10_alike_is_not_equal(one: Any, other: Any) -> None:
    """Values that look alike, or are equal with `==` but of another type, are told apart."""
    assert inputs_hash({"x": one}, True) != inputs_hash({"x": other}, True)


@pytest.mark.parametrize("value", [dt.datetime(2026, 1, 1, tzinfo=dt.UTC), Colour.RED, Path("a"), Point(1), {3, "x"}])
def test_g10_equal_objects_have_one_hash(value: Any) -> None:
    """Dates, members of enumerations, paths and objects that can be pickled are compared by content."""
    import copy

    assert inputs_hash({"x": value}, True) == inputs_hash({"x": copy.deepcopy(value)}, True)


@pytest.mark.parametrize("value", [threading.Lock(), lambda: 1])
def test_g10_what_cannot_be_compared_matches_nothing(value: Any) -> None:
    """An input without comparable content gives a new hash each time: it will run again."""
    assert inputs_hash({"x": value}, True) != inputs_hash({"x": value}, True)


def test_equal_calls_are_counted() -> None:
    """The ordinal counts equal calls of one task, and nothing else."""
    occurrences = Occurrences()

    keys = [occurrences.dynamic_key("t", "a"), occurrences.dynamic_key("t", "b"), occurrences.dynamic_key("t", "a")]

    assert keys == ["a-0", "b-0", "a-1"]
    assert occurrences.dynamic_key("u", "a") == "a-0"


class Chaos(Exception):
    """Ends an attempt at a random point."""


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_g10_a_retried_flow_adopts_the_right_results(seed: int) -> None:
    """Calls in random order in many threads, the flow ended at random and tried again: each result is its input's."""
    chance = random.Random(seed)
    inputs = [chance.choice([0, 1, 2, "0", "1", 1.0, True, (1,), None]) for _ in range(12)]
    calls: list[Any] = []
    ends = [chance.randrange(12), chance.randrange(12), 99]

    @task(persist_result=True, cache_policy=NO_CACHE)
    def twin(x: Any) -> Any:
        calls.append(x)
        return ("of", repr(x))

    @flow(retries=2)
    def body() -> Any:
        end = ends.pop(0)
        order = list(enumerate(inputs))
        chance.shuffle(order)
        futures = []
        for i, (position, x) in enumerate(order):
            if i == end:
                [future.wait() for _, future in futures]
                raise Chaos
            futures.append((position, twin.submit(x)))
        return {position: future.result() for position, future in futures}

    results = body()

    assert all(results[position] == ("of", repr(x)) for position, x in enumerate(inputs))
    assert len(calls) == len(inputs)  # nothing ran twice, for every result was persisted


def test_g10_children_keep_their_own_results_when_the_parent_is_tried_again() -> None:
    """Child runs are known again by their parameters, in whatever order they are called."""
    orders = [[3, 1, 2], [2, 3, 1]]
    ran: list[int] = []

    @flow(persist_result=True)
    def child(x: int) -> int:
        ran.append(x)
        return x * 10

    @flow(retries=1)
    def parent() -> dict[int, int]:
        order = orders.pop(0)
        results = {x: child(x) for x in order[: 2 if orders else 3]}
        if orders:
            raise Chaos
        return results

    assert parent() == {1: 10, 2: 20, 3: 30}
    assert sorted(ran) == [1, 2, 3]


def test_g10_without_a_stored_result_a_call_runs_again_as_the_same_run() -> None:
    """A task whose result is not persisted runs again under the id it had, with a further run."""
    attempts: list[int] = []

    @task
    def plain(x: int) -> int:
        attempts.append(x)
        return x

    @flow(retries=1)
    def body() -> int:
        value = plain(1)
        if len(attempts) == 1:
            raise Chaos
        return value

    state = body(return_state=True)

    (run,) = recorded.task_runs(state.state_details.flow_run_id)
    assert attempts == [1, 1]
    assert recorded.task_run_states(run.id) == ["Pending", "Running", "Completed"] * 2
    assert run.run_count == 2
