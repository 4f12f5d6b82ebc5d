"""headrace: flows and tasks in Python, recorded, scheduled, and nothing lost when processes die.

    from headrace import flow, task

Public names are imported when they are first used, so that `import headrace` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace._internal.version import version as _version
    from headrace.client import get_client
    from headrace.context import tags
    from headrace.deployments import deploy
    from headrace.flows import Flow, flow
    from headrace.logging import get_run_logger
    from headrace.runner import serve
    from headrace.schemas.states import State
    from headrace.tasks import Task, task
    from headrace.transactions import Transaction
    from headrace.utilities.annotations import allow_failure, unmapped

    __version__ = _version()

_PLACES = {
    "Flow": "headrace.flows",
    "State": "headrace.schemas.states",
    "Task": "headrace.tasks",
    "Transaction": "headrace.transactions",
    "allow_failure": "headrace.utilities.annotations",
    "deploy": "headrace.deployments",
    "flow": "headrace.flows",
    "get_client": "headrace.client",
    "get_run_logger": "headrace.logging",
    "serve": "headrace.runner",
    "tags": "headrace.context",
    "task": "headrace.tasks",
    "unmapped": "headrace.utilities.annotations",
}
_MODULES = ("concurrency", "runtime")

__all__ = [
    "Flow",
    "State",
    "Task",
    "Transaction",
    "__version__",
    "allow_failure",
    "deploy",
    "flow",
    "get_client",
    "get_run_logger",
    "serve",
    "tags",
    "task",
    "unmapped",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from headrace._internal.version import version

        return version()
    if name in _MODULES:
        return importlib.import_module(f"headrace.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
