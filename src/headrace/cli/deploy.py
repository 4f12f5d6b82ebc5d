"""`headrace deploy`: from a headrace.yaml or prefect.yaml, or from an entrypoint alone."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from headrace.cli.inputs import read_parameters, read_variables
from headrace.cli.output import done, fail, show_json
from headrace.deployments.errors import DeploymentError
from headrace.deployments.from_file import deploy_from_file
from headrace.deployments.project_file import find_file
from headrace.deployments.runner import Deployed, RunnerDeployment
from headrace.settings import get_settings

app = App(name="deploy", help="Deploy flows from a headrace.yaml or prefect.yaml, or from an entrypoint.")


@app.default
def deploy(
    entrypoint: str | None = None,
    /,
    *,
    names: Annotated[list[str] | None, Parameter(name=["--name", "-n"])] = None,
    everything: Annotated[bool, Parameter(name="--all", negative="")] = False,
    description: Annotated[str | None, Parameter(name=["--description", "-d"])] = None,
    version: str | None = None,
    version_type: str | None = None,
    tags: Annotated[list[str] | None, Parameter(name=["--tag", "-t"])] = None,
    concurrency_limit: int | None = None,
    collision_strategy: str | None = None,
    pool: Annotated[str | None, Parameter(name=["--pool", "-p"])] = None,
    work_queue: Annotated[str | None, Parameter(name=["--work-queue", "-q"])] = None,
    job_variables: Annotated[list[str] | None, Parameter(name="--job-variable")] = None,
    cron: list[str] | None = None,
    interval: list[float] | None = None,
    anchor_date: str | None = None,
    rrule: list[str] | None = None,
    timezone: str | None = None,
    params: Annotated[list[str] | None, Parameter(name="--param")] = None,
    multiparams: Annotated[str | None, Parameter(name="--params")] = None,
    enforce_parameter_schema: bool | None = None,
    file: Annotated[Path | None, Parameter(name=["--file", "--prefect-file"])] = None,
    output: Annotated[str | None, Parameter(name=["--output", "-o"])] = None,
) -> int | None:
    """Deploy flows.

    Without an entrypoint the deployments are those of headrace.yaml or prefect.yaml in this folder.

    Args:
        entrypoint: `path/to/file.py:function`, when it is not in a file of deployments.
        names: which deployments of the file; with an entrypoint, the name of the one to make.
        everything: all deployments of the file.
        description: what it is for.
        version: a version of the flow.
        version_type: what kind of version that is.
        tags: tags for its runs.
        concurrency_limit: how many of its runs may run at the same time.
        collision_strategy: what becomes of a run too many: ENQUEUE or CANCEL_NEW.
        pool: the work pool that carries out its runs.
        work_queue: a queue of that pool.
        job_variables: `KEY=VALUE` for the infrastructure.
        cron: a schedule, as a cron expression.
        interval: a schedule, as seconds between runs.
        anchor_date: the moment intervals are counted from.
        rrule: a schedule, as an RFC 5545 rule.
        timezone: of the schedules.
        params: `KEY=VALUE`, default parameters.
        multiparams: default parameters as one JSON object.
        enforce_parameter_schema: refuse runs whose parameters do not fit the flow.
        file: another file than headrace.yaml or prefect.yaml.
        output: `json` prints the deployments as JSON.
    """
    schedules = _schedules(cron, interval, anchor_date, rrule, timezone)
    limit = {"limit": concurrency_limit, "collision_strategy": collision_strategy} if collision_strategy else None
    given = {
        "description": description,
        "version": version,
        "version_type": version_type,
        "tags": tags,
        "concurrency_limit": limit or concurrency_limit,
        "parameters": read_parameters(params, multiparams) or None,
        "enforce_parameter_schema": enforce_parameter_schema,
        "schedules": schedules or None,
    }
    options = {name: value for name, value in given.items() if value is not None}
    where = {"name": pool, "work_queue_name": work_queue, "job_variables": read_variables(job_variables)}
    place = {name: value for name, value in where.items() if value is not None}
    if entrypoint is None:
        overrides = options | ({"work_pool": place} if place else {})
        deployed = deploy_from_file(file or find_file(), names or (), everything=everything, overrides=overrides)
    else:
        if len(names or ()) > 1:
            return fail("An entrypoint makes one deployment; give one --name.")
        deployed = [_deploy_entrypoint(entrypoint, (names or ["default"])[0], options, place)]
    if output == "json":
        show_json([one.deployment for one in deployed])
        return None
    for one in deployed:
        _report(one)
    return None


def _schedules(
    cron: list[str] | None, interval: list[float] | None, anchor: str | None, rrule: list[str] | None, zone: str | None
) -> list[dict[str, Any]]:
    common: dict[str, Any] = {"timezone": zone} if zone else {}
    anchored: dict[str, Any] = {"anchor_date": anchor} if anchor else {}
    return [
        *(common | {"cron": text} for text in cron or ()),
        *(common | anchored | {"interval": seconds} for seconds in interval or ()),
        *(common | {"rrule": text} for text in rrule or ()),
    ]


def _deploy_entrypoint(entrypoint: str, name: str, options: dict[str, Any], place: dict[str, Any]) -> Deployed:
    pool = place.pop("name", None) or get_settings().deployments.default_work_pool_name
    if pool is None:
        raise DeploymentError("Say which work pool carries out its runs: --pool NAME. See: headrace work-pool ls")
    options = options | {"path": str(Path.cwd()), "work_pool_name": pool} | place
    return RunnerDeployment.from_entrypoint(entrypoint, name, **options).deploy()


def _report(one: Deployed) -> None:
    if one.created:
        done(f"Created deployment '{one.name}' ({one.id}).")
    elif one.changed:
        done(f"Changed deployment '{one.name}': {', '.join(one.changed)}.")
    else:
        done(f"Deployment '{one.name}' is as it was.")
    done(f"  Run it with: headrace deployment run '{one.name}'")
