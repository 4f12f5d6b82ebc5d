"""Cache policies: their algebra, and what goes into a key."""

import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cache_policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    NONE,
    RUN_ID,
    STABLE_TRANSFORMS,
    TASK_SOURCE,
    CachePolicy,
    Inputs,
)
from headrace.exceptions import HashError


def one(x: int) -> int:
    """A task's function."""
    return x


def two(x: int) -> int:
    """Another task's function."""
    return x + 1


class Task:
    """A task, as policies see it."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn


class TaskRun:
    """A task run, as policies see it."""

    def __init__(self, flow_run_id: Any) -> None:
        self.id, self.flow_run_id = uuid4(), flow_run_id


class Context:
    """The context of a task run, as policies see it."""

    def __init__(self, fn: Any = one, flow_run_id: Any = "flow run") -> None:
        self.task, self.task_run = Task(fn), TaskRun(flow_run_id)


def key(
    policy: CachePolicy,
    inputs: dict[str, Any] | None = None,
    context: Context | None = None,
    flow_parameters: dict[str, Any] | None = None,
) -> str | None:
    """The key that a policy computes."""
    return policy.compute_key(
        task_ctx=context or Context(),
        inputs={"x": 1, "y": 2} if inputs is None else inputs,
        flow_parameters={"p": 1} if flow_parameters is None else flow_parameters,
    )


NAMED = CachePolicy.from_cache_key_fn(lambda _, inputs: f"n{len(inputs)}")
POLICIES = st.recursive(
    st.sampled_from([INPUTS, TASK_SOURCE, RUN_ID, FLOW_PARAMETERS, NONE, NAMED, INPUTS - "x"]),
    lambda inner: st.builds(lambda a, b: a + b, inner, inner) | st.builds(lambda a: a - "y", inner),
    max_leaves=6,
)


@given(a=POLICIES, b=POLICIES, c=POLICIES)
def test_sums_do_not_depend_on_order_or_brackets(a: CachePolicy, b: CachePolicy, c: CachePolicy) -> None:
    """a + b is b + a, (a + b) + c is a + (b + c), and a + a is a: as policies and as keys."""
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + a == a
    assert key(a + b) == key(b + a)
    assert key((a + b) + c) == key(a + (b + c))
    assert key(a + a) == key(a)


@given(a=POLICIES)
def test_nothing_added_changes_nothing(a: CachePolicy) -> None:
    """NONE is the zero of sums."""
    assert a + NONE == a == NONE + a
    assert key(a + NONE) == key(a)


@given(a=POLICIES)
def test_leaving_an_input_out_twice_is_leaving_it_out(a: CachePolicy) -> None:
    """Subtracting a name again changes nothing, and the order of names does not matter."""
    assert (a - "x") - "x" == a - "x"
    assert (a - "x") - "y" == (a - "y") - "x"


@given(a=POLICIES, b=POLICIES)
def test_a_sum_differs_when_a_part_differs(a: CachePolicy, b: CachePolicy) -> None:
    """When the key of either part changes, so does that of the sum."""
    others = [
        {"inputs": {"x": 3, "y": 4, "z": 5}},
        {"context": Context(two)},
        {"context": Context(flow_run_id="another")},
        {"flow_parameters": {"p": 2}},
    ]
    for other in others:
        if key(a, **other) == key(a) and key(b, **other) == key(b):  # type: ignore[arg-type]
            assert key(a + b, **other) == key(a + b)  # type: ignore[arg-type]
    merges = sum(part.__class__ is Inputs for policy in (a, b) for part in policy.parts()) > 1
    for other in others if not merges else ():
        if key(a, **other) != key(a) or key(b, **other) != key(b):  # type: ignore[arg-type]
            assert key(a + b, **other) != key(a + b)  # type: ignore[arg-type]


def test_default_is_inputs_source_and_run() -> None:
    """DEFAULT distinguishes inputs, code and flow runs, and nothing else."""
    assert key(DEFAULT) == key(DEFAULT, flow_parameters={"p": 5})
    assert key(DEFAULT) != key(DEFAULT, {"x": 1, "y": 3})
    assert key(DEFAULT) != key(DEFAULT, context=Context(two))
    assert key(DEFAULT) != key(DEFAULT, context=Context(flow_run_id="another"))
    assert key(DEFAULT - "y") == key(DEFAULT - "y", {"x": 1, "y": 3})


def test_policies_without_a_key() -> None:
    """NO_CACHE has none, nor has INPUTS without inputs, FLOW_PARAMETERS without parameters, a function that says so."""
    assert key(NO_CACHE) is None
    assert key(INPUTS, {}) is None
    assert key(FLOW_PARAMETERS, flow_parameters={}) is None
    assert key(CachePolicy.from_cache_key_fn(lambda *_: None)) is None
    assert key(NO_CACHE + INPUTS) == key(INPUTS)


def test_a_function_gives_the_key_itself() -> None:
    """`cache_key_fn` is given the context and the inputs; its result is the key."""
    policy = CachePolicy.from_cache_key_fn(lambda context, inputs: f"{context.task.fn.__name__}-{inputs['x']}")

    assert key(policy) == "one-1"


def test_the_run_is_the_flow_run_or_else_the_task_run() -> None:
    """RUN_ID is the flow run's id; outside of flows it is the task run's own."""
    alone = Context(flow_run_id=None)

    assert key(RUN_ID) == "flow run"
    assert key(RUN_ID, context=alone) == str(alone.task_run.id)


def test_an_input_that_cannot_be_hashed_is_named() -> None:
    """The error says which input it is, and each way out."""
    with pytest.raises(HashError, match=r"input 'guard'.*'lock'.*INPUTS - 'guard'.*NO_CACHE"):
        key(INPUTS, {"x": 1, "guard": threading.Lock()})

    assert key(INPUTS - "guard", {"x": 1, "guard": threading.Lock()}) == key(INPUTS, {"x": 1})


def test_stable_transforms_replace_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transform registered for a type says what to hash in its place."""
    monkeypatch.setitem(STABLE_TRANSFORMS, type(threading.Lock()), lambda _: "a lock")

    assert key(INPUTS, {"x": threading.Lock()}) == key(INPUTS, {"x": threading.Lock()})


def test_configuring_makes_a_copy(tmp_path: Path) -> None:
    """`configure` leaves the original alone; a sum keeps what its parts agree on, and refuses what they do not."""
    here = INPUTS.configure(key_storage=str(tmp_path))

    assert INPUTS.key_storage is None
    assert (here + TASK_SOURCE).key_storage == str(tmp_path)
    assert (here - "x").key_storage == str(tmp_path)
    with pytest.raises(ValueError, match="key_storage"):
        here + TASK_SOURCE.configure(key_storage="/elsewhere")


def test_only_policies_add_and_only_names_subtract() -> None:
    """Anything else is refused, with what was given."""
    with pytest.raises(TypeError, match="int"):
        INPUTS + 1  # type: ignore[operator]
    for policy in (INPUTS, TASK_SOURCE, DEFAULT):
        with pytest.raises(TypeError, match="name of an input"):
            policy - TASK_SOURCE  # type: ignore[operator]
