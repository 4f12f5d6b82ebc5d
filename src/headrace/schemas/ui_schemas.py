"""Checking what a form holds against the JSON schema it was made from."""

from typing import Any

from msgspec import Struct

from headrace.schemas.endpoint import Endpoint


class ValidateObj(Struct, kw_only=True):
    """The schema of a form, and the values in it."""

    schema: dict[str, Any]
    values: dict[str, Any]


class SchemaValueError(Struct, kw_only=True, omit_defaults=True):
    """What is wrong at a place: a `property` of an object, or an item of an array by its `index`."""

    property: str | None = None
    index: int | None = None
    errors: "list[str | SchemaValueError]"


class SchemaValuesValidationResponse(Struct, kw_only=True):
    """Whether the values fit, and the faults: texts about the whole, and what is wrong at places."""

    errors: list[str | SchemaValueError]
    valid: bool


VALIDATE_OBJ = Endpoint("POST", "/ui/schemas/validate", body=ValidateObj, returns=SchemaValuesValidationResponse)
