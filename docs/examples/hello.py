"""A flow of two tasks."""

from headrace import flow, task


@task
def fetch(name: str) -> str:
    return f"data of {name}"


@task
def measure(text: str) -> int:
    return len(text)


@flow
def hello(names: list[str]) -> int:
    """How many letters there are in the data of all names."""
    return sum(measure(fetch(name)) for name in names)


if __name__ == "__main__":
    assert hello(["ann", "bob"]) == 22
