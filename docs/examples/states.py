"""What became of a run: states as values, and a failure that the flow expects."""

from headrace import allow_failure, flow, task


@task
def divide(a: int, b: int) -> float:
    return a / b


@task
def describe(outcome: object) -> str:
    return f"got {type(outcome).__name__}"


@flow
def careful() -> str:
    state = divide(1, 0, return_state=True)
    assert state.is_failed()
    return describe(allow_failure(divide.submit(1, 0)))


if __name__ == "__main__":
    assert careful() == "got ZeroDivisionError"
