"""Steps of building, pushing and pulling: a list of `{dotted.path.of.a.function: {its arguments}}`.

What a function returns as a dict can be used by later steps as `{{ output }}`, and as `{{ id.output }}` when the step
has an `id`. Names that begin with `prefect.` mean headrace's own.
"""

import asyncio
import importlib
import importlib.util
import inspect
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace.deployments.errors import StepExecutionError
from headrace.deployments.templating import fill

RESERVED_KEYWORDS = frozenset(("id", "requires"))


def run_steps(
    steps: Sequence[Mapping[str, Any] | None],
    upstream_outputs: Mapping[str, Any] | None = None,
    print_function: Callable[[str], Any] | None = None,
) -> dict[str, Any]:
    """Run steps one after the other.

    Args:
        steps: the steps; None items are skipped.
        upstream_outputs: outputs of earlier steps.
        print_function: told of each step before it runs.

    Returns:
        The outputs, with those of these steps.

    Raises:
        StepExecutionError: a step is not well-formed, or failed; its cause is the step's own error.
    """
    known = dict(upstream_outputs or {})
    for step in steps:
        if not step:
            continue
        name, arguments = _parts(step)
        if print_function is not None:
            print_function(f" > Running {name.rpartition('.')[2]} step...\n")
        try:
            result = run_step(step, known)
        except StepExecutionError:
            raise
        except Exception as error:
            raise StepExecutionError(f"Step {name} failed: {error}") from error
        if isinstance(result, Mapping):
            known |= result
            if arguments.get("id"):
                known[arguments["id"]] = dict(result)
    return known


def run_step(step: Mapping[str, Any], upstream_outputs: Mapping[str, Any] | None = None) -> Any:
    """Run one step and return what its function returns.

    Raises:
        StepExecutionError: the step is not well-formed, or there is no such function.
    """
    name, arguments = _parts(step)
    _install(name, arguments.get("requires"))
    function = find_function(name)
    inputs = fill(
        {key: value for key, value in arguments.items() if key not in RESERVED_KEYWORDS},
        upstream_outputs or {},
        keep_unknown=True,
        environment=True,
    )
    result = function(**inputs)
    return _awaited(result) if inspect.isawaitable(result) else result


def run_pull_steps(steps: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Run the pull steps of a deployment, and go to the folder that the last of them names.

    Raises:
        StepExecutionError: a step failed, or the folder does not exist.
    """
    outputs = run_steps(steps)
    directory = outputs.get("directory")
    if directory:
        try:
            os.chdir(directory)
        except OSError as error:
            raise StepExecutionError(f"The pull steps gave the folder {directory!r}: {error.strerror}.") from error
    return outputs


def find_function(name: str) -> Callable[..., Any]:
    """The function a step names.

    Raises:
        StepExecutionError: there is none.
    """
    module, _, attribute = name.rpartition(".")
    module = f"headrace.{module.removeprefix('prefect.')}" if module.startswith("prefect.") else module
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise StepExecutionError(f"There is no step {name!r}: {error}.") from error
    if not callable(function):
        raise StepExecutionError(f"{name!r} is no function, so it cannot be a step.")
    found: Callable[..., Any] = function
    return found


def _parts(step: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if len(step) != 1:
        raise StepExecutionError(
            f"A step has exactly one key, the path of its function; this one has {', '.join(map(str, step)) or 'none'}."
        )
    ((name, arguments),) = step.items()
    if arguments is not None and not isinstance(arguments, Mapping):
        raise StepExecutionError(f"The arguments of step {name!r} are names with values, not {arguments!r}.")
    return name, arguments or {}


def _install(name: str, requires: str | Sequence[str] | None) -> None:
    """Install what a step needs, when it cannot be imported."""
    wanted = [requires] if isinstance(requires, str) else list(requires or ())
    missing = [one for one in wanted if importlib.util.find_spec(_module_of(one)) is None]
    if not missing:
        return
    uv = shutil.which("uv")
    installer = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    done = subprocess.run([*installer, "--", *missing], capture_output=True, text=True)
    if done.returncode:
        raise StepExecutionError(f"Step {name} requires {', '.join(missing)}, which cannot be installed: {done.stderr}")
    importlib.invalidate_caches()


def _module_of(requirement: str) -> str:
    name = requirement
    for mark in "[<>=!~; @":
        name = name.partition(mark)[0]
    return name.strip().replace("-", "_")


def _awaited(awaitable: Any) -> Any:
    """The result of an asynchronous step, in an event loop of its own: the caller may be in one already."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    async def wait() -> Any:
        return await awaitable

    def run() -> None:
        try:
            outcome.append(asyncio.run(wait()))
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
