"""The task run that the code is in. See `headrace.runtime`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.context import TaskRunContext
from headrace.runtime import lookup
from headrace.settings import get_settings

if TYPE_CHECKING:
    id: str | None
    name: str | None
    task_name: str | None
    tags: list[str]
    parameters: dict[str, Any]
    run_count: int
    api_url: str | None
    ui_url: str | None


def get_id() -> str | None:
    """Its id."""
    context = TaskRunContext.get()
    return str(context.run.id) if context is not None else None


def get_name() -> str | None:
    """Its name."""
    context = TaskRunContext.get()
    return context.run.name if context is not None else None


def get_task_name() -> str | None:
    """The name of its task."""
    context = TaskRunContext.get()
    return context.task.name if context is not None else None


def get_tags() -> list[str]:
    """Its tags."""
    context = TaskRunContext.get()
    return list(context.run.tags) if context is not None else []


def get_run_count() -> int:
    """How often it was tried, this time included."""
    context = TaskRunContext.get()
    return context.run.run_count if context is not None else 0


def get_parameters() -> dict[str, Any]:
    """The parameters it was called with."""
    context = TaskRunContext.get()
    return dict(context.parameters) if context is not None else {}


def get_task_run_api_url() -> str | None:
    """Its address in the API; None in local mode."""
    run_id, base = get_id(), get_settings().api.url
    return f"{base.rstrip('/')}/task_runs/{run_id}" if run_id and base else None


def get_task_run_ui_url() -> str | None:
    """The address of its page; None without a server."""
    settings = get_settings()
    base = settings.ui_url or (settings.api.url or "").removesuffix("/").removesuffix("/api")
    run_id = get_id()
    return f"{base}/runs/task-run/{run_id}" if run_id and base else None


FIELDS: dict[str, Callable[[], Any]] = {
    "id": get_id,
    "name": get_name,
    "task_name": get_task_name,
    "tags": get_tags,
    "parameters": get_parameters,
    "run_count": get_run_count,
    "api_url": get_task_run_api_url,
    "ui_url": get_task_run_ui_url,
}

__all__ = ["api_url", "id", "name", "parameters", "run_count", "tags", "task_name", "ui_url"]


def __getattr__(name: str) -> Any:
    return lookup.find("TASK_RUN", FIELDS, name)


def __dir__() -> list[str]:
    return sorted(__all__)
