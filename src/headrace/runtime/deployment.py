"""The deployment of the flow run that the code is in. See `headrace.runtime`."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from headrace.client import get_client
from headrace.runtime import flow_run as runtime_flow_run
from headrace.runtime import lookup
from headrace.schemas.deployments import READ_DEPLOYMENT, Deployment

if TYPE_CHECKING:
    id: str | None
    name: str | None
    version: str | None
    flow_run_id: str | None
    parameters: dict[str, Any]


@cache
def _read(deployment_id: UUID) -> Deployment:
    return get_client().call(READ_DEPLOYMENT, id=deployment_id)


def _current() -> Deployment | None:
    run = runtime_flow_run.current()
    return _read(run.deployment_id) if run is not None and run.deployment_id is not None else None


def get_id() -> str | None:
    """Its id."""
    run = runtime_flow_run.current()
    return str(run.deployment_id) if run is not None and run.deployment_id is not None else None


def get_name() -> str | None:
    """Its name."""
    deployment = _current()
    return deployment.name if deployment is not None else None


def get_version() -> str | None:
    """Its version."""
    deployment = _current()
    return deployment.version if deployment is not None else None


def get_parameters() -> dict[str, Any]:
    """The parameters that it gives to its runs."""
    run = runtime_flow_run.current()
    return dict(run.parameters) if run is not None and run.deployment_id is not None else {}


def get_flow_run_id() -> str | None:
    """The id of the flow run."""
    return runtime_flow_run.get_id()


FIELDS: dict[str, Callable[[], Any]] = {
    "id": get_id,
    "name": get_name,
    "version": get_version,
    "flow_run_id": get_flow_run_id,
    "parameters": get_parameters,
}

__all__ = ["flow_run_id", "id", "name", "parameters", "version"]


def __getattr__(name: str) -> Any:
    return lookup.find("DEPLOYMENT", FIELDS, name)


def __dir__() -> list[str]:
    return sorted(__all__)
