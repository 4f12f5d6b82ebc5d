"""`headrace deployment`."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from cyclopts import App, Parameter

from headrace.cli.flow_runs import watch as watch_run
from headrace.cli.inputs import moment_of_start, read_parameters, read_variables
from headrace.cli.output import OutputOption, ago, done, fail, show_json, show_table
from headrace.client import Client, get_client
from headrace.exceptions import ObjectNotFound, ValidationFailed
from headrace.schemas.deployments import (
    CREATE_FLOW_RUN_FROM_DEPLOYMENT,
    DELETE_DEPLOYMENT,
    PAUSE_DEPLOYMENT,
    READ_DEPLOYMENT,
    READ_DEPLOYMENT_BY_NAME,
    READ_DEPLOYMENTS,
    RESUME_DEPLOYMENT,
    Deployment,
    DeploymentFlowRunCreate,
    DeploymentSchedule,
    ReadDeployments,
)
from headrace.schemas.filters import DeploymentSort, FlowFilter, IdInOrNot, NameMatch
from headrace.schemas.flows import READ_FLOWS, ReadFlows
from headrace.schemas.states import StateCreate, StateDetails, StateType

app = App(name="deployment", help="Work with deployments.")


def find(client: Client, name: str | None, deployment_id: UUID | None = None) -> Deployment:
    """The deployment that a command means.

    Args:
        client: who asks the API.
        name: `flow name/deployment name`, or an id.
        deployment_id: its id, when not by name.

    Raises:
        ValidationFailed: neither or both were given, or the name has no slash.
        ObjectNotFound: there is no such deployment.
    """
    if (name is None) == (deployment_id is None):
        raise ValidationFailed("Name the deployment as 'FLOW NAME/DEPLOYMENT NAME', or give its --id.")
    if deployment_id is not None:
        return client.call(READ_DEPLOYMENT, id=deployment_id)
    flow_name, slash, deployment_name = (name or "").partition("/")
    if not slash:
        raise ValidationFailed(f"'{name}' is not 'FLOW NAME/DEPLOYMENT NAME'. See: headrace deployment ls")
    try:
        return client.call(READ_DEPLOYMENT_BY_NAME, flow_name=flow_name, deployment_name=deployment_name)
    except ObjectNotFound:
        raise ObjectNotFound("Deployment", name) from None


def schedule_text(schedule: DeploymentSchedule) -> str:
    """A schedule in a few words."""
    when = schedule.schedule
    text = when.cron or when.rrule or f"every {when.interval:g}s"
    zone = f" ({when.timezone})" if when.timezone else ""
    return f"{text}{zone}{'' if schedule.active else ' paused'}"


@app.command(name="ls")
def list_deployments(*flow_name: str, by_created: bool = False, output: OutputOption = None) -> None:
    """List deployments.

    Args:
        flow_name: only those of these flows.
        by_created: the newest first, instead of by name.
        output: `json` prints the data as JSON.
    """
    client = get_client()
    sort = DeploymentSort.CREATED_DESC if by_created else DeploymentSort.NAME_ASC
    flows = FlowFilter(name=NameMatch(any_=list(flow_name))) if flow_name else None
    found = client.call(READ_DEPLOYMENTS, body=ReadDeployments(flows=flows, sort=sort))
    if output == "json":
        show_json(found)
        return
    ids = IdInOrNot(any_=list({item.flow_id for item in found}))
    names = {flow.id: flow.name for flow in client.call(READ_FLOWS, body=ReadFlows(flows=FlowFilter(id=ids)))}
    rows = [
        (
            f"{names.get(item.flow_id, '?')}/{item.name}",
            str(item.id),
            item.work_pool_name,
            "paused" if item.paused else "; ".join(schedule_text(schedule) for schedule in item.schedules),
        )
        for item in found
    ]
    show_table("Deployments", ("Name", "ID", "Work pool", "Schedule"), rows)


@app.command(name="inspect")
def inspect_deployment(name: str, /, *, output: OutputOption = None) -> None:
    """Show a deployment.

    Args:
        name: `FLOW NAME/DEPLOYMENT NAME`.
        output: `json` prints the data as JSON.
    """
    found = find(get_client(), name)
    if output == "json":
        show_json(found)
        return
    facts: dict[str, Any] = {
        "Deployment": f"{name} ({found.id})",
        "Description": found.description,
        "Status": "paused" if found.paused else found.status,
        "Entrypoint": found.entrypoint,
        "Path": found.path,
        "Work pool": found.work_pool_name,
        "Work queue": found.work_queue_name,
        "Schedules": "\n".join(schedule_text(schedule) for schedule in found.schedules),
        "Parameters": str(found.parameters) if found.parameters else None,
        "Concurrency limit": found.global_concurrency_limit and str(found.global_concurrency_limit.limit),
        "Version": found.version,
        "Tags": ", ".join(found.tags),
        "Updated": ago(found.updated),
    }
    show_table("", ("", ""), [(label, str(value)) for label, value in facts.items() if value])


@app.command(name="run")
def run_deployment(
    name: str | None = None,
    /,
    *,
    deployment_id: Annotated[UUID | None, Parameter(name="--id")] = None,
    job_variables: Annotated[list[str] | None, Parameter(name="--job-variable")] = None,
    params: Annotated[list[str] | None, Parameter(name=["--param", "-p"])] = None,
    multiparams: Annotated[str | None, Parameter(name="--params")] = None,
    start_in: str | None = None,
    start_at: str | None = None,
    tags: Annotated[list[str] | None, Parameter(name="--tag")] = None,
    watch: bool = False,
    watch_interval: float = 0.25,
    watch_timeout: float | None = None,
    flow_run_name: str | None = None,
    output: OutputOption = None,
) -> int | None:
    """Create a flow run of a deployment.

    Args:
        name: `FLOW NAME/DEPLOYMENT NAME`.
        deployment_id: the deployment's id, instead of its name.
        job_variables: `KEY=VALUE` for the infrastructure.
        params: `KEY=VALUE`; the value is read as JSON where it can be, else as text.
        multiparams: all parameters as one JSON object; `-` reads it from standard input.
        start_in: how long from now, such as `30s`, `10 minutes` or `2h`.
        start_at: when, as an ISO 8601 date and time.
        tags: tags for the run.
        watch: print its log and states until it is final.
        watch_interval: seconds between looks.
        watch_timeout: seconds after which to stop watching.
        flow_run_name: a name for the run.
        output: `json` prints the run as JSON.
    """
    client = get_client()
    deployment = find(client, name, deployment_id)
    when: datetime | None = moment_of_start(start_in, start_at)
    body = DeploymentFlowRunCreate(
        parameters=read_parameters(params, multiparams),
        job_variables=read_variables(job_variables),
        tags=tags or [],
        name=flow_run_name,
        state=StateCreate(type=StateType.SCHEDULED, state_details=StateDetails(scheduled_time=when)),
    )
    run = client.call(CREATE_FLOW_RUN_FROM_DEPLOYMENT, id=deployment.id, body=body)
    if output == "json":
        show_json(run)
    else:
        done(f"Created flow run '{run.name}' ({run.id}), to start {ago(when) or 'now'}.")
    return watch_run(client, run.id, timeout=watch_timeout, interval=watch_interval) if watch else None


@app.command(name="pause")
def pause(name: str, /) -> None:
    """Pause a deployment: its schedules make no runs until it is resumed.

    Args:
        name: `FLOW NAME/DEPLOYMENT NAME`.
    """
    client = get_client()
    client.call(PAUSE_DEPLOYMENT, id=find(client, name).id)
    done(f"Paused deployment '{name}'.")


@app.command(name="resume")
def resume(name: str, /) -> None:
    """Resume a paused deployment.

    Args:
        name: `FLOW NAME/DEPLOYMENT NAME`.
    """
    client = get_client()
    client.call(RESUME_DEPLOYMENT, id=find(client, name).id)
    done(f"Resumed deployment '{name}'.")


@app.command(name="delete")
def delete(
    name: str | None = None, /, *, deployment_id: Annotated[UUID | None, Parameter(name="--id")] = None
) -> int | None:
    """Delete a deployment; its runs stay.

    Args:
        name: `FLOW NAME/DEPLOYMENT NAME`.
        deployment_id: its id, instead of its name.
    """
    client = get_client()
    found = find(client, name, deployment_id)
    try:
        client.call(DELETE_DEPLOYMENT, id=found.id)
    except ObjectNotFound as error:
        return fail(str(error))
    done(f"Deleted deployment '{name or deployment_id}'.")
    return None
