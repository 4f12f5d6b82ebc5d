"""Names of runs and flows."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from headrace.exceptions import InvalidNameError

FORBIDDEN = ("/", "%", "&", ">", "<")


def check_name(name: str) -> str:
    """Check the name of a flow and return it.

    Raises:
        InvalidNameError: it has a character that would break a URL.
    """
    if any(character in name for character in FORBIDDEN):
        raise InvalidNameError(
            f"Name {name!r} contains an invalid character. Must not contain any of: {list(FORBIDDEN)}."
        )
    return name


def check_template(option: str, template: Any) -> None:
    """Check the option `flow_run_name` or `task_run_name`.

    Raises:
        TypeError: it is neither text nor a function.
    """
    if template is not None and not isinstance(template, str) and not callable(template):
        raise TypeError(f"Expected string or callable for {option!r}; got {type(template).__name__} instead.")


def render_name(option: str, template: str | Callable[..., Any], parameters: Mapping[str, Any]) -> str:
    """The name of a run, from a template or function and the run's parameters.

    Args:
        option: `flow_run_name` or `task_run_name`, for messages.
        template: text with `{parameter}` in it, or a function that makes the name; one that has a parameter called
            `parameters` is given them.
        parameters: of the run.

    Raises:
        TypeError: the function gave something else than text.
        KeyError: the template names a parameter that there is not.
    """
    if isinstance(template, str):
        return template.format(**parameters)
    takes = inspect.signature(template).parameters
    name = template(parameters=dict(parameters)) if "parameters" in takes else template()
    if not isinstance(name, str):
        raise TypeError(
            f"Callable {template} for {option!r} returned type {type(name).__name__} but a string is required."
        )
    return name


def source_of(function: Callable[..., Any]) -> str | None:
    """The file that a function was written in; None when that is not known."""
    try:
        return inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        return None
