"""A deployment on its way to the API: made from a flow, an entrypoint or a storage, then applied.

`RunnerDeployment.apply` creates it or replaces the one of the same name. Schedules with a slug keep their identity
over redeployments, and so the runs they have already made.  # G3
"""

from __future__ import annotations

import inspect
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

from msgspec import Struct, field

from headrace.client import get_client
from headrace.deployments.errors import DeploymentApplyError, DeploymentError
from headrace.deployments.options import deploy_options, entrypoint_of
from headrace.deployments.parameter_schema import parameter_schema
from headrace.exceptions import ApiError, ObjectNotFound
from headrace.flows import Flow, load_flow_from_entrypoint
from headrace.schemas.concurrency_limits import ConcurrencyOptions
from headrace.schemas.deployments import (
    CREATE_DEPLOYMENT,
    READ_DEPLOYMENT_BY_NAME,
    Deployment,
    DeploymentCreate,
    DeploymentScheduleCreate,
    VersionInfo,
)
from headrace.schemas.flows import CREATE_FLOW, FlowCreate
from headrace.schemas.work_pools import READ_WORK_POOL, WorkPool
from headrace.settings import get_settings

FORBIDDEN_IN_NAMES = "/%&><"
SET_WORKING_DIRECTORY = "headrace.deployments.steps.set_working_directory"


class Deployed(Struct, frozen=True):
    """What deploying has done.

    Args:
        id: the deployment.
        name: `flow/deployment`.
        created: it is new.
        changed: names of what is different from before, when it is not.
        deployment: as the API has it now.
        url: its page, when the pages' address is known.
    """

    id: UUID
    name: str
    created: bool
    changed: tuple[str, ...]
    deployment: Deployment
    url: str | None = None


class RunnerDeployment(Struct, kw_only=True):
    """A deployment that can be applied."""

    name: str
    flow_name: str
    entrypoint: str | None = None
    description: str | None = None
    version: str | None = None
    version_type: str | None = None
    tags: list[str] = []
    schedules: list[DeploymentScheduleCreate] | None = None
    concurrency_limit: int | None = None
    concurrency_options: ConcurrencyOptions | None = None
    paused: bool | None = None
    parameters: dict[str, Any] = {}
    enforce_parameter_schema: bool = True
    storage: Any = None
    triggers: list[Any] = []
    work_pool_name: str | None = None
    work_queue_name: str | None = None
    job_variables: dict[str, Any] = {}
    path: str | None = None
    pull_steps: list[dict[str, Any]] | None = None
    parameter_openapi_schema: dict[str, Any] | None = None
    flow: Any = field(default=None)

    def __post_init__(self) -> None:
        if not self.name or any(character in self.name for character in FORBIDDEN_IN_NAMES):
            raise DeploymentError(
                f"{self.name!r} cannot be the name of a deployment: it must not be empty nor hold any of "
                f"{' '.join(FORBIDDEN_IN_NAMES)}."
            )

    @property
    def full_name(self) -> str:
        """`flow/deployment`."""
        return f"{self.flow_name}/{self.name}"

    @classmethod
    def from_flow(cls, flow: Flow[..., Any], name: str, **options: Any) -> RunnerDeployment:
        """A deployment of a flow.

        Args:
            flow: the flow.
            name: the deployment's name.
            **options: as `deploy_options` reads them: schedules, parameters, tags, ...

        Raises:
            DeploymentError: an option is wrong, or the flow stands where no worker can find it.
        """
        kind = options.get("entrypoint_type")
        path = options.pop("path", None) or getattr(flow, "_path", None)
        entrypoint = options.pop("entrypoint", None) or getattr(flow, "_entrypoint", None)
        if entrypoint is None or kind is not None:
            entrypoint, folder = entrypoint_of(flow.fn, as_module=str(getattr(kind, "value", kind)) == "module_path")
            path = path or folder
        return cls(
            name=name,
            flow_name=flow.name,
            entrypoint=entrypoint,
            path=path,
            storage=getattr(flow, "_storage", None),
            flow=flow,
            parameter_openapi_schema=parameter_schema(flow.fn),
            **deploy_options(options, description=flow.description, version=flow.version),
        )

    @classmethod
    def from_entrypoint(cls, entrypoint: str, name: str, **options: Any) -> RunnerDeployment:
        """A deployment of the flow at an entrypoint.

        Args:
            entrypoint: `path.py:function` or `package.module:function`.
            name: the deployment's name.
            **options: as `deploy_options` reads them.

        Raises:
            DeploymentError: an option is wrong, or there is no flow at the entrypoint.
        """
        flow = load_flow(entrypoint)
        made = cls.from_flow(flow, name, **options)
        made.entrypoint = entrypoint
        return made

    @classmethod
    def from_storage(cls, storage: Any, entrypoint: str, name: str, **options: Any) -> RunnerDeployment:
        """A deployment of a flow whose code is kept in a storage, such as a Git repository.

        Args:
            storage: pulls the code; see `headrace.runner.storage`.
            entrypoint: where the flow is, in the pulled code.
            name: the deployment's name.
            **options: as `deploy_options` reads them.

        Raises:
            DeploymentError: an option is wrong, or there is no flow at the entrypoint.
        """
        with tempfile.TemporaryDirectory() as folder:
            storage.set_base_path(Path(folder))
            storage.pull_code_now()
            flow = load_flow(f"{storage.destination}/{entrypoint}")
            made = cls.from_flow(flow, name, **options)
        made.entrypoint, made.storage, made.path = entrypoint, storage, None
        return made

    def apply(self, *, work_pool_name: str | None = None) -> UUID:
        """Create the deployment, or replace the one of this name.

        Args:
            work_pool_name: a work pool for it, when it names none itself.

        Returns:
            Its id.

        Raises:
            DeploymentApplyError: the API refused it.
            DeploymentError: there is no such work pool.
        """
        return self.deploy(work_pool_name=work_pool_name).id

    def deploy(self, *, work_pool_name: str | None = None) -> Deployed:
        """The same as `apply`, and says what has changed."""
        self._check_parameters()
        client = get_client()
        self.work_pool_name = self.work_pool_name or work_pool_name
        if self.work_pool_name:
            find_work_pool(self.work_pool_name)
        before = _existing(self.flow_name, self.name)
        flow_id = client.call(CREATE_FLOW, body=FlowCreate(name=self.flow_name)).id
        try:
            after = client.call(CREATE_DEPLOYMENT, body=self._body(flow_id, before))
        except ApiError as error:
            raise DeploymentApplyError(f"Deployment {self.full_name!r} was not accepted: {error}") from error
        ui = get_settings().ui_url
        return Deployed(
            id=after.id,
            name=self.full_name,
            created=before is None,
            changed=changes(before, after) if before else (),
            deployment=after,
            url=f"{ui}/deployments/deployment/{after.id}" if ui else None,
        )

    def _check_parameters(self) -> None:
        if self.flow is None or not self.enforce_parameter_schema:
            return
        takes = inspect.signature(self.flow.fn).parameters
        if any(one.kind is one.VAR_KEYWORD for one in takes.values()):
            return
        given = [self.parameters, *(one.parameters for one in self.schedules or ())]
        if unknown := sorted({name for some in given for name in some} - set(takes)):
            names = ", ".join(takes) or "none"
            raise DeploymentError(f"Flow {self.flow_name!r} has no parameter {', '.join(unknown)}; it takes: {names}.")

    def _body(self, flow_id: UUID, before: Deployment | None) -> DeploymentCreate:
        info = VersionInfo(type=self.version_type, version=self.version or "") if self.version_type else None
        paused = self.paused if self.paused is not None else before.paused if before else False
        return DeploymentCreate(
            name=self.name,
            flow_id=flow_id,
            entrypoint=self.entrypoint,
            description=self.description,
            version=self.version,
            version_info=info,
            tags=self.tags,
            schedules=self.schedules if self.schedules is not None else kept_schedules(before),
            concurrency_limit=self.concurrency_limit,
            concurrency_options=self.concurrency_options,
            paused=paused,
            parameters=self.parameters,
            enforce_parameter_schema=self.enforce_parameter_schema,
            work_pool_name=self.work_pool_name,
            work_queue_name=self.work_queue_name,
            job_variables=self.job_variables,
            path=self.path,
            pull_steps=self._pull_steps(),
            parameter_openapi_schema=self.parameter_openapi_schema,
        )

    def _pull_steps(self) -> list[dict[str, Any]] | None:
        if self.pull_steps is not None:
            return self.pull_steps
        if self.storage is not None:
            return [self.storage.to_pull_step()]
        if not self.work_pool_name:
            return None
        return [{SET_WORKING_DIRECTORY: {"directory": self.path or str(Path.cwd())}}]


def load_flow(entrypoint: str) -> Flow[..., Any]:
    """The flow at an entrypoint.

    Raises:
        DeploymentError: there is no such file, module or flow, or loading it raised.
    """
    if ":" not in entrypoint:
        raise DeploymentError(
            f"{entrypoint!r} is no entrypoint; write path/to/file.py:function or package.module:function."
        )
    try:
        return load_flow_from_entrypoint(entrypoint)
    except Exception as error:
        raise DeploymentError(f"There is no flow at {entrypoint!r}: {error}") from error


def find_work_pool(name: str) -> WorkPool:
    """The work pool of a name.

    Raises:
        DeploymentError: there is none.
    """
    try:
        return get_client().call(READ_WORK_POOL, name=name)
    except ObjectNotFound:
        raise DeploymentError(
            f"There is no work pool {name!r}. Create it with: headrace work-pool create {name} --type process"
        ) from None


def _existing(flow_name: str, name: str) -> Deployment | None:
    try:
        return get_client().call(READ_DEPLOYMENT_BY_NAME, flow_name=flow_name, deployment_name=name)
    except ObjectNotFound:
        return None


def kept_schedules(before: Deployment | None) -> list[DeploymentScheduleCreate]:
    """The schedules of a deployment as it is, for one that says nothing about schedules."""
    return [
        DeploymentScheduleCreate(
            schedule=one.schedule,
            active=one.active,
            parameters=one.parameters,
            slug=one.slug,
            max_scheduled_runs=one.max_scheduled_runs,
        )
        for one in (before.schedules if before else ())
    ]


COMPARED = (
    "entrypoint",
    "path",
    "description",
    "version",
    "tags",
    "paused",
    "parameters",
    "enforce_parameter_schema",
    "parameter_openapi_schema",
    "work_pool_name",
    "work_queue_name",
    "job_variables",
    "pull_steps",
    "concurrency_options",
)


def changes(before: Deployment, after: Deployment) -> tuple[str, ...]:
    """Names of what differs between two states of a deployment."""
    names = [name for name in COMPARED if getattr(before, name) != getattr(after, name)]
    if limit_of(before) != limit_of(after):
        names.append("concurrency_limit")
    if kept_schedules(before) != kept_schedules(after):
        names.append("schedules")
    return tuple(names)


def limit_of(deployment: Deployment) -> int | None:
    """A deployment's concurrency limit."""
    shared = deployment.global_concurrency_limit
    return shared.limit if shared else deployment.concurrency_limit
