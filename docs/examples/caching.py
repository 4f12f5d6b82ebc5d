"""A result that is kept, and taken from the cache when the same inputs come again."""

from headrace import flow, task
from headrace.cache_policies import INPUTS

calls = []


@task(cache_policy=INPUTS, persist_result=True)
def slow_square(value: int) -> int:
    calls.append(value)
    return value * value


@flow
def squares() -> list[int]:
    return [slow_square(4), slow_square(5), slow_square(4)]


if __name__ == "__main__":
    assert squares() == [16, 25, 16]
    assert calls == [4, 5]
