"""The JSON schema of a flow's parameters, as the API and the pages read it."""

import inspect
from collections.abc import Callable
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, create_model
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from headrace.engine.parameters import hints_of


def parameter_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """The schema of a function's parameters, in their order; a type pydantic cannot describe allows anything.

    Args:
        function: the flow's function.

    Returns:
        An object schema with `properties`, `required` and `definitions`.
    """
    fields: dict[str, Any] = {}
    hints = hints_of(function)
    for position, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        extra: dict[str, Any] = {"position": position}
        info = Field(default, alias=parameter.name, title=parameter.name, json_schema_extra=extra)
        fields[f"parameter_{position}"] = (_describable(hints.get(parameter.name, Any)), info)
    model = create_model("Parameters", __config__=ConfigDict(arbitrary_types_allowed=True), **fields)
    schema: dict[str, Any] = model.model_json_schema(ref_template="#/definitions/{model}", schema_generator=_Lenient)
    schema["definitions"] = schema.pop("$defs", {})
    schema.setdefault("properties", {})
    schema.setdefault("required", [])
    return schema


class _Lenient(GenerateJsonSchema):
    """Leaves out defaults that are no JSON, instead of warning about them."""

    ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}


def _describable(hint: Any) -> Any:
    try:
        TypeAdapter(hint).json_schema()
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError, TypeError):
        return Any
    return hint
