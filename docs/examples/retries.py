"""A task that fails twice and is tried again; the flow never notices."""

from headrace import flow, task
from headrace.runtime import task_run


@task(retries=3, retry_delay_seconds=0.01, retry_jitter_factor=0.5)
def unreliable() -> str:
    if task_run.run_count < 3:
        raise ConnectionError("no answer")
    return f"answered at try {task_run.run_count}"


@flow
def patient() -> str:
    return unreliable()


if __name__ == "__main__":
    assert patient() == "answered at try 3"
