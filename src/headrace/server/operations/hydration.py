"""Values that a form hands over as text, turned into what they stand for.

`{"__prefect_kind": "json", "value": "[1, 2]"}` stands for what its text says, `workspace_variable` for the variable it
names in `variable_name`, `none` for its value as it is, and `jinja` for what its `template` yields, which is only
checked here: the text of a stranger is not carried out on the server.  # S7
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from headrace.exceptions import ApiError
from headrace.server.operations.checks import Fault, Place
from headrace.server.operations.templates import fault_of_template

KIND = "__prefect_kind"
Variables = Callable[[str], Any]
"""Gives the value of a variable, or raises LookupError."""
_NOTHING = object()


class NotHydrated(ApiError):
    """A parameter does not say what it stands for."""

    status = 400


class _Wrong(Exception):
    """What is wrong with one value."""


class _Template(Exception):
    """A value is a template, and a good one."""


def hydrated(parameters: Mapping[str, Any], variables: Variables) -> dict[str, Any]:
    """Parameters with each such value, however deep inside, replaced by what it stands for.

    Args:
        parameters: of a run.
        variables: of this server.

    Raises:
        NotHydrated: one cannot be read, names no variable, or is a template.
    """
    filled, faults, templates = examined(parameters, variables)
    faults += [(place, "is a jinja template; give the value itself") for place in templates]
    for place, message in faults:
        where = ".".join(str(step) for step in place)
        raise NotHydrated(f"Error hydrating flow run parameters: {where}: {message}")
    return filled


def examined(values: Mapping[str, Any], variables: Variables) -> tuple[dict[str, Any], list[Fault], list[Place]]:
    """Values with what they stand for, what is wrong with some, and the places of templates; those have no value."""
    faults: list[Fault] = []
    templates: list[Place] = []

    def each(value: Any, place: Place) -> Any:
        if isinstance(value, list):
            filled = [each(one, (*place, index)) for index, one in enumerate(value)]
            return [None if one is _NOTHING else one for one in filled]  # the others keep their places
        if not isinstance(value, dict):
            return value
        if KIND in value:
            try:
                value = _meaning(value, variables)
            except _Wrong as wrong:
                faults.append((place, str(wrong)))
                return _NOTHING
            except _Template:
                templates.append(place)
                return _NOTHING
            return value if not isinstance(value, dict | list) else each(value, place)
        named = {name: each(one, (*place, name)) for name, one in value.items()}
        return {name: one for name, one in named.items() if one is not _NOTHING}

    filled = {name: each(value, (name,)) for name, value in values.items()}
    return {name: value for name, value in filled.items() if value is not _NOTHING}, faults, templates


def _meaning(value: Mapping[str, Any], variables: Variables) -> Any:
    match value[KIND]:
        case None | "none":
            return value.get("value")
        case "json":
            return _parsed(value["value"]) if "value" in value else _NOTHING
        case "workspace_variable":
            return _looked_up(value["variable_name"], variables) if "variable_name" in value else _NOTHING
        case "jinja":
            if not isinstance(value.get("template"), str):
                raise _Wrong("Missing 'template' key in __prefect object")
            if fault := fault_of_template(value["template"]):
                raise _Wrong(f"Invalid jinja: {fault}")
            raise _Template
    raise _Wrong(f"{str(value[KIND])[:40]!r} is not known as a {KIND}; use json, jinja, workspace_variable or none")


def _parsed(text: Any) -> Any:
    try:
        return msgspec.json.decode(text if isinstance(text, str) else "")
    except msgspec.DecodeError as error:
        raise _Wrong(f"Invalid JSON: {error}") from None


def _looked_up(name: Any, variables: Variables) -> Any:
    try:
        return variables(str(name))
    except LookupError:
        raise _Wrong(f"Variable {str(name)[:255]!r} not found in workspace.") from None
