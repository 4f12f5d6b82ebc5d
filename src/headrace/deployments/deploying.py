"""`flow.deploy(...)` and `deploy(...)`: deployments for a work pool."""

import sys
import warnings
from typing import Any
from uuid import UUID

from headrace.deployments.errors import DeploymentError
from headrace.deployments.runner import Deployed, RunnerDeployment, find_work_pool
from headrace.flows import Flow
from headrace.settings import get_settings


def deploy_flow(
    flow: Flow[..., Any],
    name: str,
    work_pool_name: str | None = None,
    image: Any = None,
    build: bool = True,
    push: bool = True,
    print_next_steps: bool = True,
    ignore_warnings: bool = False,
    **options: Any,
) -> UUID:
    """Deploy a flow to a work pool; the work behind `Flow.deploy`.

    Args:
        flow: the flow.
        name: the deployment's name.
        work_pool_name: the pool; that of the setting `deployments.default_work_pool_name` when absent.
        image: container image for the runs, as a name or an object with `reference`.
        build: build the image first. headrace cannot do so yet: give False with an image.
        push: push the image. Likewise.
        print_next_steps: say how to run it.
        ignore_warnings: do not warn.
        **options: as `headrace.deployments.options.deploy_options` reads them.

    Returns:
        The deployment's id.

    Raises:
        DeploymentError: an option is wrong, there is no such pool, or the flow stands where no worker can find it.
        DeploymentApplyError: the API refused it.
    """
    made = RunnerDeployment.from_flow(flow, name, **options)
    (deployed,) = deploy(
        made,
        work_pool_name=work_pool_name,
        image=image,
        build=build,
        push=push,
        print_next_steps_message=print_next_steps,
        ignore_warnings=ignore_warnings,
    )
    return deployed


def deploy(
    *deployments: RunnerDeployment,
    work_pool_name: str | None = None,
    image: Any = None,
    build: bool = True,
    push: bool = True,
    print_next_steps_message: bool = True,
    ignore_warnings: bool = False,
) -> list[UUID]:
    """Deploy several deployments, as made by `flow.to_deployment`, to a work pool.

    Args:
        deployments: what to deploy.
        work_pool_name: the pool of those that name none.
        image: container image for the runs.
        build: build the image first; see `deploy_flow`.
        push: push the image; likewise.
        print_next_steps_message: say how to run them.
        ignore_warnings: do not warn.

    Returns:
        Their ids, in order.

    Raises:
        DeploymentError: there is no such pool, or an image would have to be built.
        DeploymentApplyError: the API refused one.
    """
    pool_name = work_pool_name or get_settings().deployments.default_work_pool_name
    if not pool_name and not all(one.work_pool_name for one in deployments):
        raise DeploymentError(
            "A work pool is wanted: give work_pool_name, or set HEADRACE_DEPLOYMENTS_DEFAULT_WORK_POOL_NAME."
        )
    if image is not None and (build or push):
        raise DeploymentError(
            "headrace cannot build or push images yet: build the image yourself and give build=False, push=False."
        )
    results = []
    for one in deployments:
        if image is not None:
            one.job_variables = {**one.job_variables, "image": str(getattr(image, "reference", image))}
        if one.triggers and not ignore_warnings:
            warnings.warn(f"Triggers of {one.full_name!r} are left out: headrace has no automations yet.", stacklevel=2)
        pool = find_work_pool(one.work_pool_name or pool_name or "")
        results.append(one.deploy(work_pool_name=pool.name))
    if print_next_steps_message:
        print_next_steps(results)
    return [one.id for one in results]


def print_next_steps(results: list[Deployed]) -> None:
    """Tell a person what was deployed and how to run it."""
    for one in results:
        word = "Created" if one.created else f"Updated ({', '.join(one.changed) or 'nothing changed'})"
        sys.stdout.write(f"{word} deployment {one.name!r} {one.url or one.id}\n")
    pools = dict.fromkeys(one.deployment.work_pool_name for one in results)
    for pool in pools:
        sys.stdout.write(f"Start a worker with: headrace worker start --pool {pool!r}\n")
    for one in results:
        sys.stdout.write(f"Start a run with:    headrace deployment run {one.name!r}\n")
