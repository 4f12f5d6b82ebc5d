"""Results that outlive the run: persisted, found again, undone together."""

from pathlib import Path

from headrace import flow, task
from headrace.cache_policies import INPUTS, TASK_SOURCE
from headrace.transactions import transaction


def test_a_cached_task_runs_once_for_equal_inputs() -> None:
    """The second call finds the result of the first, also in another run or process."""
    computed = []

    @task(cache_policy=INPUTS + TASK_SOURCE)
    def expensive(table: str) -> int:
        computed.append(table)
        return len(table)

    @flow
    def report() -> list[int]:
        return [expensive("flights"), expensive("flights"), expensive("planes")]

    assert report() == [7, 7, 6]
    assert report() == [7, 7, 6]
    assert computed == ["flights", "planes"]


def test_an_input_can_be_left_out_of_the_key() -> None:
    """`INPUTS - "name"` takes results for equal, whatever that input is."""
    computed = []

    @task(cache_policy=INPUTS - "verbose")
    def expensive(table: str, verbose: bool) -> str:
        computed.append(verbose)
        return table

    expensive("weather", verbose=False)
    expensive("weather", verbose=True)

    assert computed == [False]


def test_results_can_be_kept_in_a_folder_of_ones_own(tmp_path: Path) -> None:
    """Where and how results are stored is an option of the task."""

    @task(result_storage=tmp_path, result_storage_key="total-{parameters[day]}.json", result_serializer="json")
    def total(day: str) -> dict[str, int]:
        return {day: 3}

    assert total("monday") == {"monday": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["total-monday.json"]


def test_steps_can_be_undone_together() -> None:
    """When a step in a transaction fails, the rollback hooks of the steps before it are called."""
    account = []

    @task
    def withdraw(amount: int) -> None:
        account.append(-amount)

    @withdraw.on_rollback
    def give_back(_transaction: object) -> None:
        account.append(100)

    @task
    def deposit(amount: int) -> None:
        raise RuntimeError(f"The other bank does not take {amount}.")

    @flow
    def transfer() -> None:
        with transaction():
            withdraw(100)
            deposit(100)

    transfer(return_state=True)

    assert account == [-100, 100]
