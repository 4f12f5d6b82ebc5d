"""One task over many inputs, at the same time; and flows that are submitted like tasks."""

from headrace import flow, task, unmapped


@task
def scale(value: int, factor: int) -> int:
    return value * factor


@flow
def total(values: list[int], factor: int) -> int:
    futures = scale.map(values, unmapped(factor))
    return sum(futures.result())


@flow
def compare(values: list[int]) -> list[int]:
    futures = [total.submit(values, factor) for factor in (1, 10)]
    return [future.result() for future in futures]


if __name__ == "__main__":
    assert compare([1, 2, 3]) == [6, 60]
