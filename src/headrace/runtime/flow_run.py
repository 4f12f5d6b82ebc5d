"""The flow run that the code is in. See `headrace.runtime`."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from headrace.client import get_client
from headrace.context import FlowRunContext, TaskRunContext
from headrace.exceptions import ObjectNotFound
from headrace.runtime import lookup
from headrace.schemas.flow_runs import READ_FLOW_RUN, FlowRun
from headrace.schemas.flows import READ_FLOW
from headrace.schemas.task_runs import READ_TASK_RUN
from headrace.settings import get_settings

if TYPE_CHECKING:
    id: str | None
    tags: list[str]
    scheduled_start_time: datetime
    name: str | None
    flow_name: str | None
    flow_version: str | None
    parameters: dict[str, Any]
    parent_flow_run_id: str | None
    parent_deployment_id: str | None
    root_flow_run_id: str | None
    run_count: int
    api_url: str | None
    ui_url: str | None
    job_variables: dict[str, Any] | None


def _named_by_environment() -> str | None:
    return os.environ.get("HEADRACE__FLOW_RUN_ID") or os.environ.get("PREFECT__FLOW_RUN_ID")


def _context() -> Any:
    """The context of the flow run; inside a task that runs in a thread of its own, that of the task's flow."""
    context = FlowRunContext.get()
    if context is None and (task := TaskRunContext.get()) is not None:
        return task.run.flow_context
    return context


def current() -> FlowRun | None:
    """The flow run as the API knows it: the one that the code is in, else the one that the environment names."""
    context = _context()
    if context is not None:
        found: FlowRun = context.flow_run
        return found
    named = _named_by_environment()
    return get_client().call(READ_FLOW_RUN, id=UUID(named)) if named else None


def get_id() -> str | None:
    """Its id."""
    context = _context()
    return str(context.flow_run.id) if context is not None else _named_by_environment()


def get_name() -> str | None:
    """Its name."""
    run = current()
    return run.name if run is not None else None


def get_tags() -> list[str]:
    """Its tags."""
    run = current()
    return list(run.tags) if run is not None else []


def get_run_count() -> int:
    """How often it was tried, this time included."""
    context = _context()
    if context is not None:
        return int(context.run.run_count)
    run = current()
    return run.run_count if run is not None else 0


def get_flow_name() -> str | None:
    """The name of its flow."""
    context = _context()
    if context is not None:
        name: str = context.flow.name
        return name
    run = current()
    return get_client().call(READ_FLOW, id=run.flow_id).name if run is not None else None


def get_flow_version() -> str | None:
    """The version of its flow."""
    context = _context()
    if context is not None:
        version: str | None = context.flow.version
        return version
    run = current()
    return run.flow_version if run is not None else None


def get_scheduled_start_time() -> datetime:
    """When it was to start; now, outside of a run."""
    run = current()
    return (run.expected_start_time if run is not None else None) or datetime.now(UTC)


def get_parameters() -> dict[str, Any]:
    """The parameters it was called with."""
    context = _context()
    if context is not None:
        return dict(context.parameters)
    run = current()
    return dict(run.parameters) if run is not None else {}


def get_job_variables() -> dict[str, Any] | None:
    """Its job variables."""
    run = current()
    return run.job_variables if run is not None else None


def _parent(run: FlowRun) -> FlowRun | None:
    if run.parent_task_run_id is None:
        return None
    context = _context()
    inside = context.run if context is not None else None
    while inside is not None:
        if inside.id == run.id and inside.parent is not None:
            found: FlowRun = inside.parent.flow_run
            return found
        inside = inside.parent
    try:
        parent_id = get_client().call(READ_TASK_RUN, id=run.parent_task_run_id).flow_run_id
        return get_client().call(READ_FLOW_RUN, id=parent_id) if parent_id is not None else None
    except ObjectNotFound:
        return None


def get_parent_flow_run_id() -> str | None:
    """The id of the flow run around it, if it is a child."""
    run = current()
    parent = _parent(run) if run is not None else None
    return str(parent.id) if parent is not None else None


def get_parent_deployment_id() -> str | None:
    """The id of the deployment of the flow run around it."""
    run = current()
    parent = _parent(run) if run is not None else None
    return str(parent.deployment_id) if parent is not None and parent.deployment_id is not None else None


def get_root_flow_run_id() -> str | None:
    """The id of the outermost flow run around it; its own when it is no child."""
    run = current()
    if run is None:
        return None
    while (parent := _parent(run)) is not None:
        run = parent
    return str(run.id)


def get_flow_run_api_url() -> str | None:
    """Its address in the API; None in local mode."""
    run_id, base = get_id(), get_settings().api.url
    return f"{base.rstrip('/')}/flow_runs/{run_id}" if run_id and base else None


def get_flow_run_ui_url() -> str | None:
    """The address of its page; None without a server."""
    settings = get_settings()
    base = settings.ui_url or (settings.api.url or "").removesuffix("/").removesuffix("/api")
    run_id = get_id()
    return f"{base}/runs/flow-run/{run_id}" if run_id and base else None


FIELDS: dict[str, Callable[[], Any]] = {
    "id": get_id,
    "tags": get_tags,
    "scheduled_start_time": get_scheduled_start_time,
    "name": get_name,
    "flow_name": get_flow_name,
    "flow_version": get_flow_version,
    "parameters": get_parameters,
    "parent_flow_run_id": get_parent_flow_run_id,
    "parent_deployment_id": get_parent_deployment_id,
    "root_flow_run_id": get_root_flow_run_id,
    "run_count": get_run_count,
    "api_url": get_flow_run_api_url,
    "ui_url": get_flow_run_ui_url,
    "job_variables": get_job_variables,
}

__all__ = [  # noqa: PLE0604, RUF100
    "api_url", "flow_name", "flow_version", "id", "job_variables", "name", "parameters", "parent_deployment_id",
    "parent_flow_run_id", "root_flow_run_id", "run_count", "scheduled_start_time", "tags", "ui_url",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    return lookup.find("FLOW_RUN", FIELDS, name)


def __dir__() -> list[str]:
    return sorted(__all__)
