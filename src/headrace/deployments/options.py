"""The options of `deploy`, `serve` and `to_deployment`, read into the fields of a deployment; and entrypoints."""

import inspect
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headrace.deployments.errors import DeploymentError
from headrace.deployments.schedules import schedules_of
from headrace.schemas.concurrency_limits import ConcurrencyLimitStrategy, ConcurrencyOptions


def deploy_options(
    options: Mapping[str, Any], *, description: str | None = None, version: str | None = None
) -> dict[str, Any]:
    """The options of `deploy`, `serve` and `to_deployment` as fields of `RunnerDeployment`.

    Args:
        options: `interval`, `cron`, `rrule`, `schedule`, `schedules`, `timezone`, `paused`, `concurrency_limit` (a
            number or `ConcurrencyLimitConfig`), `parameters`, `triggers`, `description`, `tags`, `version`,
            `version_type`, `enforce_parameter_schema`, `work_pool_name`, `work_queue_name`, `job_variables`, `path`,
            `pull_steps`; None means not given.
        description: of the flow, for a deployment without one.
        version: of the flow, likewise.

    Raises:
        DeploymentError: an option is not known, or wrong.
    """
    given = {name: value for name, value in options.items() if value is not None}
    timing = {
        name: given.pop(name, None) for name in ("interval", "cron", "rrule", "schedule", "schedules", "timezone")
    }
    limit, concurrency = concurrency_of(given.pop("concurrency_limit", None))
    plain = ("paused", "triggers", "version_type", "enforce_parameter_schema", "path", "pull_steps")
    named = ("parameters", "tags", "work_pool_name", "work_queue_name", "job_variables", "entrypoint_type", "_sla")
    if unknown := sorted(set(given) - {*plain, *named, "description", "version"}):
        raise DeploymentError(f"A deployment has no option {', '.join(unknown)}.")
    for without_use in ("entrypoint_type", "_sla"):
        given.pop(without_use, None)
    tags = given.pop("tags", [])
    return {
        **given,
        "tags": [tags] if isinstance(tags, str) else [str(tag) for tag in tags],
        "description": given.get("description", description),
        "version": given.get("version", version),
        "schedules": schedules_of(**timing),
        "concurrency_limit": limit,
        "concurrency_options": concurrency,
    }


def concurrency_of(value: Any) -> tuple[int | None, ConcurrencyOptions | None]:
    """A concurrency limit, as a number or as an object or mapping with `limit` and `collision_strategy`.

    Raises:
        DeploymentError: it is neither, or its strategy is not known.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value, None

    def get(name: str) -> Any:
        return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)

    limit, strategy, grace = get("limit"), get("collision_strategy"), get("grace_period_seconds")
    if not isinstance(limit, int):
        raise DeploymentError(f"concurrency_limit {value!r} has no `limit`; a number is wanted there.")
    if strategy is None and grace is None:
        return limit, None
    text = str(getattr(strategy, "value", strategy) or "ENQUEUE").upper()
    if text not in ("ENQUEUE", "CANCEL_NEW"):
        raise DeploymentError(f"collision_strategy is {strategy!r}; ENQUEUE or CANCEL_NEW is wanted.")
    return limit, ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy(text), grace_period_seconds=grace)


def entrypoint_of(function: Callable[..., Any], *, as_module: bool = False) -> tuple[str, str | None]:
    """Where a worker finds a flow's function.

    Args:
        function: the function.
        as_module: by the name of its module, which must be importable where the worker runs.

    Returns:
        The entrypoint (`flows/etl.py:etl` or `package.module:etl`), and the folder it is relative to (None for a
        module): the working folder when the file is below it, else the folder of the file.

    Raises:
        DeploymentError: the function is not in a file, or in an installed package, whose files a worker does not have
            at this place.
    """
    module, name = function.__module__, function.__qualname__
    if "<locals>" in name:
        raise DeploymentError(f"Flow function {name!r} is defined inside a function, where no worker can find it.")
    if as_module and module != "__main__":
        return f"{module}:{name}", None
    try:
        file = Path(inspect.getsourcefile(inspect.unwrap(function)) or "").resolve(strict=True)
    except (TypeError, OSError):
        raise DeploymentError(
            f"Flow function {name!r} is not in a file, so no worker can find it; put it into a script, or deploy it "
            "with Flow.from_source()."
        ) from None
    if any(file.is_relative_to(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")):
        raise DeploymentError(
            f"Flow function {name!r} is in the installed package {module.partition('.')[0]!r}: give an `image` or a "
            "remote storage, or deploy it with entrypoint_type=EntrypointType.MODULE_PATH."
        )
    folder = Path.cwd()
    if not file.is_relative_to(folder):
        folder = file.parent
    return f"{file.relative_to(folder).as_posix()}:{name}", str(folder)
