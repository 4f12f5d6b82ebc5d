"""`headrace deploy`: the deployments of headrace.yaml or prefect.yaml, built, filled in and applied."""

import contextlib
import fnmatch
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.deployments.errors import DeploymentError
from headrace.deployments.options import concurrency_of
from headrace.deployments.project_file import DeploymentItem, ProjectFile, find_file
from headrace.deployments.runner import SET_WORKING_DIRECTORY, Deployed, RunnerDeployment, find_work_pool, load_flow
from headrace.deployments.schedules import from_item
from headrace.deployments.steps.core import run_steps
from headrace.deployments.templating import UNKNOWN, fill, names_in
from headrace.flows import Flow
from headrace.schemas.deployments import DeploymentScheduleCreate
from headrace.settings import get_settings

LATER = ("schedule", "schedules", "build", "push", "pull", "triggers")


def deploy_from_file(
    path: str | Path | None = None,
    names: Sequence[str] = (),
    *,
    everything: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> list[Deployed]:
    """Deploy what a deployment file describes.

    Args:
        path: the file; headrace.yaml or prefect.yaml of the working folder when absent.
        names: which of its deployments: `name` or `flow/name`, `*` stands for anything.
        everything: all of them. Without it and without names, the file's only one.
        overrides: values that replace those of each deployment, such as `{"work_pool": {"name": "main"}}`.

    Returns:
        What was done, for each deployment in the order of the file.

    Raises:
        DeploymentError: the file, an entrypoint, a schedule, a pool, ... is not right; the message names file and line.
        StepExecutionError: a build or push step failed.
        DeploymentApplyError: the API refused a deployment.
    """
    file = ProjectFile(find_file() if path is None else Path(path))
    chosen = choose(file, names, everything)
    with _working_in(file.folder):
        prepared = [_prepare(file, where, _overridden(item, overrides or {})) for where, item in chosen]
        return [one.deploy() for one in prepared]


def choose(file: ProjectFile, names: Sequence[str], everything: bool) -> list[tuple[str, Mapping[str, Any]]]:
    """The deployments of a file that are asked for.

    Raises:
        DeploymentError: there is none of such a name, or it was not said which of several.
    """
    items = file.deployments()
    if not items:
        raise DeploymentError(f"{file.path} has no deployments; add one below `deployments:`.")
    if everything:
        return items
    known = ", ".join(str(item.get("name")) for _, item in items)
    if not names:
        if len(items) == 1:
            return items
        raise DeploymentError(f"{file.path} has several deployments: {known}. Name some with --name, or take --all.")
    chosen = []
    for name in names:
        found = [pair for pair in items if _is_called(pair[1], name)]
        if not found:
            raise DeploymentError(f"{file.path} has no deployment {name!r}; it has: {known}.")
        chosen += [pair for pair in found if pair not in chosen]
    return chosen


def _is_called(item: Mapping[str, Any], pattern: str) -> bool:
    flow_name, slash, name = pattern.rpartition("/")
    said = item.get("flow_name") or str(item.get("entrypoint", "")).rpartition(":")[2]
    fits = not slash or any(fnmatch.fnmatch(one, flow_name) for one in (said, said.replace("_", "-")))
    return fits and fnmatch.fnmatch(str(item.get("name")), name)


def _overridden(item: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(item)
    for key, value in overrides.items():
        old = merged.get(key)
        merged[key] = {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _prepare(file: ProjectFile, where: str, raw: Mapping[str, Any]) -> RunnerDeployment:
    steps = {kind: raw[kind] if raw.get(kind) is not None else file.content.get(kind) for kind in ("build", "push")}
    outputs = run_steps(_as_list(steps["build"]))
    outputs = run_steps(_as_list(steps["push"]), outputs)
    try:
        plain = {key: value for key, value in raw.items() if key not in LATER}
        _warn_of_unset(file.place(where), plain, outputs)
        filled = _filled(plain, outputs)
        later = {key: fill(raw[key], outputs, keep_unknown=True, references=False) for key in LATER if key in raw}
    except ValueError as error:
        raise DeploymentError(f"{file.place(where)}: {error}") from None
    item = file.read_item(where, {**filled, **later})
    flow = _flow_of(file, where, item)
    if item.triggers:
        warnings.warn(
            f"{file.place(where + '.triggers')}: triggers are left out, as headrace has no automations yet.",
            stacklevel=2,
        )
    pull = item.pull if "pull" in raw and raw["pull"] is not None else file.content.get("pull")
    pull = fill(pull, outputs, keep_unknown=True, references=False) if pull is not None else None
    return _described(file, where, item, flow, pull)


def _filled(plain: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """A deployment's entry with its placeholders filled in.

    What job variables refer to is left to the worker, so that no secret of a block is kept in a deployment.  # S12
    """
    pool = plain.get("work_pool")
    if not isinstance(pool, Mapping) or "job_variables" not in pool:
        return dict(fill(plain, outputs, environment=True))
    rest = {key: value for key, value in pool.items() if key != "job_variables"}
    filled = dict(fill({**plain, "work_pool": rest}, outputs, environment=True))
    job_variables = fill(pool["job_variables"], outputs, environment=True, references=False)
    filled["work_pool"]["job_variables"] = None if job_variables is UNKNOWN else job_variables
    return filled


def _described(
    file: ProjectFile, where: str, item: DeploymentItem, flow: Flow[..., Any], pull: Any
) -> RunnerDeployment:
    pool = item.work_pool
    pool_name = (pool.name if pool else None) or get_settings().deployments.default_work_pool_name
    if not pool_name:
        raise DeploymentError(f"{file.place(where)}: a work pool is wanted; add work_pool: {{name: ...}}.")
    try:
        find_work_pool(pool_name)
        limit, options = concurrency_of(item.concurrency_limit)
        made = RunnerDeployment.from_flow(flow, item.name or "", path=str(file.folder), entrypoint=item.entrypoint)
    except DeploymentError as error:
        raise DeploymentError(f"{file.place(where)}: {error}") from None
    made.flow_name = item.flow_name or flow.name
    made.description = item.description or made.description
    made.version, made.version_type = item.version or made.version, item.version_type
    made.tags = [part.strip() for part in item.tags.split(",")] if isinstance(item.tags, str) else item.tags or []
    made.parameters, made.paused = item.parameters or {}, item.paused
    made.schedules = _schedules(file, where, item)
    made.concurrency_limit, made.concurrency_options = limit, options
    made.enforce_parameter_schema = item.enforce_parameter_schema is not False
    made.work_pool_name = pool_name
    made.work_queue_name = pool.work_queue_name if pool else None
    made.job_variables = (pool.job_variables if pool else None) or {}
    default = [{SET_WORKING_DIRECTORY: {"directory": str(file.folder)}}]
    made.pull_steps = default if pull is None else _as_list(pull)
    return made


def _schedules(file: ProjectFile, where: str, item: DeploymentItem) -> list[DeploymentScheduleCreate]:
    if item.schedule and item.schedules:
        raise DeploymentError(f"{file.place(where)}: give `schedule` or `schedules`, not both.")
    listed = [(f"{where}.schedules[{index}]", one) for index, one in enumerate(item.schedules or ())]
    if item.schedule and any(value is not None for value in item.schedule.values()):
        listed.append((f"{where}.schedule", item.schedule))
    schedules = []
    for place, one in listed:
        try:
            schedules.append(from_item(one))
        except DeploymentError as error:
            raise DeploymentError(f"{file.place(place)}: {error}") from None
    return schedules


def _flow_of(file: ProjectFile, where: str, item: DeploymentItem) -> Flow[..., Any]:
    for key in ("name", "entrypoint"):
        if not getattr(item, key):
            raise DeploymentError(f"{file.place(where)}: the deployment has no {key}.")
    try:
        return load_flow(item.entrypoint or "")
    except DeploymentError as error:
        raise DeploymentError(f"{file.place(where + '.entrypoint')}: {error}") from error


def _warn_of_unset(place: str, template: Any, outputs: Mapping[str, Any]) -> None:
    for name in sorted(names_in(template)):
        if name.startswith("$") and name[1:] not in os.environ:
            warnings.warn(f"{place}: the environment has no {name[1:]}; it is taken as empty.", stacklevel=3)
        elif (
            not name.startswith(("$", "ctx.", "prefect.", "headrace.")) and fill(f"{{{{{name}}}}}", outputs) is UNKNOWN
        ):
            warnings.warn(f"{place}: no step gives {name!r}; it is taken as empty.", stacklevel=3)


def _as_list(steps: Any) -> list[dict[str, Any]]:
    many = steps if isinstance(steps, list) else [steps]
    return [step for step in many if step]


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Steps and entrypoints of a file are relative to its folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
