"""Results that are found again: cache policies, expiration, refreshing."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace import flow, task
from headrace.cache_policies import INPUTS, NO_CACHE, TASK_SOURCE
from headrace.tasks import task_input_hash
from headrace.transactions import transaction
from tests.unit.engine import recorded
from tests.unit.engine.conftest import Driver


@pytest.fixture
def calls() -> list[Any]:
    """The inputs that a task's function was called with."""
    return []


def test_equal_inputs_run_once(driver: Driver, calls: list[Any], tmp_path: Path) -> None:
    """With the policy INPUTS a second run with equal inputs ends as Cached, with the first one's result."""
    body = driver.task(
        lambda x: calls.append(x) or (x, len(calls)), cache_policy=INPUTS + TASK_SOURCE, result_storage=tmp_path
    )

    first, again, other = (driver.run(body(x, return_state=True)) for x in ([1], [1], [2]))

    assert [state.name for state in (first, again, other)] == ["Completed", "Cached", "Completed"]
    assert first.result() == again.result()
    assert calls == [[1], [2]]


def test_a_persisted_task_is_cached_within_its_flow_run_by_default(calls: list[Any]) -> None:
    """The default policy counts the run: in another run the task runs again."""

    @task(persist_result=True)
    def body(x: int) -> int:
        calls.append(x)
        return x

    @flow
    def outer() -> list[str]:
        return [body(1, return_state=True).name for _ in range(2)]

    assert (outer(), outer()) == (["Completed", "Cached"], ["Completed", "Cached"])
    assert calls == [1, 1]


def test_a_key_function_makes_the_key(driver: Driver, calls: list[Any], tmp_path: Path) -> None:
    """Two runs with one key have one result, whatever their inputs."""
    body = driver.task(lambda x: calls.append(x) or x, name="t", cache_key_fn=lambda *_: "one", result_storage=tmp_path)

    assert [driver.run(body(x)) for x in (1, 2)] == [1, 1]


def test_task_input_hash_is_a_key_function(calls: list[Any]) -> None:
    """Equal inputs run the body once."""

    @task(cache_key_fn=task_input_hash)
    def body(data: dict[str, int]) -> int:
        calls.append(data)
        return len(calls)

    @flow
    def outer() -> Any:
        return body({"a": 1}), body({"a": 1}), body({"a": 2})

    assert outer() == (1, 1, 2)


def test_refreshing_runs_again_and_replaces_what_is_stored(calls: list[Any]) -> None:
    """`refresh_cache` does not look, but stores."""
    body = task(cache_policy=INPUTS, persist_result=True)(lambda marker: calls.append(marker) or len(calls))

    first = body("refreshing")
    fresh = body.with_options(refresh_cache=True)("refreshing")

    assert (first, fresh, body("refreshing")) == (1, 2, 2)


def test_an_expired_result_is_not_used(calls: list[Any]) -> None:
    """`cache_expiration` says for how long a result may be used."""
    body = task(cache_policy=INPUTS, cache_expiration=timedelta(seconds=-1))(
        lambda marker: calls.append(marker) or len(calls)
    )

    assert (body("expiring"), body("expiring")) == (1, 2)


def test_without_a_policy_nothing_is_cached(calls: list[Any]) -> None:
    """NO_CACHE persists, if asked to, and looks for nothing."""
    body = task(cache_policy=NO_CACHE, persist_result=True)(lambda: calls.append(1) or len(calls))

    assert (body(), body()) == (1, 2)


def test_a_policy_that_fails_means_no_cache(calls: list[Any]) -> None:
    """An input without stable content is no reason to fail: the task runs, uncached."""
    body = task(cache_policy=INPUTS)(lambda x: calls.append(type(x)) or 5)

    assert body(i for i in ()) == 5


def test_a_persisted_result_can_be_read_from_the_recorded_state() -> None:
    """The state that the API has tells where the result is."""
    body = task(
        persist_result=True, result_storage_key="{flow_run.name}-{parameters[x]}.json", result_serializer="json"
    )(lambda x: {"x": x})

    state = flow(lambda: body(7))(return_state=True)

    (run,) = recorded.task_runs(state.state_details.flow_run_id)
    assert run.state is not None
    assert run.state.data["storage_key"].endswith(f"{recorded.flow_run(state).name}-7.json")
    assert run.state.result() == {"x": 7}


def test_a_transaction_undoes_the_tasks_in_it() -> None:
    """When a later step fails, the rollback hooks of the earlier ones are called, the last first."""
    undone = []

    def step(name: str) -> Any:
        made = task(name=name)(lambda: name)
        made.on_rollback(lambda _: undone.append(name))
        return made

    @flow
    def body() -> None:
        with transaction():
            step("one")()
            step("two")()
            raise ValueError

    assert body(return_state=True).is_failed()
    assert undone == ["two", "one"]


def test_a_transaction_that_ends_well_commits_its_tasks() -> None:
    """Their commit hooks are called at its end, not before."""
    noted = []

    @task
    def step() -> None:
        noted.append("run")

    step.on_commit(lambda _: noted.append("commit"))

    @flow
    def body() -> None:
        with transaction():
            step()
            noted.append("last line")

    body()

    assert noted == ["run", "last line", "commit"]
