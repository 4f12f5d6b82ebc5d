"""What can be said about a function from outside: its parameters, their schema, how to call it by them."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field, to_builtins

_SECTION = re.compile(r"^(args|arguments|parameters|params):\s*$", re.IGNORECASE)
_ENTRY = re.compile(r"^(\*{0,2}\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_SPHINX = re.compile(r"^:param\s+(?:[^:]*\s)?(\w+)\s*:\s*(.*)$")


class ParameterSchema(Struct, kw_only=True):
    """The parameters of a flow as a JSON schema, as deployments carry it."""

    title: str = "Parameters"
    type: str = "object"
    properties: dict[str, Any] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)
    definitions: dict[str, Any] = field(default_factory=dict)

    def model_dump_for_openapi(self) -> dict[str, Any]:
        """The schema as plain data, without empty lists of required parameters and definitions."""
        data: dict[str, Any] = to_builtins(self)
        return {key: value for key, value in data.items() if value or key not in ("required", "definitions")}


def parameter_docstrings(docstring: str | None) -> dict[str, str]:
    """What a docstring says about each parameter.

    Args:
        docstring: in Google's style (a section `Args:`) or Sphinx's (`:param x: ...`).
    """
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    depth: int | None = None
    for line in inspect.cleandoc(docstring or "").splitlines():
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if sphinx := _SPHINX.match(text):
            current = found.setdefault(sphinx[1], [sphinx[2]])
            depth = None
        elif _SECTION.match(text) and indent == 0:
            current, depth = None, -1
        elif depth is None or not text:
            continue
        elif indent == 0:
            current, depth = None, None
        elif depth in (-1, indent) and (entry := _ENTRY.match(text)):
            depth = indent
            current = found.setdefault(entry[1].lstrip("*"), [entry[2]])
        elif current is not None:
            current.append(text)
    return {name: "\n".join(part for part in parts if part) for name, parts in found.items()}


def parameter_schema(fn: Callable[..., Any]) -> ParameterSchema:
    """The JSON schema of a function's parameters, from its signature, annotations, defaults and docstring.

    Args:
        fn: a function; of a flow, its `fn`.
    """
    function = inspect.unwrap(fn)
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError:  # an annotation in quotes that names nothing
        signature = inspect.signature(function)
    return generate_parameter_schema(signature, parameter_docstrings(inspect.getdoc(function)))


def generate_parameter_schema(signature: inspect.Signature, docstrings: Mapping[str, str]) -> ParameterSchema:
    """The JSON schema of a signature.

    Args:
        signature: the signature, annotations resolved.
        docstrings: a description of each parameter that has one.
    """
    from pydantic import ConfigDict, create_model  # only who deploys pays its import

    schema = ParameterSchema()
    for position, parameter in enumerate(signature.parameters.values()):
        known = parameter.annotation is not parameter.empty and not isinstance(parameter.annotation, str)
        annotation = parameter.annotation if known else Any
        default = ... if parameter.default is parameter.empty else parameter.default
        model = create_model(
            "Parameters", __config__=ConfigDict(arbitrary_types_allowed=True), parameter=(annotation, default)
        )
        entry, definitions = _schema_of(model)
        entry = {"title": parameter.name, "position": position, **entry} | {"title": parameter.name}
        if description := docstrings.get(parameter.name):
            entry["description"] = description
        schema.properties[parameter.name] = entry
        schema.definitions.update(definitions)
        if default is ...:
            schema.required.append(parameter.name)
    return schema


def _schema_of(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of the model's one field and the definitions it refers to; of a type without one, an open schema."""
    from pydantic.errors import PydanticInvalidForJsonSchema

    try:
        found = model.model_json_schema(ref_template="#/definitions/{model}")
    except PydanticInvalidForJsonSchema:
        return {}, {}
    return found["properties"]["parameter"], found.get("$defs", {})


def get_parameter_defaults(fn: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a function's parameters, of those that have one.

    Args:
        fn: the function.
    """
    parameters = inspect.signature(fn).parameters.items()
    return {name: p.default for name, p in parameters if p.default is not p.empty}


def parameters_to_args_kwargs(
    fn: Callable[..., Any], parameters: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and named arguments that call a function with these parameters.

    Args:
        fn: the function.
        parameters: values by parameter name; `*args` and `**kwargs` whole, under their own names.
    """
    signature = inspect.signature(fn)
    known = {name: parameters[name] for name in signature.parameters if name in parameters}
    bound = inspect.BoundArguments(signature, known)
    return bound.args, bound.kwargs


def call_with_parameters(fn: Callable[..., Any], parameters: Mapping[str, Any]) -> Any:
    """Call a function with parameters by name.

    Args:
        fn: the function.
        parameters: values by parameter name.
    """
    args, kwargs = parameters_to_args_kwargs(fn, parameters)
    return fn(*args, **kwargs)
