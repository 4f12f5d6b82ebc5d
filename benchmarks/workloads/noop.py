"""The flow that a worker is asked to run. Imports the package that is installed beside it."""

try:
    from headrace import flow
except ImportError:
    from prefect import flow


@flow
def noop() -> None:
    return None
